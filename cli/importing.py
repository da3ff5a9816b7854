"""`layerlake import`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from layerlake.cli.completion import corpora, files, variants
from layerlake.cli.options import (
    POOLING,
    codec_option,
    json_option,
    lake_option,
    store_dtype_option,
    unit_option,
)


@click.command("import")
@click.argument("file", shell_complete=files)
@click.option(
    "--corpus",
    required=True,
    metavar="NAME",
    shell_complete=corpora,
    help="The corpus; if it is new, of --ids or of bare rows.",
)
@click.option(
    "--as",
    "variant",
    required=True,
    metavar="NAME",
    shell_complete=variants,
    help="Name of the variant.",
)
@click.option(
    "--layer",
    "--layers",
    "layers",
    metavar="LIST",
    help="The layers to take, 0,8,16 or 0-4; without --first-layer, the layer of each in FILE.",
)
@click.option(
    "--first-layer",
    type=int,
    metavar="N",
    help="Our layer for what FILE counts as 0: 0 if that is the embedding output, 1 if it is the "
    "output of the first block.",
)
@click.option(
    "--site", default="resid", show_default=True, help="Where in a block; resid: its end."
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="NAME=SITE/LAYER",
    help="safetensors: take this tensor as that layer; give it several times for several.",
)
@click.option(
    "--ids",
    metavar="FILE",
    shell_complete=files,
    help="Ids of the examples that the rows are of, one a line.",
)
@unit_option(
    "word",
    "example",
    default=None,
    help="What a row is, where no ids say: a word or an example, in the order of the corpus.",
)
@click.option(
    "--rows",
    default="all",
    show_default=True,
    metavar="STEPS",
    help="Which words or examples the rows are (HDF5: are kept), as for extract.",
)
@click.option(
    "--pooling",
    type=POOLING,
    help="How a word's pieces became its row; needed for words.",
)
@store_dtype_option("What is written; auto: float16 where FILE has that, else float32.")
@codec_option("Or lz4.")
@click.option("--window-rows", type=int, default=16384, show_default=True, help="Rows a shard.")
@click.option("--memory", default="8GiB", show_default=True, help="For windows in memory.")
@click.option("--dry-run", is_flag=True, help="Check FILE and say what would be done.")
@lake_option()
@json_option()
def import_(
    file: str,
    lake: str | None,
    as_json: bool,
    dry_run: bool,
    pairs: tuple[str, ...],
    **options: Any,
) -> None:
    """Copy activations from FILE (.npy, .safetensors, or HDF5 of sentences) into the lake.

    The same line again resumes where it was stopped, or does nothing.

    \b
    Example:
      layerlake import layer8.npy --corpus images --as vit --layer 8
      layerlake import layer9.npy --corpus photos --as vit --layer 9 --ids names.txt
      layerlake import bert.hdf5 --corpus ewt --as bert --first-layer 0 --pooling last

    The first line makes a corpus of bare rows where there is none, the second one of the ids; the
    third takes the words of sentences as NeuroX writes them.
    """
    from layerlake.engine.importing import import_activations
    from layerlake.engine.progress import to_terminal
    from layerlake.store.errors import InvalidInput
    from layerlake.store.lake import open_lake

    mapping = {}
    for pair in pairs:
        name, equals, to = pair.rpartition("=")
        if not equals or not name or name in mapping:
            raise InvalidInput(f"--map {pair!r} cannot be read; give NAME=SITE/LAYER, a name once")
        mapping[name] = to
    opened = open_lake(lake, "a")
    report = import_activations(
        opened, file, mapping=mapping, dry_run=dry_run, progress=to_terminal, **options
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
        return
    what = (
        f"{report.n_rows:,} {report.unit} rows of {report.hidden}, {len(report.arrays)} layers, "
        f"{report.dtype}, {report.n_bytes / 1e6:,.1f} MB"
    )
    made = "" if report.made_corpus is None else f", {report.made_corpus} being a new corpus"
    if dry_run:
        click.echo(f"{report.variant} over {report.corpus}: {what}{made}; nothing was written")
        return
    click.echo(f"{report.path}: {what}, {report.n_read:,} rows read, {report.seconds:.1f} s{made}")
