"""`layerlake bench`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from layerlake.bench.suites import (
    RSA_WORKLOADS,
    SIMILARITY_WORKLOADS,
    Conditions,
    RsaSuite,
    SimilaritySuite,
)
from layerlake.cli.completion import files
from layerlake.cli.options import CODEC, KnownChoice, json_option

if TYPE_CHECKING:
    from layerlake.bench.measuring import BenchResult

Suite = TypeVar("Suite", RsaSuite, SimilaritySuite)

CONDITIONS, RSA, SIMILARITY = Conditions(), RsaSuite(), SimilaritySuite()
"""What is measured where a line says nothing else."""
RSA_MEMORY = "1GiB"
"""Allowed to LayerLake by the suite rsa, whose lake is to be larger."""


@click.group()
def bench() -> None:
    """Measure LayerLake against named baselines in the same run.

    \b
    Example:
      layerlake bench rsa
      layerlake bench similarity
      layerlake bench extract MODEL wiki.raw.gz --format wikitext
      layerlake bench finetune
      layerlake bench store
    """


def _say(result: BenchResult, as_json: bool) -> None:
    click.echo(result.to_json() if as_json else result.table())


_PEERS = (
    click.option(
        "--hidden", type=click.IntRange(min=1), default=CONDITIONS.hidden, show_default=True
    ),
    click.option(
        "--mean-cosine",
        type=click.FloatRange(0, 1, max_open=True),
        default=CONDITIONS.mean_cosine,
        show_default=True,
        help="Between two rows of a space.",
    ),
    click.option(
        "--repeats", type=click.IntRange(min=1), default=CONDITIONS.repeats, show_default=True
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=CONDITIONS.threads,
        show_default=True,
        help="Of products and the like.",
    ),
    click.option(
        "--device", default=CONDITIONS.device, show_default=True, help="auto, cpu, cuda or cuda:N."
    ),
    click.option(
        "--peers/--no-peers",
        default=CONDITIONS.peers,
        show_default=True,
        help="Measure others too.",
    ),
    click.option(
        "--rsatoolbox",
        metavar="PYTHON",
        help="A Python that rsatoolbox is installed for  [default: this one, if it is]",
    ),
    click.option(
        "--thingsvision",
        metavar="PYTHON",
        help="The same for thingsvision  [default: else its formulas, re-stated]",
    ),
    click.option("--folder", metavar="PATH", help="For the files  [default: the temporary folder]"),
    click.option(
        "--plot",
        metavar="FILE",
        shell_complete=files,
        help="Draw time and memory: .png, .svg or .pdf.",
    ),
    json_option(),
)


def _with_peers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of suites that run methods in processes of their own."""
    for option in reversed(_PEERS):
        function = option(function)
    return function


def _measure(
    run: Callable[[Suite, Conditions], BenchResult],
    suite: Suite,
    conditions: Conditions,
    plot: str | None,
    as_json: bool,
) -> None:
    """Run a suite, say what came of it and draw it."""
    from layerlake.analyses.figures.files import check_figure

    if plot is not None:
        check_figure(plot)  # or minutes of measuring would end in a refusal
    result = run(suite, conditions)
    _say(result, as_json)
    if plot is not None:
        from layerlake.bench.figures import draw

        draw(result, plot)


@bench.command()
@click.option(
    "--rows",
    "n_rows",
    type=click.IntRange(min=20),
    multiple=True,
    default=RSA.n_rows,
    show_default=True,
    help="Rows in memory; give it several times for several.",
)
@click.option(
    "--growth",
    type=click.IntRange(min=20),
    multiple=True,
    default=RSA.growth,
    show_default=True,
    help="Rows read from a lake; give it several times for several.",
)
@click.option(
    "--star",
    type=click.IntRange(min=1),
    default=RSA.star,
    show_default=True,
    help="How many spaces one is compared with.",
)
@click.option(
    "--workload",
    "workloads",
    type=click.Choice(RSA_WORKLOADS),
    multiple=True,
    default=RSA.workloads,
    show_default=True,
    help="What to measure; give it several times for several.",
)
@click.option("--memory", default=RSA_MEMORY, show_default=True, help="Allowed to LayerLake.")
@_with_peers
def rsa(plot: str | None, as_json: bool, **settings: Any) -> None:
    """RSA of generated spaces against rsatoolbox, thingsvision, numpy, scipy and torch.

    One pair of spaces and one with many, in memory; and one pair from a lake of up to a million
    rows, which takes 4 bytes a row and hidden on disk and is deleted afterwards. All of it takes
    some minutes and 12 GiB of memory, most of it for others at 20,000 rows.

    \b
    Example:
      layerlake bench rsa --rsatoolbox ~/peers/bin/python --plot rsa.png
      layerlake bench rsa --workload pair --rows 2000 --rows 5000 --json
      layerlake bench rsa --workload growth --growth 1000000 --no-peers
    """
    from layerlake.analyses.questions.choice import filled
    from layerlake.bench.rsa import run

    _measure(run, filled(RsaSuite, settings), filled(Conditions, settings), plot, as_json)


@bench.command()
@click.option(
    "--rows",
    "n_rows",
    type=click.IntRange(min=20),
    default=SIMILARITY.n_rows,
    show_default=True,
    help="Rows of the two spaces that are compared by every measure.",
)
@click.option(
    "--spaces",
    type=click.IntRange(min=2),
    multiple=True,
    default=SIMILARITY.spaces,
    show_default=True,
    help="Of all pairs; give it several times for several.",
)
@click.option(
    "--all-pairs-rows",
    type=click.IntRange(min=20),
    default=SIMILARITY.all_pairs_rows,
    show_default=True,
    help="Rows of the spaces that are all compared with each other.",
)
@click.option(
    "--workload",
    "workloads",
    type=click.Choice(SIMILARITY_WORKLOADS),
    multiple=True,
    default=SIMILARITY.workloads,
    show_default=True,
    help="What to measure; give it several times for several.",
)
@click.option(
    "--neighbours", type=click.IntRange(min=1), default=SIMILARITY.neighbours, show_default=True
)
@click.option(
    "--resamples", type=click.IntRange(min=1), default=SIMILARITY.resamples, show_default=True
)
@click.option(
    "--resamples-run",
    type=click.IntRange(min=1),
    default=SIMILARITY.resamples_run,
    show_default=True,
    help="How many of them others run; they are charged for all.",
)
@click.option(
    "--memory", default=CONDITIONS.memory, show_default=True, help="Allowed to LayerLake."
)
@_with_peers
def similarity(plot: str | None, as_json: bool, **settings: Any) -> None:
    """All pairs, ranks, CKA, neighbours and resamples of generated spaces against others.

    Against rsatoolbox, thingsvision, numpy, scipy, torch, and the formulas of platonic-rep and
    ReSi.

    \b
    Example:
      layerlake bench similarity --rsatoolbox ~/peers/bin/python --plot similarity.png
      layerlake bench similarity --workload spearman --workload kendall --rows 2000 --json
    """
    from layerlake.analyses.questions.choice import filled
    from layerlake.bench.similarity import run

    _measure(run, filled(SimilaritySuite, settings), filled(Conditions, settings), plot, as_json)


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
def extract(model: str | None, corpus: str | None, as_json: bool, **settings: Any) -> None:
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
            **settings,
        )
    _say(result, as_json)


@bench.command()
@click.argument("model", required=False)
@click.option(
    "--task",
    "tasks",
    type=click.Choice(["mnli", "squad"]),
    multiple=True,
    default=("mnli", "squad"),
    show_default=True,
    help="What to train; give it several times for several.",
)
@click.option("--mnli", metavar="FILE", shell_complete=files, help="Pairs  [default: generated]")
@click.option(
    "--squad", metavar="FILE", shell_complete=files, help="Questions  [default: generated]"
)
@click.option(
    "--examples", "n_examples", type=click.IntRange(min=1), default=320, show_default=True
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of torch  [default: one a core]")
@click.option(
    "--memory/--no-memory",
    default=True,
    show_default=True,
    help="Also the peak memory of each method, in a process of its own.",
)
@json_option()
def finetune(model: str | None, as_json: bool, **settings: Any) -> None:
    """An epoch of fine-tuning against the Trainer of transformers, on the CPU.

    MODEL is that of the demo where it is not given.

    \b
    Example:
      layerlake bench finetune
      layerlake bench finetune MODEL --task squad --squad train-v1.1.json --examples 500
    """
    from layerlake.bench.finetune import run
    from layerlake.cli.demo import model_folder

    _say(run(model or str(model_folder()), **settings), as_json)


@bench.command()
@click.option("--rows", type=click.IntRange(min=1), default=200_000, show_default=True)
@click.option("--hidden", type=click.IntRange(min=1), default=768, show_default=True)
@click.option("--scattered", type=click.IntRange(min=1), default=5000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--dtype",
    type=KnownChoice("layerlake.store.schema", "STORE_DTYPES"),
    default="float16",
    show_default=True,
)
@click.option(
    "--codec",
    "codecs",
    type=CODEC,
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

    Also whole examples of seven layers in a shuffled order, against reading the same bytes from
    start to end; and words pooled from pieces as they are read, against the words in a set of their
    own and numpy by hand. Takes up to eighteen times the layer in memory, mapped files included,
    and thirteen times on disk.

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
