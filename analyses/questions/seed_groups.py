"""Which variants differ in nothing but their seed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from layerlake.store.lineage import parent_of

_SEEDED_NAME: Final = re.compile(r"(?P<stem>.+[-_])s\d+")


def seed_groups(
    about: Mapping[str, Mapping[str, Any]], variants: Iterable[str]
) -> dict[str, list[str]]:
    """Group variants that differ in nothing but their seed, two or more to a group.

    Lineage says so: random weights of one source, or one training recipe and data. Variants of
    which the lake knows neither are grouped by names of the form `mnli-s0`, `mnli-s1`.

    Returns
    -------
    dict
        The variants of each group in order, by a name that has `*` in the place of the seed.
    """
    groups: dict[str, list[str]] = {}
    taken = set()
    for variant in variants:
        own = about.get(variant, {})
        key = _but_for_seed(own, variant)
        # Two copies of one seed are no two seeds; the first counts.
        if key is not None and (key, _seed_of(own, variant)) not in taken:
            taken.add((key, _seed_of(own, variant)))
            groups.setdefault(key, []).append(variant)
    titled: dict[str, list[str]] = {}
    for names in groups.values():
        if len(names) > 1:
            title = _title(names)
            # Runs of two recipes may have names of one form.
            titled[_counted(names) if title in titled else title] = names
    return titled


def _but_for_seed(about: Mapping[str, Any], name: str) -> str | None:
    """Return what the variants of one group have in common; None where nothing tells."""
    training = about.get("training")
    if isinstance(training, Mapping) and "seed" in training:
        rest = {key: value for key, value in training.items() if key != "seed"}
        rest = {k: v for k, v in rest.items() if k not in ("scores", "versions", "finished")}
        parent = parent_of(about)
        built = [about.get(key) for key in ("truncate", "architecture")]
        return json.dumps([parent.get("weights_digest"), built, rest], sort_keys=True, default=str)
    if about.get("randomize") is not None:
        return json.dumps(
            [about.get("source"), about.get("revision"), about.get("truncate"), "random"]
        )
    named = _SEEDED_NAME.fullmatch(name)
    return f"name {named['stem']}" if named else None


def _seed_of(about: Mapping[str, Any], name: str) -> Any:
    """Return the seed of a variant as lineage tells it, else its name."""
    training = about.get("training")
    if isinstance(training, Mapping) and "seed" in training:
        return str(training["seed"])
    return name if about.get("randomize") is None else str(about["randomize"])


def _title(names: list[str]) -> str:
    """Return one name for a group: that of its first variant with `*` for the seed."""
    named = _SEEDED_NAME.fullmatch(names[0])
    return f"{named['stem']}s*" if named else _counted(names)


def _counted(names: list[str]) -> str:
    """Return a name for a group that says how many it has."""
    return f"{names[0]} and {len(names) - 1} more"
