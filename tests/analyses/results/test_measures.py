"""The registry of measures: each name is declared once, and found where it is declared."""

import importlib
import itertools
from fnmatch import fnmatchcase

import pytest

from layerlake.analyses.results.measures import (
    HOMES,
    Measure,
    family_of,
    in_order,
    known_measure,
    number_text,
    title_of,
)

DECLARED = {
    module: importlib.import_module(f"layerlake.analyses.results.{module}") for module in HOMES
}
NAMES = {
    module: [*home.MEASURES, *(f"{family}-0.5" for family in home.FAMILIES)]
    for module, home in DECLARED.items()
}


def test_no_two_analyses_declare_one_name() -> None:
    for (one, names), (other, others) in itertools.combinations(NAMES.items(), 2):
        assert not set(names) & set(others), (one, other)


@pytest.mark.parametrize("module", HOMES)
def test_every_name_leads_to_the_module_that_declares_it(module: str) -> None:
    for name in NAMES[module]:
        homes = [
            home
            for home, patterns in HOMES.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        assert homes == [module], name
        known = known_measure(name)
        assert known is not None
        assert known.name == name
    for name, measure in DECLARED[module].MEASURES.items():
        assert measure.name == name
        assert known_measure(name) is measure
        assert measure.beside in ("", *DECLARED[module].MEASURES)
    for pattern in HOMES[module]:
        assert any(fnmatchcase(name, pattern) for name in NAMES[module]), pattern


def test_measures_of_a_class_come_first() -> None:
    own = {
        "cka": Measure("cka", "another", "quantity", written=".1%"),
        "loss_difference": Measure("loss_difference", "gap", "quantity", beside="loss"),
    }
    assert title_of("cka") == "linear CKA"
    assert title_of("cka", own) == "another"
    assert number_text("cka", 0.125, own) == "12.5%"
    assert family_of("loss_difference", own) == "loss"
    assert in_order(["loss_difference", "cka", "loss"], own) == ["loss", "loss_difference", "cka"]
    assert known_measure("cka_difference", own) is None


def test_families_hold_for_names_of_which_nothing_is_known() -> None:
    assert family_of("warmth_between") == "warmth"
    assert family_of("r_between_difference") == "r_all_difference"
    assert family_of("ceiling_upper") == "ceiling_lower"
    assert known_measure("anisotropy_between") is known_measure("anisotropy_difference") is None
