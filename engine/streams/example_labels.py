"""Labels of rows or examples: annotations of the corpus, or arrays given by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerlake.store.errors import InvalidInput
from layerlake.store.space import Space
from layerlake.store.views.row_labels import coded_labels, named_values, row_values


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of all rows of a space, or of all examples of its corpus."""

    values: NDArray[Any]
    """(row, ...) or (example, ...)."""
    axis: Literal["row", "example"]
    """What the first axis is."""
    classes: list[str] | None = None
    """What 0, 1, ... stand for, where labels were strings."""


def read_labels(space: Space, labels: Mapping[str, Any], n_examples: int) -> dict[str, Labels]:
    """Return labels by name; see `ExampleStream`.

    Raises
    ------
    InvalidInput
        An array has another length, or labels are neither numbers nor strings.
    NameNotFound
        The corpus has no such annotation or column.
    """
    return {
        name: _named(space, given)
        if isinstance(given, str)
        else _given(space, name, given, n_examples)
        for name, given in labels.items()
    }


def _named(space: Space, name: str) -> Labels:
    places = space.row_places()
    about, values = named_values(space, name, places)
    if about == "example":
        coded, classes = coded_labels(values, np.ones(len(values), np.bool_))
        return Labels(coded, "example", classes)
    coded, classes = coded_labels(*row_values(space, name, places))
    return Labels(coded, "row", classes)


def _given(space: Space, name: str, given: Any, n_examples: int) -> Labels:
    values = np.asarray(given)
    n_rows = space.shape[0]
    if not values.ndim or len(values) not in (n_rows, n_examples):
        raise InvalidInput(
            f"labels {name!r} have shape {values.shape}; give one for each of the {n_rows} rows of "
            f"{space.path}, one for each of the {n_examples} examples of the corpus, or the name "
            "of an annotation or a column"
        )
    axis: Literal["row", "example"] = "row" if len(values) == n_rows else "example"
    if values.dtype.kind in "biuf":
        return Labels(values, axis)
    if values.ndim > 1:
        raise InvalidInput(
            f"labels {name!r} of dtype {values.dtype} have {values.ndim} axes; give "
            "one string each, or numbers"
        )
    coded, classes = coded_labels(values, np.ones(len(values), np.bool_))
    return Labels(coded, axis, classes)
