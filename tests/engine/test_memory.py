"""Amounts of memory, and the refusal of what exceeds them."""

import pytest

from layerlake.engine.memory import MemoryPlan, format_bytes, parse_bytes, require
from layerlake.store.errors import InvalidInput, MemoryRefused


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4GiB", 4 * 2**30),
        ("500MB", 500_000_000),
        (" 1.5 kib ", 1536),
        ("2g", 2 * 10**9),
        ("17", 17),
        (".5TiB", 2**39),
        (4096, 4096),
    ],
)
def test_amounts_are_parsed(text: int | str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GiB", "4 gigs", "-3GB", "1e9", "4GiB please", "٤GiB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="4GiB"):
        parse_bytes(text)


@pytest.mark.parametrize("amount", [0, -5, "0GB"])
def test_no_memory_at_all_is_refused(amount: int | str) -> None:
    with pytest.raises(InvalidInput, match="at least one byte"):
        parse_bytes(amount)


def test_the_refusal_gives_both_amounts_and_the_advice() -> None:
    require(10, 10, "the pass", "nothing")
    with pytest.raises(MemoryRefused) as refusal:
        require(3 * 2**20, 2**20, "the pass", "read fewer rows at a time")
    assert str(refusal.value) == (
        "the pass needs 3.0 MiB (3145728 bytes) of memory and 1.0 MiB (1048576 bytes) are allowed; "
        "read fewer rows at a time"
    )


def test_a_plan_gives_up_its_reserve_before_it_refuses() -> None:
    plan = MemoryPlan({"sums": 60, "blocks": 40}, reserve=500)
    assert (plan.needed, plan.peak) == (100, 600)
    assert plan.within(10_000, "the pass", "ask for less").peak == 600
    assert plan.within(150, "the pass", "ask for less").reserve == 50
    assert plan.within(100, "the pass", "ask for less").reserve == 0
    with pytest.raises(MemoryRefused, match="ask for less"):
        plan.within(99, "the pass", "ask for less")


def test_amounts_are_written_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 1536 * 2**10, 3 * 2**40, 5000 * 2**40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 MiB", "3.0 TiB", "5000.0 TiB"
    ]  # fmt: skip
