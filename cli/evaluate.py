"""`layerlake evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from layerlake.analyses.finetuning.data import named_sources
from layerlake.cli.completion import files, folders, formats, named_files, tasks
from layerlake.cli.options import json_option
from layerlake.cli.reading_options import field_options
from layerlake.cli.scored import leads, progress_of_leader, say_notes, score_table, seconds_text


@click.command()
@click.argument("model", metavar="CHECKPOINT", shell_complete=folders)
@click.argument(
    "data", metavar="[NAME=]DATA...", nargs=-1, required=True, shell_complete=named_files
)
@click.option(
    "--task",
    shell_complete=tasks,
    help="Task that the model must have been trained for  [default: any]",
)
@click.option(
    "--out",
    metavar="PLACE",
    shell_complete=files,
    help="Write predictions to this file, or to this folder if there are several DATA.",
)
@click.option(
    "--format",
    metavar="NAME",
    shell_complete=formats,
    help="Format of the data  [default: that of the task]",
)
@field_options
@click.option(
    "--token-budget",
    type=int,
    help="Tokens per batch  [default: 2048 on a CPU, 16384 on a GPU]",
)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu or cuda[:N].")
@click.option(
    "--trust-remote-code", is_flag=True, help="Allow code that comes with the model to run."
)
@json_option()
def evaluate(model: str, data: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Score CHECKPOINT (a folder that `layerlake finetune` wrote) on DATA: files, or hf://ORG/NAME.

    \b
    Example:
      layerlake evaluate runs/mnli-s0 multinli_1.0_dev_matched.jsonl
      layerlake evaluate runs/mnli-s0 matched=m.jsonl mismatched=mm.jsonl --out predictions
      layerlake evaluate runs/squad-s0 dev-v1.1.json --out predictions.json
      layerlake evaluate runs/dep-s0 en_ewt-ud-dev.conllu --out parsed.conllu --json

    Predictions are written in the format of the task: a JSON object from ids to answers (SQuAD),
    CoNLL-U (dependency trees), or JSON lines.
    """
    from layerlake.analyses.finetuning.evaluate import evaluate as evaluate_model

    report = evaluate_model(model, named_sources(data), progress=progress_of_leader(), **options)
    if not leads():
        return
    if as_json:
        click.echo(json.dumps(report.to_dict()))
        return
    n = sum(about["n"] for about in report.data.values())
    said = f"{report.model}: {report.task}, {n:,} examples in {seconds_text(report.seconds)}"
    if report.predictions:
        said += f"; predictions are in {', '.join(report.predictions.values())}"
    click.echo(said)
    click.echo(score_table(report.scores))
    say_notes(report.notes)
