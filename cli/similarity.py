"""`layerlake compare` and `layerlake rsa`, one measure of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from layerlake.cli.completion import corpora, files, sites, variants
from layerlake.cli.options import (
    json_option,
    lake_option,
    layers_option,
    pooling_option,
    unit_option,
)

_OPTIONS = (
    click.option(
        "--corpus",
        "corpora",
        multiple=True,
        metavar="NAME",
        shell_complete=corpora,
        help="Whose activations; several times for several  [default: the only one with any]",
    ),
    click.option(
        "--reference",
        metavar="NAME",
        shell_complete=variants,
        help="The variant to compare with, or `own`: the one that each was made from  "
        "[default: base]",
    ),
    click.option(
        "--variant",
        "variants",
        multiple=True,
        metavar="NAME",
        shell_complete=variants,
        help="What to compare; several times for several  [default: all others]",
    ),
    layers_option(),
    click.option(
        "--reference-layer",
        type=int,
        metavar="L",
        help="This layer of the reference with every layer of all.",
    ),
    click.option("--all-pairs", is_flag=True, help="Every space with every other one."),
    click.option(
        "--site",
        default="resid",
        show_default=True,
        shell_complete=sites,
        help="Where in a block; resid is its output.",
    ),
    unit_option(
        "piece",
        "word",
        "example",
        default=None,
        help="What a row is: a piece of the tokenizer, a word, which models with different "
        "tokenizers share, or a whole example  [default: piece, or the only one there is]",
    ),
    pooling_option(),
    click.option("--rows", help="How many, or all  [default: 5000, or all where there are fewer]"),
    click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn."),
    click.option("--specials", is_flag=True, help="Include special pieces."),
    click.option(
        "--kernel",
        type=click.Choice(["cosine", "correlation", "linear", "sqeuclidean", "euclidean", "rbf"]),
        default="cosine",
        show_default=True,
        help="rsa: how alike two rows of one space are.",
    ),
    click.option(
        "--score",
        type=click.Choice(
            [
                "pearson",
                "cosine",
                "spearman",
                "kendall",
                "whitened-cosine",
                "whitened-correlation",
            ]
        ),
        default="pearson",
        show_default=True,
        help="rsa: how alike two kernels are.",
    ),
    click.option(
        "--interval",
        type=click.Choice(["cluster", "rows", "bootstrap", "none"]),
        default="cluster",
        show_default=True,
        help="Jackknife over examples, over rows, examples drawn anew, or none.",
    ),
    click.option(
        "--confidence", type=float, default=0.95, show_default=True, help="Of the intervals."
    ),
    click.option(
        "--resamples", type=int, default=1000, show_default=True, help="Of --interval bootstrap."
    ),
    click.option(
        "--differences", is_flag=True, help="Also compare variants with one another, in pairs."
    ),
    click.option(
        "--seeds", is_flag=True, help="Also average variants that differ in their seed alone."
    ),
    click.option(
        "--method",
        type=click.Choice(["auto", "features", "tiles"]),
        default="auto",
        show_default=True,
        help="features forms no rows x rows matrix; tiles can do any kernel and score.",
    ),
    click.option(
        "--bandwidth",
        type=float,
        help="Sigma of rbf, in units of the rows  [default: the median distance]",
    ),
    click.option(
        "--neighbours",
        type=int,
        default=10,
        show_default=True,
        help="mutual-knn, cknna: of each row.",
    ),
    click.option(
        "--memory",
        default="4GiB",
        show_default=True,
        help="Most that may be held; more is refused.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--scheduler",
        metavar="WHERE",
        help="threads, processes, or tcp://HOST:PORT of a Dask cluster  [default: none]",
    ),
    click.option("--workers", type=int, help="Of threads and processes  [default: one a core]"),
    click.option("--dry-run", is_flag=True, help="Say what it would read, hold and take."),
    click.option(
        "--verified", is_flag=True, help="Compare what is read with its checksums; implies --fresh."
    ),
    click.option("--fresh", is_flag=True, help="Compute though the lake holds the answer."),
    click.option(
        "--plot", metavar="FILE", shell_complete=files, help="Draw it: .png, .svg or .pdf."
    ),
    click.option(
        "--plot-kind",
        type=click.Choice(["curves", "matrix", "map"]),
        help="Over layers, all pairs, or spaces as points  [default: what suits the pairs]",
    ),
    click.option(
        "--out", metavar="FILE", shell_complete=files, help="Also write it: .csv or .json."
    ),
    lake_option(),
    json_option(),
)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.option(
    "--measure",
    "measures",
    multiple=True,
    required=True,
    metavar="NAMES",
    help="With commas or several times: rsa, cka, debiased-cka, cca, svcca, pwcca, procrustes, "
    "procrustes-size, bures, netrep-ALPHA, rbf-cka, debiased-rbf-cka, mutual-knn, cknna",
)
@_options
def compare(measures: tuple[str, ...], **options: Any) -> None:
    """Compare spaces by any measures of similarity.

    Measures that share sums share a pass. The result is kept in the lake: the same line again
    answers from there.

    \b
    Example:
      layerlake compare --measure rsa,cka,svcca --corpus wiki --plot curves.png
      layerlake compare --measure debiased-cka --all-pairs --plot map.pdf --plot-kind map
    """
    _run(measures, **options)


@click.command()
@_options
def rsa(**options: Any) -> None:
    """Compare variants with a reference by RSA, layer by layer.

    The same as `layerlake compare --measure rsa`. The result is kept in the lake: the same line
    again answers from there.

    \b
    Example:
      layerlake rsa --corpus wiki --reference base --rows 5000 --plot curves.png
      layerlake rsa --corpus wiki --corpus mnli --kernel euclidean --score spearman
      layerlake rsa --all-pairs --layers 0,6,12 --plot pairs.svg
    """
    _run(("rsa",), **options)


def _run(
    measures: tuple[str, ...],
    *,
    lake: str | None,
    corpora: tuple[str, ...],
    as_json: bool,
    verified: bool,
    dry_run: bool,
    plot: str | None,
    plot_kind: str | None,
    out: str | None,
    **options: Any,
) -> None:
    """Ask, and say, draw and write the answer."""
    from layerlake.analyses.figures.files import check_figure
    from layerlake.analyses.result_files import check_out, write_result
    from layerlake.analyses.similarity.lake_compare import compare as compare_in_lake
    from layerlake.analyses.similarity.lake_compare import plan_compare
    from layerlake.engine.progress import to_terminal
    from layerlake.store.errors import LakeReadOnly
    from layerlake.store.reader import open_lake

    if plot is not None:
        check_figure(plot)
    if out is not None:
        check_out(out)
    options["variants"] = options["variants"] or None
    options["measure"] = measures
    names = list(corpora) or None
    if dry_run:
        forecast = plan_compare(open_lake(lake), names, **options)
        click.echo(json.dumps(forecast.to_dict()) if as_json else forecast.table())
        return
    try:
        opened = open_lake(lake, "r+", verified=verified)
    except LakeReadOnly:
        opened = open_lake(lake, verified=verified)
    result = compare_in_lake(opened, names, progress=to_terminal, **options)
    if plot is not None:
        result.plot(plot_kind, file=plot)
    if out is not None:
        write_result(result, out)
    if as_json:
        click.echo(result.to_json())
        return
    click.echo(result.table())
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
