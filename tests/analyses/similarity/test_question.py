"""What can be asked for, and what cannot."""

import dataclasses

import pytest

from layerlake.analyses.similarity.question import Question, check_question, measures_of
from layerlake.store.errors import InvalidInput


def test_names_are_split_and_each_kept_once():
    assert measures_of("rsa, cka,rsa") == ("rsa", "cka")
    assert measures_of(["cka,svcca", "netrep-0.5"]) == ("cka", "svcca", "netrep-0.5")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("cca,ccka", "no measure 'ccka'"),
        ("", "no measure is named"),
        ([], "no measure is named"),
        ([3], "measure 3 is no name"),
        ("netrep-1.5", "netrep-0.5, with a number from 0 to 1"),
        ("netrep-ALPHA", "netrep-0.5"),
    ],
)
def test_unknown_names_are_refused(asked, said):
    with pytest.raises(InvalidInput, match=said):
        measures_of(asked)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kernel": "cosin"}, "no kernel 'cosin'"),
        ({"score": "kendal"}, "no score 'kendal'"),
        ({"interval": 3}, "no interval 3"),
        ({"method": "fast"}, "no method 'fast'"),
        ({"precision": "float16"}, "no precision 'float16'"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"bandwidth": 0}, "bandwidth is 0"),
        ({"bandwidth": float("inf")}, "bandwidth is inf"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"resamples": 3}, "resamples is 3"),
        ({"permutations": -1}, "permutations is -1"),
        ({"permutations": True}, "permutations is True"),
        ({"score": "whitened-cosine"}, "give --kernel sqeuclidean"),
        ({"measures": ("cka",), "kernel": "rbf"}, "rbf is one of rsa, .* rbf-cka is CKA under"),
        ({"measures": ("cka",), "score": "kendall"}, "score kendall is one of rsa"),
        ({"bandwidth": 2.0}, "a bandwidth of 2 is given, and nothing"),
        ({"method": "features", "kernel": "rbf"}, "the rbf kernel cannot be had from features"),
        ({"method": "features", "score": "kendall"}, "the score kendall cannot"),
        ({"method": "features", "measures": ("mutual-knn",)}, "mutual-knn cannot be had from"),
        ({"method": "features", "interval": "bootstrap"}, "the interval bootstrap cannot"),
        ({"method": "tiles", "measures": ("cka", "rsa")}, "cka cannot be had from tiles"),
        ({"score": "spearman", "interval": "bootstrap"}, "scores pearson and cosine"),
        ({"measures": ("rsa", "cka"), "interval": "bootstrap"}, "for rsa alone"),
        ({"measures": ("cka",), "permutations": 10}, "permutations test rsa"),
        ({"score": "cosine", "permutations": 10}, "permutations test rsa"),
    ],
)
def test_what_does_not_fit_is_refused(changes, said):
    with pytest.raises(InvalidInput, match=said):
        check_question(dataclasses.replace(Question(), **changes))


def test_what_fits_is_taken():
    for changes in (
        {},
        {"kernel": "euclidean", "method": "tiles", "score": "spearman"},
        {"kernel": "sqeuclidean", "score": "whitened-correlation"},
        {"measures": ("cka", "mutual-knn", "netrep-0.25")},
    ):
        asked = dataclasses.replace(Question(), **changes)
        assert check_question(asked) == asked
    assert Question(("rsa", "cka"), "sqeuclidean", "whitened-cosine").forms == (
        "cka",
        "whitened-cosine",
    )
