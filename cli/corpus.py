"""`layerlake corpus`."""

from __future__ import annotations

import json

import click

from layerlake.cli.completion import files
from layerlake.cli.options import json_option, lake_option
from layerlake.cli.reading_options import reading_options


@click.group()
def corpus() -> None:
    """Add corpora to the lake.

    \b
    Example:
      layerlake corpus add ewt en_ewt-ud-dev.conllu.gz
    """


@corpus.command()
@click.argument("name")
@click.argument("source", shell_complete=files)
@reading_options
@click.option("--licence", help="Licence, stored with the corpus.")
@lake_option()
@json_option()
def add(
    name: str,
    source: str,
    format: str | None,
    segment: str,
    text_field: str | None,
    pair_field: str | None,
    words_field: str | None,
    licence: str | None,
    lake: str | None,
    as_json: bool,
) -> None:
    """Add SOURCE, a file or a data set of the hub, as corpus NAME.

    Text files may be compressed with gzip. hf://ORG/NAME[/CONFIG][:SPLIT][@REVISION] names a data
    set of the hub.

    \b
    Example:
      layerlake corpus add wiki wiki.test.raw.gz --format wikitext
      layerlake corpus add snli hf://stanfordnlp/snli:validation --format snli
    """
    from layerlake.engine.catalogue import add_corpus
    from layerlake.engine.progress import to_terminal
    from layerlake.store.lake import open_lake

    opened = open_lake(lake, "a")
    add_corpus(
        opened,
        name,
        source,
        format,
        segment=segment,
        text_field=text_field,
        pair_field=pair_field,
        words_field=words_field,
        licence=licence,
        progress=to_terminal,
    )
    path = f"corpora/{name}"
    about = opened.attributes(path)
    counts = {key: about[key] for key in ("n_examples", "n_words", "fingerprint")}
    if as_json:
        click.echo(json.dumps({"path": path, **counts}))
        return
    without = about["source"].get("without_consensus")
    click.echo(
        f"{path}: {about['n_examples']:,} examples, {about['n_words']:,} words"
        + (f"; {without:,} without consensus (label=-)" if without else "")
    )
