"""Help texts: options in groups, and a task's own."""

import pytest
from click.testing import CliRunner

from layerlake.analyses.finetuning.tasks.registry import TASKS
from layerlake.cli.extract import extract
from layerlake.cli.finetune import finetune
from layerlake.cli.grouped import Grouped
from layerlake.cli.main import commands
from layerlake.cli.profile import profile
from layerlake.cli.recipe_options import RECIPE
from layerlake.cli.similarity import compare, rsa


def help_of(*line: str) -> str:
    """Return what a line that asks for help prints."""
    done = CliRunner().invoke(commands, [*line, "--help"])
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("command", [extract, finetune, rsa, compare, profile])
def test_each_option_is_in_one_group(command: Grouped) -> None:
    grouped = [name for names in command.groups.values() for name in names]
    assert len(grouped) == len(set(grouped))
    options = {
        parameter.name for parameter in command.params if parameter.param_type_name == "option"
    }
    assert options <= set(grouped)


def test_groups_stand_in_the_order_of_use() -> None:
    said = help_of("extract")
    titles = ["What to extract:", "Which rows:", "How inputs are made:", "Where:", "Output:"]
    places = [said.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)
    assert said.count("--lake PATH") == 1


@pytest.mark.parametrize("task", list(TASKS))
def test_the_help_of_a_task_is_its_own(task: str) -> None:
    said = help_of("finetune", task)
    own = set(TASKS[task].recipe_class.__dataclass_fields__)
    for name in RECIPE:
        shown = f"--{name.replace('_', '-')} " in said
        assert shown == (name in own), name
    assert f"layerlake finetune {task} MODEL" in said
    for other in set(TASKS) - {task}:
        assert f"finetune {other} " not in said
        assert f"{other}:" not in said
    assert "--train FILE" in said


def test_the_help_without_a_task_says_which_tasks_have_an_option() -> None:
    said = " ".join(help_of("finetune").split())
    assert "Number of passes over the training data. [default: 3; dep: 20]" in said
    assert "Width of the layers that score arcs (dep). [default: 500]" in said
    assert "`layerlake finetune TASK --help` shows the options of one task." in said
