"""The tasks there are, by the names that people type."""

from __future__ import annotations

from typing import Final

from layerlake.analyses.finetuning.tasks.answers import QuestionAnswering
from layerlake.analyses.finetuning.tasks.parsing import Parsing
from layerlake.analyses.finetuning.tasks.sentence import (
    Classification,
    Entailment,
    NaturalLanguageInference,
)
from layerlake.analyses.finetuning.tasks.task import Task
from layerlake.analyses.finetuning.tasks.words import Tagging
from layerlake.store.errors import InvalidInput

TASKS: Final[dict[str, Task]] = {
    task.name: task
    for task in (
        Entailment(),
        NaturalLanguageInference(),
        QuestionAnswering(),
        Parsing(),
        Classification(),
        Tagging(),
    )
}


def task_named(name: str) -> Task:
    """Return a task by its name; raise `InvalidInput` where there is none."""
    if name not in TASKS:
        raise InvalidInput(f"there is no task {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]
