"""Several runs of fine-tuning in a TOML file: `[defaults]`, and a table `[[run]]` for each.

```
[defaults]
model = "bert-base-uncased"
seed = "0-2"                            # a run for each
out = "runs/{name}-s{seed}"             # {name}, {task} and {seed}

[[run]]
task = "mnli"
train = "multinli_1.0_train.jsonl"
dev = ["matched=dev_matched.jsonl", "mismatched=dev_mismatched.jsonl"]

[[run]]
name = "squad-frozen"                   # of its folder; by default the task
task = "squad"
train = "train-v1.1.json"
dev = "dev-v1.1.json"
freeze = 8
```

Keys are the options of `layerlake finetune` without their dashes, `head-lr` or `head_lr`.
"""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerlake.analyses.finetuning.data import named_sources
from layerlake.store.errors import InvalidInput

_NOT_KEYS = ("progress", "recipe")


def read_runs(file: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the runs of a file, each with the pattern that its folder was made from.

    Raises
    ------
    InvalidInput
        The file cannot be read, or holds what no run has (it is named).
    """
    document = _parsed(file)
    odd = sorted(document.keys() - {"defaults", "run"})
    if odd:
        raise InvalidInput(f"{file} has {odd[0]!r}; it may hold [defaults] and [[run]]")
    defaults, tables = document.get("defaults", {}), document.get("run", [])
    if not isinstance(defaults, dict):
        raise InvalidInput(f"{file}: defaults is no table; write [defaults]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidInput(f"{file}: run is no list of tables; write [[run]]")
    if not tables:
        raise InvalidInput(f"{file} has no runs; write a table [[run]] for each")
    shared = _arguments(defaults, f"{file}, [defaults]")
    runs: list[tuple[str, dict[str, Any]]] = []
    for number, table in enumerate(tables, start=1):
        what = f"{file}, run {number}"
        runs += _by_seed(shared | _arguments(table, what), what)
    return runs


def _by_seed(arguments: dict[str, Any], what: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a run for every seed, with the pattern of its folder."""
    from layerlake.analyses.runs.grid import by_seed

    for needed in ("task", "model", "train", "out"):
        if needed not in arguments:
            raise InvalidInput(f"{what} has no {needed}; name it there, or under [defaults]")
    name = str(arguments.pop("name", arguments["task"]))
    pattern = str(arguments["out"]).replace("{name}", name)
    try:
        return [(pattern, run) for run in by_seed(arguments, name)]
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from error


def _parsed(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}); check the name") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} is no TOML: {error}; mend it") from error


def _arguments(table: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a table as arguments of `finetune`; refuse keys that it lacks, and odd values."""
    kinds = _kinds()
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in kinds:
            raise InvalidInput(
                f"{what}: {key!r} is no option of a run; `layerlake finetune --help` lists them"
            )
        if name in found:
            raise InvalidInput(f"{what}: {key!r} is there twice, with - and with _; drop one")
        if not isinstance(value, kinds[name]) or (
            isinstance(value, bool) and bool not in kinds[name]
        ):
            expected = " or ".join(_TOML[kind] for kind in kinds[name])
            raise InvalidInput(f"{what}: {key} is {value!r}; give {expected}")
        found[name] = value
    if "train" in found:
        found["train"] = _texts(found["train"], "train", what)
    if "dev" in found and not isinstance(found["dev"], dict):
        found["dev"] = named_sources(_texts(found["dev"], "dev", what))
    elif "dev" in found:
        found["dev"] = {name: _texts(file, "dev", what)[0] for name, file in found["dev"].items()}
    return found


def _texts(value: Any, key: str, what: str) -> list[str]:
    """Return names of files, of which there may be one."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) for one in listed):
        raise InvalidInput(f"{what}: {key} is {value!r}; give names of files")
    return listed


_TOML = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_TOML |= {list: "a list", dict: "a table"}


def _kinds() -> dict[str, tuple[type, ...]]:
    """Return the kinds of values that every option of a run may have, by its name."""
    from layerlake.analyses.finetuning.finetune import finetune
    from layerlake.analyses.finetuning.tasks.registry import TASKS

    kinds: dict[str, tuple[type, ...]] = {"name": (str,)}
    for name, parameter in inspect.signature(finetune).parameters.items():
        if name not in _NOT_KEYS:
            kinds[name] = _of_annotation(str(parameter.annotation))
    kinds |= {"train": (str, list), "dev": (str, list, dict), "seed": (int, str, list)}
    for task in TASKS.values():
        for field in dataclasses.fields(task.recipe_class):
            kinds[field.name] = _of_annotation(str(field.type))
    return kinds


def _of_annotation(text: str) -> tuple[type, ...]:
    """Return the kinds that an annotation allows; a whole number is a number too."""
    named = {"str": str, "int": int, "float": float, "bool": bool}
    kinds = [named[word] for word in (part.strip() for part in text.split("|")) if word in named]
    if float in kinds:
        kinds.append(int)
    return tuple(kinds)
