"""Completion in shells: the names that a lake holds, and the script that asks for them.

A shell waits for this while someone types. So names come from the folders of the lake alone,
without anything that opens a lake, and whatever goes wrong means that there is nothing to offer.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

COMPLETION_VARIABLE = "_LAYERLAKE_COMPLETE"
"""By which a shell asks for completions; click makes this name of the command's."""
MOST_NAMES = 2000

_DEPTHS = {"corpora": 2, "variants": 2, "activations": 4, "results": 3}
"""How many names deep lies what a person names, in each section of a lake."""

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" answer item type value
    local current="${line##*[[:space:]]}"
    [[ $current == -*=* ]] && current="${current#*=}"
    # What bash replaces is $2, the end of a word that it took apart.
    local before="${current%%"$2"}"
    answer=$(env COMP_WORDS="$line" %(complete_var)s=bash_complete "$1")
    for item in $answer; do
        IFS=',' read -r type value <<< "$item"
        case "$type" in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class BashWholeWords(BashComplete):
    """Bash takes words apart at @, = and :, which names may hold; here they stay whole."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words of the line but the command and the last, and the last."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        if not words or line[-1:].isspace():
            return words[1:], ""
        return words[1:-1], words[-1]


add_completion_class(BashWholeWords, "bash")


def print_script(context: click.Context, parameter: click.Parameter, shell: str | None) -> None:
    """Print the script that a shell reads, and end; nothing where no shell is named."""
    if shell is None or context.resilient_parsing:
        return
    found = get_completion_class(shell)
    assert found is not None, shell
    click.echo(found(context.command, {}, "layerlake", COMPLETION_VARIABLE).source())
    context.exit()


def _lake_folder(context: click.Context) -> Path | None:
    """Return the folder of the lake that the line names; None where it lies in no folder."""
    named = context.params.get("lake") or os.environ.get("LAYERLAKE") or "lake"
    scheme, separator, rest = str(named).partition("://")
    if separator and scheme != "file":
        return None
    return Path(rest if separator else scheme).expanduser()


def _children(folder: Path) -> list[str]:
    """Return the sorted names of the Zarr nodes in a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if Path(e.path, "zarr.json").is_file())
    except OSError:
        return []


def _section(context: click.Context, section: str, incomplete: str) -> list[CompletionItem]:
    lake = _lake_folder(context)
    names = [] if lake is None else _children(lake / section)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)][:MOST_NAMES]


def corpora(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the corpora of the lake."""
    return _section(context, "corpora", incomplete)


def variants(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the variants of the lake."""
    return _section(context, "variants", incomplete)


def references(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the variants of the lake, and `own`."""
    own = [CompletionItem("own")] if "own".startswith(incomplete) else []
    return [*variants(context, parameter, incomplete), *own]


def paths(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the paths of corpora, variants, sets and results, and of what lies between."""
    lake = _lake_folder(context)
    if lake is None:
        return []
    found = (
        path
        for section, depth in _DEPTHS.items()
        for path in _below(lake / section, section, depth - 1, incomplete)
    )
    return [CompletionItem(path) for path in itertools.islice(found, MOST_NAMES)]


def _below(folder: Path, path: str, depth: int, incomplete: str) -> Iterator[str]:
    for name in _children(folder):
        inner = f"{path}/{name}"
        if inner.startswith(incomplete):
            yield inner
        if depth > 1 and (inner.startswith(incomplete) or incomplete.startswith(f"{inner}/")):
            yield from _below(folder / name, inner, depth - 1, incomplete)


def files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer files."""
    return [CompletionItem(incomplete, type="file")]


def folders(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer folders."""
    return [CompletionItem(incomplete, type="dir")]


def corpora_or_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the corpora of the lake, and let the shell offer files."""
    return [*files(context, parameter, incomplete), *corpora(context, parameter, incomplete)]


def formats(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the formats of corpora."""
    from layerlake.engine.corpora.formats import FORMATS

    return [CompletionItem(name) for name in FORMATS if name.startswith(incomplete)]


def tasks(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the tasks that models are fine-tuned for."""
    from layerlake.analyses.finetuning.tasks.registry import TASKS

    return [CompletionItem(name) for name in TASKS if name.startswith(incomplete)]


def named_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer files, but not behind `NAME=`, where it knows of none."""
    return [] if "=" in incomplete else files(context, parameter, incomplete)


def sites(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of sites; in a list, for what follows its last comma."""
    from layerlake.engine.models.sites import NAMED

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in NAMED if name.startswith(last)]


def measures(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the names of measures; in a list, for what follows its last comma."""
    from layerlake.analyses.similarity.question import MEASURES

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in MEASURES if name.startswith(last)]
