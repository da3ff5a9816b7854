"""`layerlake finetune`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from layerlake.analyses.finetuning.data import named_sources
from layerlake.analyses.finetuning.settings import KEEP
from layerlake.cli.completion import files, folders, formats, named_files, tasks
from layerlake.cli.options import json_option
from layerlake.cli.reading_options import field_options
from layerlake.cli.recipe_options import RECIPE, OfATask, recipe_options
from layerlake.cli.scored import (
    leads,
    progress_of_leader,
    say_notes,
    score_table,
    seconds_text,
    table,
)

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.report import FinetuneReport


@click.command(
    cls=OfATask,
    groups={
        "Data": (
            "train",
            "dev",
            "train_sample",
            "format",
            "text_field",
            "pair_field",
            "words_field",
        ),
        "Model": ("freeze", "truncate", "randomize", "trust_remote_code"),
        "Recipe": RECIPE,
        "Runs": ("out", "seed", "keep", "save_steps", "runs", "scheduler", "workers"),
        "Where": ("device", "memory", "token_budget"),
        "Output": ("as_json", "dry_run"),
    },
)
@click.argument("task", required=False, metavar="TASK", shell_complete=tasks)
@click.argument("model", required=False, metavar="MODEL", shell_complete=folders)
@click.option(
    "--train",
    multiple=True,
    metavar="FILE",
    shell_complete=files,
    help="Training data; repeat for several files, which are joined.",
)
@click.option(
    "--dev",
    multiple=True,
    metavar="[NAME=]FILE",
    shell_complete=named_files,
    help="Held-out data to score after every epoch; repeat for several.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    shell_complete=folders,
    help="Folder of the fine-tuned model; {seed} and {task} are replaced.",
)
@click.option(
    "--seed",
    default="0",
    show_default=True,
    metavar="LIST",
    help="Random seed of the head, the order of the data and dropout; 0-2 or 0,3,7 make a run for "
    "each.",
)
@click.option(
    "--freeze",
    type=int,
    default=-1,
    show_default=True,
    metavar="K",
    help="Freeze the embeddings and the lowest K blocks; -1 freezes nothing.",
)
@click.option(
    "--truncate",
    type=int,
    metavar="K",
    help="Keep the first K blocks and put the head on the last.",
)
@click.option(
    "--randomize", type=int, metavar="SEED", help="Start from random weights with this seed."
)
@click.option("--train-sample", metavar="N[@SEED]", help="Train on a random sample of N examples.")
@click.option(
    "--keep",
    type=click.Choice(KEEP),
    default=KEEP[0],
    show_default=True,
    help="Keep the weights of the last epoch, or of the one with the best held-out score.",
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
    help="Tokens per micro-batch: lower it to save memory (only the dropout masks change)  "
    "[default: 2048 on a CPU, 16384 on a GPU]",
)
@click.option(
    "--save-steps",
    type=int,
    metavar="N",
    help="Save the state every N updates  [default: every epoch and every ten minutes]",
)
@click.option(
    "--memory",
    metavar="BYTES",
    help="Memory limit for weights, gradients, moments, a micro-batch and the data  [default: "
    "8GiB on a CPU, the free memory of a GPU]",
)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu or cuda[:N].")
@click.option(
    "--trust-remote-code", is_flag=True, help="Allow code that comes with the model to run."
)
@click.option(
    "--runs",
    metavar="FILE",
    shell_complete=files,
    help="Read the runs from a TOML file, [defaults] and [[run]], instead of from this line.",
)
@click.option(
    "--scheduler",
    metavar="WHERE",
    help="Where several runs go: processes, or tcp://HOST:PORT of a Dask cluster  [default: one "
    "after another]",
)
@click.option(
    "--workers",
    type=int,
    help="Number of runs at a time  [default: one per GPU, core, or worker of the cluster]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Time a few updates and show what the runs would take; write nothing.",
)
@json_option()
@recipe_options
@click.pass_context
def finetune(
    context: click.Context,
    /,
    task: str | None,
    model: str | None,
    runs: str | None,
    scheduler: str | None,
    workers: int | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune MODEL (hub name or folder) for TASK: mnli, snli, squad, dep, classify or tag.

    Rerun the same command to resume after an interruption. The folder holds a model for
    `layerlake extract`, with its lineage, and a head for `layerlake evaluate`.
    `layerlake finetune TASK --help` shows the options of one task.

    \b
    Example:
      layerlake finetune mnli MODEL --train multinli_1.0_train.jsonl \\
          --dev matched=dev_matched.jsonl --dev mismatched=dev_mismatched.jsonl --out runs/mnli
      layerlake finetune snli MODEL --train snli_1.0_train.jsonl --dev snli_1.0_dev.jsonl \\
          --out runs/snli
      layerlake finetune squad MODEL --train train-v1.1.json --dev dev-v1.1.json \\
          --seed 0-2 --out 'runs/squad-s{seed}' --scheduler processes
      layerlake finetune dep MODEL --train en_ewt-ud-train.conllu --dev en_ewt-ud-dev.conllu \\
          --out runs/dep-frozen-8 --freeze 8 --keep best
      layerlake finetune classify MODEL --train train.tsv --label topic --out runs/topic --lr 1e-4
      layerlake finetune tag MODEL --train train.conllu --dev dev.conllu --label upos \\
          --out runs/upos
      layerlake finetune --runs runs.toml --scheduler tcp://HOST:8786

    On several devices: accelerate launch -m layerlake.cli finetune ...
    """
    if runs is not None:
        _refuse_others(context)
        from layerlake.analyses.finetuning.runs_file import read_runs

        every = read_runs(runs)
    else:
        every = _of_line(context, task, model, options)
    if dry_run:
        _forecast(every, as_json)
    elif len(every) == 1 and scheduler is None and workers is None:
        _run_one(every[0][1], as_json)
    else:
        _run_several(every, scheduler, workers, as_json)


_WITH_RUNS = ("runs", "scheduler", "workers", "dry_run", "as_json")


def _refuse_others(context: click.Context) -> None:
    """Refuse what a line says of a run where a file says it all."""
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if given is ParameterSource.COMMANDLINE and parameter.name not in _WITH_RUNS:
            raise click.UsageError(
                f"{parameter.get_error_hint(context)} is for a run of the line, and --runs names "
                "a file of runs; write it there"
            )


def _of_line(
    context: click.Context, task: str | None, model: str | None, options: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the runs of a line, each with the pattern of its folder."""
    from layerlake.analyses.runs.grid import by_seed

    given = {"task": task, "model": model, **options}
    for parameter in context.command.params:
        if parameter.name in ("task", "model", "train", "out") and not given[parameter.name]:
            raise click.MissingParameter(ctx=context, param=parameter)
    given["train"] = list(given["train"])
    given["dev"] = named_sources(given["dev"]) if given["dev"] else None
    return [(str(given["out"]), run) for run in by_seed(given, str(task))]


def _run_one(arguments: dict[str, Any], as_json: bool) -> None:
    """Do one run, and say what was done."""
    from layerlake.analyses.finetuning.finetune import finetune as finetune_model

    report = finetune_model(**arguments, progress=progress_of_leader())
    if not leads():
        return
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        _say(report)


def _run_several(
    every: list[tuple[str, dict[str, Any]]],
    scheduler: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Do several runs; say what was done in each, how seeds differ, and what failed."""
    from layerlake.analyses.finetuning.many_runs import finetune_many
    from layerlake.store.errors import RunsFailed

    speaks = leads()
    failures: tuple[Any, ...] = ()
    try:
        reports = finetune_many(
            [run for _, run in every],
            scheduler=scheduler,
            workers=workers,
            on_report=_say if speaks and not as_json else None,
            progress=progress_of_leader(),
        )
    except RunsFailed as error:
        reports, failures = list(error.reports), error.failures
    if speaks and as_json:
        failed = [{"folder": one.folder, "error": one.sentence} for one in failures]
        documents = [report.to_dict() for report in reports]
        click.echo(json.dumps({"runs": documents, "failed": failed}))
    elif speaks:
        _say_seeds({_folder(run): (pattern, _but_seed(run)) for pattern, run in every}, reports)
    for failure in failures:
        if failure.trace:
            click.echo(failure.trace, err=True)
        click.echo(f"error: {failure.folder}: {failure.sentence}", err=True)
    if failures:
        click.get_current_context().exit(1)


def _folder(run: dict[str, Any]) -> str:
    """Return the folder of a run as its report says it."""
    return str(Path(run["out"]).expanduser())


def _but_seed(run: dict[str, Any]) -> str:
    """Return all of a run but its seed and its folder."""
    return repr(sorted((key, run[key]) for key in run.keys() - {"seed", "out"}))


def _forecast(every: list[tuple[str, dict[str, Any]]], as_json: bool) -> None:
    """Say what runs would take."""
    from layerlake.analyses.finetuning.finetune import plan_finetune

    found = []
    for _, run in every:
        found.append(plan_finetune(**run, progress=progress_of_leader()))
        if leads() and not as_json:
            click.echo(found[-1].table())
            say_notes(found[-1].notes)
    if not leads():
        return
    if as_json:
        documents = [forecast.to_dict() for forecast in found]
        click.echo(json.dumps(documents[0] if len(documents) == 1 else {"runs": documents}))
        return
    if len(found) > 1:
        seconds = seconds_text(sum(forecast.seconds for forecast in found))
        click.echo(f"{len(found)} runs, about {seconds} one after another")
    click.echo("nothing was written")


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


def _say_seeds(kinds: dict[str, tuple[str, str]], reports: list[FinetuneReport]) -> None:
    """Print means over the seeds of runs that differ in nothing else.

    `kinds` has, for each folder, the pattern of its name and what its run is but for the seed.
    """
    values: dict[tuple[tuple[str, str], str, str], list[float]] = {}
    for report in reports:
        for data, scores in report.scores.items():
            for measure, value in scores.items():
                values.setdefault((kinds[report.folder], data, measure), []).append(value)
    rows = [
        (
            pattern,
            *named,
            str(len(found)),
            f"{100 * mean(found):.1f} %",
            f"{100 * stdev(found):.2f}",
        )
        for ((pattern, _), *named), found in values.items()
        if len(found) > 1
    ]
    if rows:
        click.echo("over seeds:")
        click.echo(table([("runs", "data", "measure", "n", "mean", "sd"), *rows]))
