"""`layerlake rsa`."""

from __future__ import annotations

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


@click.command()
@click.option(
    "--corpus",
    metavar="NAME",
    shell_complete=corpora,
    help="Whose activations  [default: the only corpus with any]",
)
@click.option(
    "--reference",
    metavar="NAME",
    shell_complete=variants,
    help="The variant to compare with  [default: base]",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    shell_complete=variants,
    help="What to compare; give it several times for several  [default: all others]",
)
@layers_option()
@click.option(
    "--site",
    default="resid",
    show_default=True,
    shell_complete=sites,
    help="Where in a block; resid is its output.",
)
@unit_option(
    "piece",
    "word",
    "example",
    default=None,
    help="What a row is: a piece of the tokenizer, a word, which models with different "
    "tokenizers share, or a whole example  [default: piece, or the only one there is]",
)
@pooling_option()
@click.option("--rows", help="How many, or all  [default: 5000, or all where there are fewer]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of rows.")
@click.option("--specials", is_flag=True, help="Include special pieces.")
@click.option(
    "--kernel",
    type=click.Choice(["cosine", "correlation", "linear", "sqeuclidean"]),
    default="cosine",
    show_default=True,
    help="How alike two rows of one space are.",
)
@click.option(
    "--interval",
    type=click.Choice(["cluster", "rows", "none"]),
    default="cluster",
    show_default=True,
    help="Jackknife over examples, over rows, or none.",
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option(
    "--memory", default="4GiB", show_default=True, help="Most that may be held; more is refused."
)
@click.option(
    "--verified", is_flag=True, help="Compare what is read with its checksums; implies --fresh."
)
@click.option("--fresh", is_flag=True, help="Compute though the lake holds the answer.")
@click.option(
    "--plot", metavar="FILE", shell_complete=files, help="Draw the curves: .png, .svg or .pdf."
)
@lake_option()
@json_option()
def rsa(lake: str | None, as_json: bool, verified: bool, plot: str | None, **options: Any) -> None:
    """Compare variants with a reference, layer by layer.

    The result is kept in the lake: the same line again answers from there.

    \b
    Example:
      layerlake rsa --corpus wiki --reference base --rows 5000 --plot curves.png
    """
    from layerlake.analyses.figures.files import check_figure
    from layerlake.analyses.similarity.lake_rsa import rsa as compare
    from layerlake.engine.progress import to_terminal
    from layerlake.store.errors import LakeReadOnly
    from layerlake.store.reader import open_lake

    if plot is not None:
        check_figure(plot)
    try:
        opened = open_lake(lake, "r+", verified=verified)
    except LakeReadOnly:
        opened = open_lake(lake, verified=verified)
    options["variants"] = options["variants"] or None
    result = compare(opened, progress=to_terminal, **options)
    if plot is not None:
        result.plot(file=plot)
    if as_json:
        click.echo(result.to_json())
        return
    click.echo(result.table())
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
