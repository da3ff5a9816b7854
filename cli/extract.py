"""`layerlake extract`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from layerlake.cli.completion import corpora, corpora_or_files, folders, sites, variants
from layerlake.cli.grouped import Grouped
from layerlake.cli.options import (
    KnownChoice,
    codec_option,
    json_option,
    lake_option,
    layers_option,
    pooling_option,
    store_dtype_option,
    unit_option,
    window_options,
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


@click.command(
    cls=Grouped,
    groups={
        "What to extract": (
            "variant",
            "corpus_name",
            "layers",
            "sites",
            "randomize",
            "truncate",
            "revisions",
            "base",
        ),
        "How the corpus is read": (
            "format",
            "text_field",
            "pair_field",
            "words_field",
            "segment",
        ),
        "Which rows": ("rows", "unit", "pooling"),
        "How inputs are made": ("packing", "long", "bos", "chat"),
        "Where": ("lake", "device", "device_map", "memory", "token_budget", "compute_dtype"),
        "Output": ("store_dtype", "codec", "window_rows", "as_json", "dry_run"),
    },
)
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
    help="Rows to store: steps, applied left to right, separated by ';': all, first, last, cls, "
    "no-sink, where CONDITIONS, cap:K[@SEED] [by NAME], sample:N[@SEED] [by NAME].",
)
@unit_option(
    "piece",
    "word",
    default="piece",
    help="Unit of a row: a token of the tokenizer (piece), or a word, which models with different "
    "tokenizers share.",
)
@pooling_option()
@click.option(
    "--packing",
    default="single",
    show_default=True,
    callback=_check_packing,
    help="How examples become inputs: single; pair, first or second for pairs of texts; trim(128) "
    "to cut after 128 tokens; window(384,128[,64]) for overlapping windows (tokens of a window, "
    "stride, and maximum number of tokens of the first text).",
)
@click.option(
    "--long",
    type=KnownChoice("layerlake.engine.tokenization.inputs", "LONG"),
    default="refuse",
    show_default=True,
    help="Examples longer than the model's limit: refuse, drop, split between words, or window "
    "(inputs that overlap by half).",
)
@click.option(
    "--bos",
    type=KnownChoice("layerlake.engine.tokenization.tokenize", "BOS"),
    default="auto",
    show_default=True,
    help="Whether inputs begin with the BOS token; auto follows the tokenizer.",
)
@click.option("--chat", is_flag=True, help="Format texts with the chat template of the tokenizer.")
@layers_option()
@click.option(
    "--sites",
    shell_complete=sites,
    default="resid",
    show_default=True,
    metavar="LIST",
    help="Sites, separated by commas: resid (block output), attn_out, mlp_out, embed, final_norm, "
    "block.PATH, or paths of modules.",
)
@click.option(
    "--revisions",
    metavar="LIST",
    help="Revisions of a hub model, as main,step1000 or 'step*'; each becomes a variant.",
)
@click.option(
    "--randomize",
    metavar="SEEDS",
    help="Replace all weights by random ones with these seeds; 0-9 or none,0-9 gives a variant for "
    "each.",
)
@click.option(
    "--truncate",
    metavar="KS",
    help="Keep the embeddings and the first K blocks; none,1-5 gives a variant for each.",
)
@store_dtype_option(
    "Dtype of stored activations; auto is float16 (relative error 3e-4), or float32 where "
    "float16 would not be accurate enough."
)
@codec_option("Compression; lz4 saves about 10 % and reads at a third of the speed.")
@click.option(
    "--compute-dtype",
    type=KnownChoice("layerlake.engine.models.placement", "COMPUTE_DTYPES", "auto"),
    default="auto",
    show_default=True,
    help="Dtype of the forward pass; auto is float32 on CPUs, else the dtype of the weights.",
)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu or cuda[:N].")
@click.option(
    "--device-map",
    type=KnownChoice("layerlake.engine.models.placement", "DEVICE_MAPS"),
    help="Distribute the model over all devices.",
)
@click.option(
    "--base", metavar="MODEL", help="Base model of an adapter  [default: as its config says]"
)
@click.option("--token-budget", type=int, default=2048, show_default=True, help="Tokens per batch.")
@window_options
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@lake_option()
@json_option()
def extract(
    model: str, source: str, lake: str | None, as_json: bool, dry_run: bool, **options: Any
) -> None:
    """Run MODEL (hub name or folder) over SOURCE (corpus in the lake, a file, or hf://ORG/NAME).

    hf://ORG/NAME[/CONFIG][:SPLIT][@REVISION] names a data set of the hub. Rerun the same command to
    resume after an interruption; a complete set is left as it is.

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

    Conditions of --rows test annotations of words (upos=NOUN), columns of examples (label=true), and
    position, word, piece, segment, special and example; `and` joins them. Special tokens are kept by
    `all`, by `cls` (the first token of each input) and by conditions on `special`. `cap` keeps at
    most K rows of each word type, and `sample ... by label` equally many of each label.
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
