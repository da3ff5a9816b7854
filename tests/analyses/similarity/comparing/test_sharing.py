"""Pairs of spaces, and their sharing out among passes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlake.analyses.similarity.comparing.pairs import aligned_pairs, all_pairs, pairs_with_one
from layerlake.analyses.similarity.comparing.sharing import Share, share_out
from layerlake.store.errors import InvalidInput

HELD = {"base": [0, 1, 2], "cut": [0, 1], "other": [1, 2]}


def test_aligned_pairs_share_a_layer():
    assert aligned_pairs({"cut": "base", "other": "cut"}, HELD, [0, 1, 2]) == [
        (("base", 0), ("cut", 0)),
        (("base", 1), ("cut", 1)),
        (("cut", 1), ("other", 1)),
    ]


def test_one_space_with_every_other():
    pairs = pairs_with_one(("cut", 1), ["base", "cut"], HELD, [0, 1])
    assert pairs == [(("cut", 1), other) for other in (("base", 0), ("base", 1), ("cut", 0))]
    with pytest.raises(InvalidInput, match="cut has no layer 2 in the lake; it has 0, 1"):
        pairs_with_one(("cut", 2), ["base"], HELD, [0])


def test_all_pairs_are_each_there_once():
    pairs = all_pairs(list(HELD), HELD, [0, 1, 2])
    assert len(pairs) == 7 * 6 / 2 == len({frozenset(pair) for pair in pairs})


def test_what_shares_no_space_goes_apart():
    pairs = aligned_pairs({"cut": "base", "other": "base"}, HELD, [0, 1, 2])
    shares = share_out(pairs, lambda share: True)
    assert [share.keys for share in shares] == [
        (("base", 0), ("cut", 0)),
        (("base", 1), ("cut", 1), ("other", 1)),
        (("base", 2), ("other", 2)),
    ]
    assert shares[1].pairs == ((0, 1), (0, 2))


@given(n=st.integers(2, 12), most=st.integers(2, 12), drop=st.integers(0, 10))
def test_shares_fit_and_hold_every_pair_once(n: int, most: int, drop: int) -> None:
    held = {"v": list(range(n))}
    pairs = all_pairs(["v"], held, range(n))
    pairs = pairs[drop:] or pairs
    shares = share_out(pairs, lambda share: len(share.keys) <= most)
    found = [(share.keys[one], share.keys[other]) for share in shares for one, other in share.pairs]
    assert sorted(found) == sorted(pairs)
    assert all(len(share.keys) <= most for share in shares)


def test_few_blocks_are_tried_first():
    pairs = all_pairs(["v"], {"v": range(8)}, range(8))
    assert len(share_out(pairs, lambda share: len(share.keys) <= 8)) == 1
    shares = share_out(pairs, lambda share: len(share.keys) <= 6)
    # Three blocks of about 2.7 spaces: each pass holds two of them.
    assert len(shares) == 3
    assert {len(share.keys) for share in shares} <= {5, 6}


def test_one_pair_is_taken_as_it_is():
    pairs = all_pairs(["v"], {"v": range(3)}, range(3))
    shares = share_out(pairs, lambda share: False)
    assert [len(share.pairs) for share in shares] == [1, 1, 1]
    assert all(isinstance(share, Share) for share in shares)
    assert len(list(itertools.chain.from_iterable(share.pairs for share in shares))) == 3
