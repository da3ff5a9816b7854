"""Draws that are the same on every platform."""

from __future__ import annotations

from collections import Counter

from layerlake.synthetic.english.draws import Draws


def test_the_stream_of_a_key_never_changes() -> None:
    draws = Draws("a key", 7)
    numbers = [draws.below(1000) for _ in range(6)]
    assert numbers == [201, 291, 921, 797, 146, 860]
    other = Draws("a key", 8)
    assert [other.below(1000) for _ in range(6)] != numbers


def test_keys_of_the_same_letters_differ() -> None:
    assert Draws("a", 12).below(10**9) != Draws("a", 1, 2).below(10**9)


def test_draws_follow_their_weights() -> None:
    draws = Draws("weights")
    options = (("a", 1.0), ("b", 3.0), ("c", 0.0))
    counts = Counter(draws.weighted(options) for _ in range(4000))
    assert set(counts) == {"a", "b"}
    assert abs(counts["b"] / 4000 - 0.75) < 0.03
    assert abs(sum(draws.chance(0.2) for _ in range(4000)) / 4000 - 0.2) < 0.03


def test_every_order_is_as_likely() -> None:
    draws = Draws("orders")
    counts = Counter(tuple(draws.shuffled("abc")) for _ in range(3000))
    assert len(counts) == 6
    assert max(counts.values()) < 1.25 * min(counts.values())
