"""`layerlake finetune`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from layerlake.cli.completion import files, folders, named_files, tasks
from layerlake.cli.options import field_options, json_option
from layerlake.cli.recipe_options import WithRecipe, recipe_options
from layerlake.cli.scored import (
    leads,
    named_sources,
    progress_of_leader,
    say_notes,
    score_table,
    seconds_text,
)

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.finetune import FinetuneReport


@click.command(cls=WithRecipe)
@click.argument("task", shell_complete=tasks)
@click.argument("model", shell_complete=folders)
@click.option(
    "--train",
    multiple=True,
    required=True,
    metavar="FILE",
    shell_complete=files,
    help="What it is trained on; several times for several, trained on as one.",
)
@click.option(
    "--dev",
    multiple=True,
    metavar="[NAME=]FILE",
    shell_complete=named_files,
    help="What it is scored on after every epoch; several times for several.",
)
@click.option(
    "--out", required=True, metavar="FOLDER", shell_complete=folders, help="What is written."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of head, order and dropout.")
@click.option(
    "--freeze",
    type=int,
    default=-1,
    show_default=True,
    metavar="K",
    help="Keep the embeddings and the lowest K blocks as they are; -1: nothing.",
)
@click.option("--truncate", type=int, metavar="K", help="Keep K blocks, the head on the last.")
@click.option("--randomize", type=int, metavar="SEED", help="Begin from random weights.")
@click.option("--train-sample", metavar="N[@SEED]", help="Train on N examples, drawn at random.")
@click.option(
    "--keep",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="The weights after the last epoch, or after the one that scored best.",
)
@click.option("--format", metavar="NAME", help="Of the data  [default: that of the task]")
@field_options
@click.option(
    "--token-budget",
    type=int,
    help="Pieces computed at a time: for memory, not for what is learned  [default: 2048 on a CPU, "
    "16384 on a GPU]",
)
@click.option(
    "--save-steps",
    type=int,
    metavar="N",
    help="Save the state after N updates  [default: every epoch, every ten minutes]",
)
@click.option(
    "--memory",
    default="8GiB",
    show_default=True,
    help="For weights, gradients, moments and a micro-batch; more is refused.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model.")
@json_option()
@recipe_options
def finetune(
    task: str,
    model: str,
    train: tuple[str, ...],
    dev: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune MODEL (hub name or folder) for TASK: mnli, snli, squad, dep, classify or tag.

    The same line again goes on where it was stopped, or does nothing. What is written is a model
    for `layerlake extract`, with its lineage, and a head for `layerlake evaluate`.

    \b
    Example:
      layerlake finetune mnli MODEL --train multinli_1.0_train.jsonl \\
          --dev matched=dev_matched.jsonl --dev mismatched=dev_mismatched.jsonl --out runs/mnli-s0
      layerlake finetune squad MODEL --train train-v1.1.json --dev dev-v1.1.json --out runs/squad-s0
      layerlake finetune dep MODEL --train en_ewt-ud-train.conllu --dev en_ewt-ud-dev.conllu \\
          --out runs/dep-frozen-8 --freeze 8 --keep best
      layerlake finetune classify MODEL --train train.tsv --label topic --out runs/topic --lr 1e-4

    On several devices: accelerate launch -m layerlake.cli finetune ...
    """
    from layerlake.analyses.finetuning.finetune import finetune as finetune_model

    report = finetune_model(
        task,
        model,
        list(train),
        named_sources(dev) if dev else None,
        progress=progress_of_leader(),
        **options,
    )
    if not leads():
        return
    if as_json:
        click.echo(json.dumps(report.to_dict()))
        return
    _say(report)


def _say(report: FinetuneReport) -> None:
    """Print what was done in one run."""
    click.echo(
        f"{report.folder}: {report.task}, seed {report.seed}, {report.n_examples:,} examples; "
        f"{report.n_computed:,} of {report.n_steps:,} updates made, "
        f"{seconds_text(report.seconds)}; the weights after epoch {report.epoch} are kept"
    )
    if report.scores:
        click.echo(score_table(report.scores))
    say_notes(report.notes)
