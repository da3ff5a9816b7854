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
    window_options,
)


@click.command("import")
@click.argument("file", shell_complete=files)
@click.option(
    "--corpus",
    required=True,
    metavar="NAME",
    shell_complete=corpora,
    help="Name of the corpus; a new one is made of --ids or of numbered rows.",
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
    help="Layers to import, as 0,8,16 or 0-4; without --first-layer, the layer of each array.",
)
@click.option(
    "--first-layer",
    type=int,
    metavar="N",
    help="LayerLake's number for layer 0 of FILE: 0 for the embedding output, 1 for the output of "
    "the first block.",
)
@click.option(
    "--site",
    default="resid",
    show_default=True,
    help="Site in each block; resid is the block output.",
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="NAME=SITE/LAYER",
    help="Import this tensor as that layer (safetensors); repeat for several.",
)
@click.option(
    "--ids",
    metavar="FILE",
    shell_complete=files,
    help="File with the id of the example of each row, one per line.",
)
@unit_option(
    "word",
    "example",
    default=None,
    help="Unit of a row where no ids are given: words or examples in the order of the corpus.",
)
@click.option(
    "--rows",
    default="all",
    show_default=True,
    metavar="STEPS",
    help="Words or examples that the rows stand for (HDF5: that are kept), as for extract.",
)
@click.option(
    "--pooling",
    type=POOLING,
    help="How the tokens of a word were pooled; required for words.",
)
@store_dtype_option("Dtype of stored activations; auto is float16 if FILE has it, else float32.")
@codec_option("Compression.")
@window_options
@click.option(
    "--dry-run", is_flag=True, help="Check FILE and show what would be done; write nothing."
)
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

    Rerun the same command to resume after an interruption.

    \b
    Example:
      layerlake import layer8.npy --corpus images --as vit --layer 8
      layerlake import layer9.npy --corpus photos --as vit --layer 9 --ids names.txt
      layerlake import bert.hdf5 --corpus ewt --as bert --first-layer 0 --pooling last

    The first line makes a corpus of numbered rows if there is none, the second makes one of the
    ids, and the third imports the words of sentences in the format of NeuroX.
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
