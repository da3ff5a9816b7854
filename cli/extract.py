"""`layerlake extract`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from layerlake.cli.completion import corpora, corpora_or_files, folders, sites, variants
from layerlake.cli.options import (
    KnownChoice,
    codec_option,
    json_option,
    lake_option,
    layers_option,
    pooling_option,
    store_dtype_option,
    unit_option,
)
from layerlake.cli.reading_options import reading_options
from layerlake.cli.scored import say_notes

if TYPE_CHECKING:
    from layerlake.engine.extraction.run import ExtractionReport


def _check_packing(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a packing that cannot be read before anything is loaded."""
    from layerlake.engine.tokenization.packing import parse_packing

    parse_packing(value)
    return value


@click.command()
@click.argument("model", shell_complete=folders)
@click.argument("source", shell_complete=corpora_or_files)
@click.option(
    "--as",
    "variant",
    metavar="NAME",
    shell_complete=variants,
    help="Name of the variant  [default: from MODEL]",
)
@click.option(
    "--corpus",
    "corpus_name",
    metavar="NAME",
    shell_complete=corpora,
    help="Name of the corpus  [default: from SOURCE]",
)
@reading_options
@click.option(
    "--rows",
    default="all",
    show_default=True,
    metavar="STEPS",
    help="What is kept, in steps from left to right parted by ';': all, first, last, cls, no-sink, "
    "where CONDITIONS, cap:K[@SEED] [by NAME], sample:N[@SEED] [by NAME].",
)
@unit_option(
    "piece",
    "word",
    default="piece",
    help="What a row is: a piece of the tokenizer, or a word, which models with different "
    "tokenizers share.",
)
@pooling_option()
@click.option(
    "--packing",
    default="single",
    show_default=True,
    callback=_check_packing,
    help="single; of pairs: pair, first or second; of either: trim(128), or overlapping windows, "
    "window(384,128) or window(384,128,64): pieces, pieces to the next window, most pieces of the "
    "first text.",
)
@click.option(
    "--long",
    type=KnownChoice("layerlake.engine.tokenization.inputs", "LONG"),
    default="refuse",
    show_default=True,
    help="What to do with examples over the model's limit; split parts them between words, "
    "window into inputs that overlap by half.",
)
@click.option(
    "--bos",
    type=KnownChoice("layerlake.engine.tokenization.tokenize", "BOS"),
    default="auto",
    show_default=True,
    help="Whether inputs begin with the BOS; auto: as the tokenizer does it.",
)
@click.option("--chat", is_flag=True, help="Write texts as turns, with the chat template.")
@layers_option()
@click.option(
    "--sites",
    shell_complete=sites,
    default="resid",
    show_default=True,
    metavar="LIST",
    help="Where in a block: resid, attn_out, mlp_out, embed, final_norm, block.PATH, or module "
    "paths; several in one pass.",
)
@click.option(
    "--revisions",
    metavar="LIST",
    help="Of a hub name: several, as main,step1000 or 'step*', each a variant.",
)
@click.option(
    "--randomize",
    metavar="SEEDS",
    help="Draw all weights anew; 0-9 or none,0-9 gives a variant for each.",
)
@click.option(
    "--truncate",
    metavar="KS",
    help="Keep the embeddings and K blocks; none,1-5 gives a variant for each.",
)
@store_dtype_option(
    "What is written; float16 errs by 3e-4 of a value, and auto takes float32 where that does "
    "not do."
)
@codec_option("lz4 saves about a tenth, and reads at a third of the speed.")
@click.option(
    "--compute-dtype",
    type=KnownChoice("layerlake.engine.models.placement", "COMPUTE_DTYPES", "auto"),
    default="auto",
    show_default=True,
    help="What the forward pass runs in; auto is float32 on CPUs, else as the weights are stored.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option(
    "--device-map",
    type=KnownChoice("layerlake.engine.models.placement", "DEVICE_MAPS"),
    help="Spread the model over all devices.",
)
@click.option("--base", metavar="MODEL", help="Of an adapter: its base  [default: as it says]")
@click.option("--token-budget", type=int, default=2048, show_default=True, help="Pieces a batch.")
@click.option("--window-rows", type=int, default=16384, show_default=True, help="Rows a shard.")
@click.option("--memory", default="8GiB", show_default=True, help="For windows in memory.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@lake_option()
@json_option()
def extract(
    model: str, source: str, lake: str | None, as_json: bool, dry_run: bool, **options: Any
) -> None:
    """Run MODEL (hub name or folder) over SOURCE (corpus in the lake, a file, or hf://ORG/NAME).

    A data set of the hub is named hf://ORG/NAME[/CONFIG][:SPLIT][@REVISION].

    The same line again resumes where it was stopped, or does nothing.

    \b
    Example:
      layerlake extract path/to/model corpus.txt --as base
      layerlake extract path/to/model corpus --randomize 0 --rows sample:50000
      layerlake extract 'runs/mnli-*' corpus --sites resid,mlp_out --layers 0-4
      layerlake extract EleutherAI/pythia-70m corpus --revisions 'step*'
      layerlake extract path/to/model corpus --as base --randomize none,0-9
      layerlake extract path/to/model dev-v1.1.json --packing 'window(384,128,64)'
      layerlake extract path/to/model ewt --unit word --rows 'where upos=NOUN|VERB; cap:20'
      layerlake extract path/to/model ewt --rows last

    Conditions of --rows are on annotations of words (upos=NOUN), columns of examples (label=true),
    and position, word, piece, segment, special and example; they are joined by `and`. Special
    pieces are kept by `all`, by `cls` (the first of each input) and by conditions on `special`.
    `cap` keeps at most K rows of each word type, `sample ... by label` equally many of each label.
    """
    from layerlake.engine.extraction.many_variants import extract_many
    from layerlake.engine.progress import to_terminal
    from layerlake.store.lake import open_lake

    opened = open_lake(lake, "a")
    reports = extract_many(
        opened,
        model,
        source,
        dry_run=dry_run,
        progress=to_terminal,
        on_report=None if as_json else _say_dry if dry_run else _say,
        **options,
    )
    if as_json:
        documents = [dataclasses.asdict(report) for report in reports]
        click.echo(json.dumps(documents[0] if len(documents) == 1 else {"sets": documents}))
    elif len(reports) > 1 and not dry_run:
        total = sum(report.n_bytes for report in reports)
        new = sum(report.n_computed > 0 for report in reports)
        click.echo(f"{len(reports)} variants, {new} of them computed now, {total / 1e6:,.1f} MB")


def _say_dry(report: ExtractionReport) -> None:
    """Print what would be done for one variant."""
    click.echo(
        f"{report.path}: {report.n_rows:,} rows, {report.n_bytes / 1e6:,.1f} MB; would run "
        f"{report.n_pieces:,} pieces for {report.n_missing} of {report.n_windows} windows in "
        f"about {report.seconds:.0f} s, holding {report.peak_bytes / 1e6:,.1f} MB of "
        "windows beside the model; nothing was written"
    )
    say_notes(report.notes)


def _say(report: ExtractionReport) -> None:
    """Print what was done for one variant."""
    said = (
        f"{report.path}: {report.n_rows:,} rows, {report.n_bytes / 1e6:,.1f} MB, "
        f"{report.n_computed} of {report.n_windows} windows computed, {report.seconds:.1f} s"
    )
    if report.float32_because:
        said += f"; in float32: {report.float32_because}"
    if report.same_weights:
        said += f"; the same weights as {', '.join(report.same_weights)}"
    click.echo(said)
    say_notes(report.notes)
