"""Proto-roles (Dowty 1991; Reisinger et al. 2015): what an event does to, or asks of, who is in it.

Each property follows from the verb's entry in the lexicon and from whether the argument lives.
"""

from __future__ import annotations

from layerlake.synthetic.english.meaning import Event, Referent

PROPERTIES = (
    "awareness",
    "change_of_location",
    "change_of_possession",
    "change_of_state",
    "created",
    "destroyed",
    "existed_after",
    "existed_before",
    "instigation",
    "makes_physical_contact",
    "sentient",
    "volition",
    "was_used",
)
"""All properties, sorted."""

_MENTAL = {"perceives", "believes", "wishes", "stirs", "states", "asks", "helps", "tries", "acts"}


def proto_roles(event: Event, slot: str) -> dict[str, bool]:
    """Return what holds of the argument in a slot; nothing for a slot that is no argument.

    Parameters
    ----------
    event
        What happens.
    slot
        "agent", "patient", "third" or "instrument".
    """
    if slot not in ("agent", "patient", "third", "instrument"):
        return {}
    referent: Referent | None = getattr(event, slot)
    if referent is None:
        return {}
    effects = event.verb.effects
    sentient = referent.kind in ("person", "animal", "company", "group")
    is_agent = slot == "agent"
    is_patient = slot == "patient"
    # Only a subject that undergoes the event (it falls, it arrives) is changed by it.
    undergoes = is_patient or (is_agent and event.verb.subject_role == "ARG1")
    planned = "unplanned" not in effects and "stative" not in effects
    goes = "goes" in effects or (is_patient and "moves" in effects)
    given = {"possesses", "loses"} & effects
    met = "touches" in effects and slot != "third"
    created = is_patient and bool({"creates", "brings", "pictures"} & effects)
    destroyed = undergoes and "destroys" in effects
    holds = {
        "awareness": sentient and (is_agent or bool(_MENTAL & effects) or slot == "third"),
        "change_of_location": (is_agent and "goes" in effects) or (is_patient and goes),
        "change_of_possession": is_patient and bool(given),
        "change_of_state": undergoes and bool({"changes", "destroys", "stirs"} & effects),
        "created": created and "pictures" not in effects,
        "destroyed": destroyed,
        "existed_after": not destroyed,
        "existed_before": not created or "pictures" in effects,
        "instigation": is_agent and "stative" not in effects and not undergoes,
        "makes_physical_contact": met,
        "sentient": sentient,
        "volition": is_agent and sentient and planned,
        "was_used": slot == "instrument" or (is_patient and event.verb.lemma == "use"),
    }
    return {name: holds[name] for name in PROPERTIES}
