"""`layerlake compare` and `layerlake rsa`, one measure of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from layerlake.analyses.similarity.question import ALL_KERNELS, INTERVALS, METHODS, SCORES
from layerlake.cli.analysing import SHARED, opened, say, with_options, wrote
from layerlake.cli.completion import files, measures, references, variants
from layerlake.cli.grouped import Grouped
from layerlake.cli.options import (
    Decorator,
    json_option,
    lake_option,
    layers_option,
)

_OPTIONS: Final[Sequence[Decorator]] = (
    SHARED["corpora"],
    click.option(
        "--reference",
        metavar="NAME",
        shell_complete=references,
        help="Variant to compare with, or `own`: the parent of each variant  [default: base]",
    ),
    click.option(
        "--variant",
        "variants",
        multiple=True,
        metavar="NAME",
        shell_complete=variants,
        help="Variant to compare; repeat for several  [default: all others]",
    ),
    layers_option(),
    click.option(
        "--reference-layer",
        type=int,
        metavar="L",
        help="Compare this layer of the reference with every layer of every variant.",
    ),
    click.option(
        "--all-pairs",
        is_flag=True,
        help="Compare every layer of every variant with every other one.",
    ),
    SHARED["site"],
    SHARED["unit"],
    SHARED["pooling"],
    SHARED["rows"],
    SHARED["seed"],
    SHARED["specials"],
    click.option(
        "--kernel",
        type=click.Choice(ALL_KERNELS),
        default="cosine",
        show_default=True,
        help="Similarity of two tokens within one space (rsa).",
    ),
    click.option(
        "--score",
        type=click.Choice(SCORES),
        default="pearson",
        show_default=True,
        help="Similarity of two kernels (rsa).",
    ),
    click.option(
        "--interval",
        type=click.Choice(INTERVALS),
        default="cluster",
        show_default=True,
        help="Jackknife over examples (cluster) or over rows, bootstrap of examples, or no "
        "intervals.",
    ),
    SHARED["confidence"],
    click.option(
        "--resamples",
        type=int,
        default=1000,
        show_default=True,
        help="Number of bootstrap resamples (with --interval bootstrap).",
    ),
    click.option(
        "--differences", is_flag=True, help="Also test the differences between variants, in pairs."
    ),
    click.option(
        "--permutations",
        type=int,
        default=0,
        metavar="N",
        help="Number of permutations of examples that test r_between of rsa, for example 999.",
    ),
    click.option(
        "--seeds", is_flag=True, help="Also average over variants that differ only in their seed."
    ),
    click.option(
        "--ceilings",
        is_flag=True,
        help="Also compute noise ceilings across variants that differ only in their seed.",
    ),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        default="auto",
        show_default=True,
        help="features: from feature moments, without a rows x rows matrix; tiles: in blocks of "
        "that matrix, for any kernel and score.",
    ),
    click.option(
        "--bandwidth",
        type=float,
        help="Bandwidth sigma of the rbf kernel  [default: the median distance]",
    ),
    click.option(
        "--neighbours",
        type=int,
        default=10,
        show_default=True,
        help="Number of neighbours (mutual-knn and cknna).",
    ),
    SHARED["memory"],
    SHARED["device"],
    SHARED["scheduler"],
    SHARED["workers"],
    SHARED["dry-run"],
    SHARED["verified"],
    SHARED["fresh"],
    click.option(
        "--plot",
        metavar="FILE",
        shell_complete=files,
        help="Plot the result to a .png, .svg or .pdf file.",
    ),
    click.option(
        "--plot-kind",
        type=click.Choice(["curves", "matrix", "map"]),
        help="Curves over layers, a matrix of all pairs, or an MDS map of spaces  "
        "[default: matrix with --all-pairs, else curves]",
    ),
    click.option(
        "--zoom",
        is_flag=True,
        help="Plot over the range of the data; similarities are plotted from 0 to 1 otherwise.",
    ),
    SHARED["out"],
    lake_option(),
    json_option(),
)

_GROUPS: Final = {
    "What to compare": (
        "asked", "corpora", "reference", "variants", "layers", "depth", "all_pairs",
        "reference_layer", "site",
    ),
    "Which rows": ("unit", "pooling", "rows", "seed", "specials"),
    "How": (
        "kernel", "score", "interval", "confidence", "differences", "seeds", "ceilings",
        "permutations", "resamples", "neighbours", "bandwidth", "method",
    ),
    "Where": ("lake", "device", "memory", "scheduler", "workers"),
    "Output": (
        "plot", "plot_kind", "zoom", "out", "as_json", "dry_run", "fresh", "verified",
    ),
}  # fmt: skip


@click.command(cls=Grouped, groups=_GROUPS)
@click.option(
    "--measure",
    "asked",
    multiple=True,
    required=True,
    metavar="NAMES",
    shell_complete=measures,
    help="Measures, separated by commas: rsa, cka, debiased-cka, cca, svcca, pwcca, procrustes, "
    "procrustes-size, bures, netrep-ALPHA, rbf-cka, debiased-rbf-cka, mutual-knn, cknna",
)
@with_options(_OPTIONS)
def compare(asked: tuple[str, ...], **options: Any) -> None:
    """Compare variants with a reference by any measures of similarity, layer by layer.

    All measures are computed in as few passes as possible. The result is cached in the lake;
    repeating the command returns the cached result.

    \b
    Example:
      layerlake compare --measure rsa,cka,svcca --corpus wiki --plot curves.png
      layerlake compare --measure debiased-cka --all-pairs --plot map.pdf --plot-kind map
    """
    _run(asked, **options)


@click.command(cls=Grouped, groups=_GROUPS)
@with_options(_OPTIONS)
def rsa(**options: Any) -> None:
    """Compare variants with a reference by RSA, layer by layer.

    The same as `layerlake compare --measure rsa`. The result is cached in the lake; repeating the
    command returns the cached result.

    \b
    Example:
      layerlake rsa --corpus wiki --reference base --rows 5000 --plot curves.png
      layerlake rsa --corpus wiki --corpus mnli --kernel euclidean --score spearman
      layerlake rsa --all-pairs --layers 0,6,12 --plot pairs.svg
    """
    _run(("rsa",), **options)


def _run(
    asked: tuple[str, ...],
    *,
    lake: str | None,
    corpora: tuple[str, ...],
    as_json: bool,
    verified: bool,
    dry_run: bool,
    plot: str | None,
    plot_kind: str | None,
    zoom: bool,
    out: str | None,
    **options: Any,
) -> None:
    """Ask, and say, draw and write the answer."""
    from layerlake.analyses.figures.files import check_figure
    from layerlake.analyses.results.files import check_out
    from layerlake.analyses.similarity.comparing.compare import compare as compare_in_lake
    from layerlake.analyses.similarity.comparing.compare import plan_compare
    from layerlake.engine.progress import to_terminal
    from layerlake.store.lake import open_lake

    for given, option in ((plot_kind is not None, "--plot-kind"), (zoom, "--zoom")):
        if given and plot is None:
            raise click.UsageError(f"{option} needs a figure; name its file with --plot FILE")
    if zoom and plot_kind == "map":
        raise click.UsageError(
            "--zoom does not apply to maps; leave it out, or choose another "
            "--plot-kind: curves or matrix"
        )
    if plot is not None:
        check_figure(plot)
    if out is not None:
        check_out(out)
    options["variants"] = options["variants"] or None
    options["measure"] = asked
    names = list(corpora) or None
    if dry_run:
        forecast = plan_compare(open_lake(lake), names, **options)
        click.echo(json.dumps(forecast.to_dict()) if as_json else forecast.table())
        return
    result = compare_in_lake(opened(lake, verified), names, progress=to_terminal, **options)
    if plot is not None:
        how: dict[str, Any] = {"zoom": True} if zoom else {}
        result.plot(plot_kind, file=plot, **how)
        wrote(plot)
    say(result, out, as_json)
