"""`layerlake bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerlake.cli.options import json_option

if TYPE_CHECKING:
    from layerlake.bench.measuring import BenchResult


@click.group()
def bench() -> None:
    """Measure LayerLake against named baselines in the same run.

    \b
    Example:
      layerlake bench rsa
      layerlake bench extract MODEL wiki.raw.gz --format wikitext
      layerlake bench store
    """


def _say(result: BenchResult, as_json: bool) -> None:
    click.echo(result.to_json() if as_json else result.table())


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

    _say(run(n_rows, hidden, repeats=repeats, threads=threads), as_json)


@bench.command()
@click.argument("model", required=False)
@click.argument("corpus", required=False)
@click.option("--format", metavar="NAME", help="text, jsonl, wikitext or conllu.")
@click.option(
    "--examples",
    "n_examples",
    type=click.IntRange(min=1),
    multiple=True,
    help="How many of the first examples; give it several times for several  [default: all]",
)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of torch  [default: one a core]")
@click.option(
    "--window-rows",
    type=click.IntRange(min=1024),
    default=16384,
    show_default=True,
    help="Rows of a shard.",
)
@click.option(
    "--sites",
    multiple=True,
    default=("resid", "resid,attn_out", "resid,attn_out,mlp_out"),
    show_default=True,
    help="What an extraction takes; give it several times for several.",
)
@click.option(
    "--neurox",
    metavar="PYTHON",
    help="A Python that NeuroX is installed for  [default: its algorithm, re-created]",
)
@click.option(
    "--memory/--no-memory",
    default=True,
    show_default=True,
    help="Also the peak memory of each method, in a process of its own.",
)
@json_option()
def extract(
    model: str | None,
    corpus: str | None,
    format: str | None,
    n_examples: tuple[int, ...],
    repeats: int,
    threads: int | None,
    window_rows: int,
    sites: tuple[str, ...],
    neurox: str | None,
    memory: bool,
    as_json: bool,
) -> None:
    """Extraction against its forward passes, the usual loop, NeuroX and matrix products alone.

    MODEL and CORPUS are those of the demo where they are not given.

    \b
    Example:
      layerlake bench extract
      layerlake bench extract MODEL wiki.raw.gz --format wikitext --examples 2000
      layerlake bench extract --neurox ~/neurox/bin/python
    """
    from layerlake.bench.extract import run
    from layerlake.cli.demo import model_folder, text_file

    with text_file() as shipped:
        result = run(
            model or str(model_folder()),
            corpus or shipped,
            format=format,
            n_examples=n_examples,
            repeats=repeats,
            threads=threads,
            window_rows=window_rows,
            sites=sites,
            neurox=neurox,
            memory=memory,
        )
    _say(result, as_json)


@bench.command()
@click.option("--rows", type=click.IntRange(min=1), default=200_000, show_default=True)
@click.option("--hidden", type=click.IntRange(min=1), default=768, show_default=True)
@click.option("--scattered", type=click.IntRange(min=1), default=5000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True
)
@click.option(
    "--codec",
    "codecs",
    type=click.Choice(["none", "lz4"]),
    multiple=True,
    default=("none", "lz4"),
    show_default=True,
    help="Of the lake; give it several times for several.",
)
@click.option("--window-rows", type=click.IntRange(min=1024), default=16384, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--folder", metavar="PATH", help="For the files  [default: the temporary folder]")
@json_option()
def store(
    rows: int,
    hidden: int,
    scattered: int,
    seed: int,
    dtype: str,
    codecs: tuple[str, ...],
    window_rows: int,
    repeats: int,
    folder: str | None,
    as_json: bool,
) -> None:
    """Writing and reading a generated layer against numpy, HDF5, safetensors and Zarr's readers.

    Takes about twice the layer in memory and seven times on disk.

    \b
    Example:
      layerlake bench store --rows 50000 --json
    """
    from layerlake.bench.store import run

    result = run(
        rows,
        hidden,
        scattered=scattered,
        seed=seed,
        dtype=dtype,
        codecs=codecs,
        repeats=repeats,
        window_rows=window_rows,
        folder=folder,
    )
    _say(result, as_json)
