"""What commands that analyse a lake share: options, and how results are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from layerlake.cli.completion import corpora, files, sites
from layerlake.cli.options import ANY_POOLING, Decorator, pooling_option, unit_option

if TYPE_CHECKING:
    from layerlake.analyses.results.result import Result
    from layerlake.store.lake import Lake

SHARED: Final[dict[str, Decorator]] = {
    "corpora": click.option(
        "--corpus",
        "corpora",
        multiple=True,
        metavar="NAME",
        shell_complete=corpora,
        help="Corpus to analyse; repeat for several  [default: the only one with activations]",
    ),
    "site": click.option(
        "--site",
        default="resid",
        show_default=True,
        shell_complete=sites,
        help="Site in each block; resid is the block output (residual stream).",
    ),
    "unit": unit_option(
        "piece",
        "word",
        "example",
        default=None,
        help="Unit of a row: a token of the tokenizer (piece), a word or a whole example. Words "
        "and examples are pooled from stored tokens; words are shared by models with different "
        "tokenizers  [default: piece; word if the models have different tokenizers]",
    ),
    "pooling": pooling_option(
        ANY_POOLING, "a word or an example (max: words only; cls: examples only)"
    ),
    "rows": click.option(
        "--rows",
        help="Number of rows to sample, or all  [default: 5000, or all if there are fewer]",
    ),
    "seed": click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="Random seed for sampling rows and for the bootstrap.",
    ),
    "specials": click.option(
        "--specials",
        is_flag=True,
        help="Include special tokens, as rows or in the mean of an example.",
    ),
    "confidence": click.option(
        "--confidence",
        type=float,
        default=0.95,
        show_default=True,
        help="Nominal coverage of the confidence intervals.",
    ),
    "memory": click.option(
        "--memory",
        default="4GiB",
        show_default=True,
        help="Memory limit; an analysis that needs more is refused before it starts.",
    ),
    "device": click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    ),
    "scheduler": click.option(
        "--scheduler",
        metavar="WHERE",
        help="threads, processes, or tcp://HOST:PORT of a Dask cluster  [default: this process]",
    ),
    "workers": click.option(
        "--workers", type=int, help="Number of threads or processes  [default: one per core]"
    ),
    "dry-run": click.option(
        "--dry-run",
        is_flag=True,
        help="Show what would be read and computed and how much memory it takes; do nothing.",
    ),
    "verified": click.option(
        "--verified",
        is_flag=True,
        help="Check every row against its checksum when reading; implies --fresh.",
    ),
    "fresh": click.option(
        "--fresh", is_flag=True, help="Recompute even if the lake holds a cached result."
    ),
    "out": click.option(
        "--out",
        metavar="FILE",
        shell_complete=files,
        help="Also write the result to a .csv, .json, .md (Markdown) or .tex (LaTeX) file.",
    ),
}
"""Options of comparisons and of profiles, by their names."""


def with_options(options: Sequence[Decorator]) -> Decorator:
    """Return what adds options to a command, in their order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def opened(lake: str | None, verified: bool) -> Lake:
    """Open a lake, for writing where it can be, so that results are kept."""
    from layerlake.store.errors import LakeReadOnly
    from layerlake.store.lake import open_lake

    try:
        return open_lake(lake, "r+", verified=verified)
    except LakeReadOnly:
        return open_lake(lake, verified=verified)


def wrote(file: str) -> None:
    """Name a file that was written, beside the output."""
    click.echo(f"wrote {file}", err=True)


def say(result: Result, out: str | None, as_json: bool) -> None:
    """Write the result where asked, and print it with its notes."""
    from layerlake.analyses.results.files import write_result

    if out is not None:
        write_result(result, out)
        wrote(out)
    if as_json:
        click.echo(result.to_json())
        return
    click.echo(result.table())
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
