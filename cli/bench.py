"""`layerlake bench`."""

from __future__ import annotations

import click

from layerlake.cli.options import json_option


@click.group()
def bench() -> None:
    """Measure LayerLake against named baselines in the same run.

    \b
    Example:
      layerlake bench rsa
    """


@bench.command()
@click.option(
    "--rows",
    "n_rows",
    type=click.IntRange(min=4),
    multiple=True,
    default=(2000, 5000, 20_000),
    show_default=True,
    help="Rows of a workload; give it several times for several.",
)
@click.option("--hidden", type=click.IntRange(min=1), default=768, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@json_option()
def rsa(n_rows: tuple[int, ...], hidden: int, repeats: int, threads: int, as_json: bool) -> None:
    """RSA of one pair of generated spaces against plain numpy.

    \b
    Example:
      layerlake bench rsa --rows 2000 --rows 5000 --json
    """
    from layerlake.bench.rsa import run

    result = run(n_rows, hidden, repeats=repeats, threads=threads)
    click.echo(result.to_json() if as_json else result.table())
