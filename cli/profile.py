"""`layerlake profile`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from layerlake.analyses.profiles.question import INTERVALS
from layerlake.cli.analysing import SHARED, opened, say, with_options, wrote
from layerlake.cli.completion import files, variants
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
        "--variant",
        "variants",
        multiple=True,
        metavar="NAME",
        shell_complete=variants,
        help="Variant to profile; repeat for several  [default: all]",
    ),
    layers_option(),
    SHARED["site"],
    SHARED["unit"],
    SHARED["pooling"],
    SHARED["rows"],
    SHARED["seed"],
    SHARED["specials"],
    click.option(
        "--interval",
        type=click.Choice(INTERVALS),
        default="cluster",
        show_default=True,
        help="Jackknife over groups of examples (cluster), or no intervals.",
    ),
    SHARED["confidence"],
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
        help="Plot curves over layers to a .png, .svg or .pdf file.",
    ),
    SHARED["out"],
    lake_option(),
    json_option(),
)


@click.command(
    cls=Grouped,
    groups={
        "What to profile": ("corpora", "variants", "layers", "site"),
        "Which rows": ("unit", "pooling", "rows", "seed", "specials"),
        "How": ("interval", "confidence"),
        "Where": ("lake", "device", "memory", "scheduler", "workers"),
        "Output": ("plot", "out", "as_json", "dry_run", "fresh", "verified"),
    },
)
@with_options(_OPTIONS)
def profile(
    *,
    lake: str | None,
    corpora: tuple[str, ...],
    variants: tuple[str, ...],
    as_json: bool,
    verified: bool,
    dry_run: bool,
    plot: str | None,
    out: str | None,
    **options: Any,
) -> None:
    """Describe the geometry of every layer: anisotropy, dimensionality and norms.

    All layers and variants are profiled over the same rows. The result is cached in the lake;
    repeating the command returns the cached result.

    \b
    Example:
      layerlake profile --corpus wiki --variant base --plot profile.png
      layerlake profile --layers 0,6,12 --rows all --out profile.csv
      layerlake profile --rows all --scheduler threads --dry-run
    """
    from layerlake.analyses.figures.files import check_figure
    from layerlake.analyses.profiles.profile import plan_profile
    from layerlake.analyses.profiles.profile import profile as profile_of_lake
    from layerlake.analyses.results.files import check_out
    from layerlake.engine.progress import to_terminal
    from layerlake.store.lake import open_lake

    if plot is not None:
        check_figure(plot)
    if out is not None:
        check_out(out)
    names = list(corpora) or None
    options["variants"] = variants or None
    if dry_run:
        forecast = plan_profile(open_lake(lake), names, **options)
        click.echo(json.dumps(forecast.to_dict()) if as_json else forecast.table())
        return
    result = profile_of_lake(opened(lake, verified), names, progress=to_terminal, **options)
    if plot is not None:
        result.plot(file=plot)
        wrote(plot)
    say(result, out, as_json)
