"""Measures of similarity that are closed forms of centred sums over rows.

`SpaceSums` of each space and `CrossSums` of each pair, which one pass over the rows gives, are all
that they need: no measure here forms a rows x rows matrix, or reads a row again.
"""

from layerlake.analyses.similarity.closed_forms.decomposition import Decomposition
from layerlake.analyses.similarity.closed_forms.jackknife import (
    GROUPS,
    FormValue,
    LeftOut,
    even_groups,
    group_jackknife,
    jackknifed,
    leave_out,
)
from layerlake.analyses.similarity.closed_forms.pair import Measured, SpacePair
from layerlake.analyses.similarity.closed_forms.registry import (
    FORMS,
    ClosedForm,
    form_named,
    forms_cost,
    forms_memory,
    measure,
)

__all__ = [
    "FORMS",
    "GROUPS",
    "ClosedForm",
    "Decomposition",
    "FormValue",
    "LeftOut",
    "Measured",
    "SpacePair",
    "even_groups",
    "form_named",
    "forms_cost",
    "forms_memory",
    "group_jackknife",
    "jackknifed",
    "leave_out",
    "measure",
]
