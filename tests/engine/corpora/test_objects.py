"""Examples in memory and data sets of the hub: what is read, and what is refused by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.catalogue import add_corpus, load_corpus, resolve_corpus
from layerlake.engine.corpora.hub import HubData, HubName, parse_hub_name
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.reading import Reading
from layerlake.engine.progress import to_function
from layerlake.store.errors import InvalidInput, MissingExtra, NameNotFound
from layerlake.store.lake import Lake, open_lake

COMMIT = "0123456789" * 4
SQUAD = {
    "question": "What burns?",
    "context": "Hay burns.",
    "answers": {"text": ["Hay"], "answer_start": [0]},
    "id": "q1",
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return open_lake(tmp_path / "lake", "a")


def refusal(source: Any, *args: Any, **options: Any) -> str:
    """Return the one sentence that a source is refused with."""
    with pytest.raises(InvalidInput) as caught:
        corpus_of_object(source, *args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lists(lake: Lake) -> None:
    add_corpus(lake, "texts", ["a b", "c"])
    add_corpus(lake, "pairs", [("a b", "c"), ["d", "e f"]])
    rows = [{"text": "a b", "topic": "x", "n": 1}, {"text": "c", "topic": "y", "n": 2}]
    add_corpus(lake, "rows", rows)
    assert rows[0] == {"text": "a b", "topic": "x", "n": 1}  # left as they were
    add_corpus(lake, "named", rows, text_field="topic", pair_field="text")
    words = [{"words": ["New York", "is"], "text": "other"}]
    add_corpus(lake, "words", words, words_field="words")
    assert load_corpus(lake, "texts").columns["id"].tolist() == ["example 1", "example 2"]
    assert load_corpus(lake, "pairs").texts == ["a b", "d"]
    assert load_corpus(lake, "pairs").pair_texts == ["c", "e f"]
    kept = load_corpus(lake, "rows")
    assert kept.columns["topic"].tolist() == ["x", "y"]
    assert kept.columns["n"].dtype == np.int64
    assert kept.columns["id"].tolist() == ["row 1", "row 2"]
    assert kept.source["format"] == "records"
    assert load_corpus(lake, "named").pair_texts == ["a b", "c"]
    assert load_corpus(lake, "words").word(0) == "New York"


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ([("a", "b"), ("c",)], {}, "example 2 of the list is 1 entries, expected a pair of texts"),
        ([("a", "b"), "c"], {}, "example 2 of the list is 'c', expected a pair"),
        ([("a", 3)], {}, "entry 0 of pair_texts is int, expected text"),
        (["a", ("b", "c")], {}, "entry 1 of texts is tuple, expected text"),
        ([{"text": "a"}, "b"], {}, "row 2 of the list is str, expected a dict as before"),
        ([{"text": "a"}, {}], {}, "row 2 of the list has no field 'text'"),
        ([{"body": "a"}], {}, "row 1 of the list has no field 'text'; its fields are: body"),
        ([{"text": "a", "x": object()}], {}, "the field 'x' of the list holds object"),
        ([{"text": "a"}], {"format": "text"}, "the format 'text' is for files; the list may have"),
        (["a"], {"text_field": "b"}, "text_field is for examples with named fields"),
        (["a"], {"format": "mnli"}, "format is for examples with named fields"),
        ([{"text": "a"}], {"format": "squad", "text_field": "a"}, "squad says what the texts are"),
        ([{"sentence1": "a", "sentence2": "b"}], {"format": "mnli"}, "no field 'gold_label'"),
        ([], {}, "the list holds no examples"),
        (3, {}, "a int is no corpus; give a file"),
        ({"text": ["a"]}, {}, "a dict is no corpus"),
        (b"text", {}, "a bytes is no corpus"),
        (
            [{**SQUAD, "answers": {"text": ["Hay"], "answer_start": [1]}}],
            {"format": "squad"},
            "'Ha",
        ),
        (
            [{**SQUAD, "answers": {"text": ["Hay"], "answer_start": []}}],
            {"format": "squad"},
            "1 an",
        ),
        ([{**SQUAD, "answers": ["Hay"]}], {"format": "squad"}, "'answers' at row 1 of the list is"),
    ],
)
def test_objects_refused(source: Any, options: dict[str, Any], said: str) -> None:
    assert said in refusal(source, **options)


def test_a_corpus_and_objects_take_no_options_of_files(lake: Lake) -> None:
    _, corpus = corpus_of_object(["a"])
    with pytest.raises(InvalidInput, match="text_field says how to read a source, and a Corpus is"):
        add_corpus(lake, "c", corpus, text_field="a")
    with pytest.raises(InvalidInput, match="segment is for the format wikitext"):
        add_corpus(lake, "c", ["a"], segment="paragraph")
    with pytest.raises(InvalidInput, match="a corpus that is no file needs a name"):
        add_corpus(lake, None, [{"text": "a"}])
    assert lake.corpora() == []


def test_squad_rows() -> None:
    none = {**SQUAD, "id": "q2", "answers": {"text": [], "answer_start": []}}
    _, corpus = corpus_of_object([SQUAD, none], "squad")
    assert (corpus.texts, corpus.pair_texts) == (["What burns?"] * 2, ["Hay burns."] * 2)
    assert corpus.columns["answer"].tolist() == ["Hay", ""]
    assert corpus.columns["answer_start"].tolist() == [0, -1]
    assert json.loads(corpus.columns["answers"][0]) == [{"text": "Hay", "answer_start": 0}]
    assert corpus.columns["id"].tolist() == ["q1", "q2"]


def test_data_frames(lake: Lake) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "text": ["a b", "c"],
            "score": [0.5, 1.5],
            "n": [1, 2],
            "day": pandas.to_datetime(["2020-01-01", "2021-01-01"]),
        },
        index=[7, 7],
    )
    add_corpus(lake, "frame", frame)
    corpus = load_corpus(lake, "frame")
    assert corpus.texts == ["a b", "c"]
    assert corpus.columns["score"].tolist() == [0.5, 1.5]
    assert corpus.columns["n"].dtype == np.int64
    assert json.loads(corpus.columns["day"][0]) == "2020-01-01T00:00:00"
    assert corpus.source["format"] == "dataframe"
    frame.loc[7, "text"] = None
    assert "field 'text' at row 1 of the DataFrame is" in refusal(frame)


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The `datasets` library, offline, with a cache of its own."""
    library = pytest.importorskip("datasets", reason="the data extra is not installed")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


def nli(library: Any) -> Any:
    """Return a small data set of NLI."""
    features = library.Features(
        {
            "premise": library.Value("string"),
            "hypothesis": library.Value("string"),
            "label": library.ClassLabel(names=["entailment", "neutral", "contradiction"]),
            "tags": library.Sequence(library.ClassLabel(names=["O", "B"])),
            "score": library.Value("float32"),
        }
    )
    columns = {
        "premise": ["A man sleeps.", "Two dogs run."],
        "hypothesis": ["He is awake.", "Cats."],
        "label": [2, -1],
        "tags": [[0, 1], []],
        "score": [0.5, 2.0],
    }
    return library.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("format", ["numpy", None])
def test_data_sets(lake: Lake, datasets: Any, streamed: bool, format: str | None) -> None:
    data = nli(datasets)
    if streamed:
        data = data.to_iterable_dataset()
    data = data.with_format(format)
    add_corpus(lake, "nli", data, text_field="premise", pair_field="hypothesis")
    corpus = load_corpus(lake, "nli")
    assert corpus.texts == ["A man sleeps.", "Two dogs run."]
    assert corpus.pair_texts == ["He is awake.", "Cats."]
    assert corpus.columns["label"].tolist() == ["contradiction", "-"]
    assert corpus.columns["label_id"].tolist() == [2, -1]
    assert [json.loads(tags) for tags in corpus.columns["tags"]] == [["O", "B"], []]
    assert corpus.columns["score"].tolist() == [0.5, 2.0]
    assert corpus.source["format"] == "dataset"
    add_corpus(lake, "same", data, format="snli")
    assert load_corpus(lake, "same").texts == corpus.texts
    assert load_corpus(lake, "same").source["without_consensus"] == 1


def test_a_data_set_that_knows_its_name_needs_none(lake: Lake, datasets: Any) -> None:
    data = datasets.Dataset.from_dict({"text": ["a b"]}, split="dev")
    with pytest.raises(InvalidInput, match="a corpus that is no file needs a name"):
        add_corpus(lake, None, data)
    data.info.dataset_name, data.info.config_name = "tiny", "default"
    assert add_corpus(lake, None, data) == "tiny-dev"
    source = load_corpus(lake, "tiny-dev").source
    assert (source["name"], source["config"], source["split"]) == ("tiny", "default", "dev")


def test_data_sets_refused(datasets: Any) -> None:
    data = nli(datasets)
    splits = datasets.DatasetDict({"train": data, "dev": data})
    assert "holds several splits (train, dev); give one of them, such as dataset['train']" in (
        refusal(splits)
    )
    assert "row 1 of the data set has no field 'text'" in refusal(data)
    assert "holds no examples" in refusal(data.select([]))
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    pictures = datasets.Dataset.from_dict({"text": ["a"], "image": [None]}, features=features)
    assert "the field 'image' of the data set holds Image" in refusal(pictures)


def test_a_data_set_is_extracted(lake: Lake, datasets: Any, small_bert: Path) -> None:
    from layerlake.engine.extraction.extract import extract

    told: list[Any] = []
    report = extract(
        lake,
        str(small_bert),
        nli(datasets),
        corpus_name="nli",
        text_field="premise",
        pair_field="hypothesis",
        packing="pair",
        progress=to_function(told.append),
    )
    assert report.corpus == "nli"
    assert load_corpus(lake, "nli").columns["label"].tolist() == ["contradiction", "-"]
    assert any("reading the data set" in str(event) for event in told)


# The hub


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf://org/set", HubName("org/set", None, None, None)),
        ("hf://datasets/org/set", HubName("org/set", None, None, None)),
        ("hf://org/set/part", HubName("org/set", "part", None, None)),
        ("hf://org/s-e_t.x:dev", HubName("org/s-e_t.x", None, "dev", None)),
        ("hf://o/s/2024.en:test_m@v1.0/x", HubName("o/s", "2024.en", "test_m", "v1.0/x")),
        ("hf://o/s@refs/pr/3", HubName("o/s", None, None, "refs/pr/3")),
    ],
)
def test_names_on_the_hub(source: str, name: HubName) -> None:
    assert parse_hub_name(source) == name


@pytest.mark.parametrize(
    "source", ["hf://", "hf://set", "hf://o/s/c/d", "hf://o/s@r:dev ", "hf://o/s:", "hf://o/s@"]
)
def test_no_names_on_the_hub(source: str) -> None:
    with pytest.raises(InvalidInput, match=r"write hf://ORG/NAME\[/CONFIG\]\[:SPLIT\]\[@REVISION"):
        HubData(source)


Cache = Callable[..., Path]


@pytest.fixture
def cache(datasets: Any, tmp_path: Path) -> Cache:
    """A function that lays splits of a data set `org/tiny` into the cache, as a load would."""
    import pyarrow as arrow

    def lay(commit: str = COMMIT, **splits: Any) -> Path:
        place = tmp_path / "cache" / "org___tiny" / "default" / "0.0.0" / commit
        place.mkdir(parents=True)
        for name, data in splits.items():
            table = data.data.table
            with (
                arrow.OSFile(str(place / f"tiny-{name}.arrow"), "wb") as file,
                arrow.ipc.new_stream(file, table.schema) as writer,
            ):
                writer.write_table(table)
        datasets.DatasetInfo(
            features=next(iter(splits.values())).features,
            builder_name="parquet",
            dataset_name="tiny",
            config_name="default",
            version="0.0.0",
            splits=[{"name": n, "num_examples": 2, "dataset_name": "tiny"} for n in splits],
        ).write_to_directory(str(place))
        return place

    return lay


def test_a_cached_data_set_is_read_offline(lake: Lake, datasets: Any, cache: Cache) -> None:
    cache(train=nli(datasets), dev=nli(datasets).select([1]))
    assert add_corpus(lake, None, "hf://org/tiny:dev", "snli") == "tiny-dev"
    corpus = load_corpus(lake, "tiny-dev")
    assert corpus.texts == ["Two dogs run."]
    assert corpus.columns["label"].tolist() == ["-"]
    about = {key: corpus.source[key] for key in ("format", "name", "config", "split", "revision")}
    assert about == {
        "format": "hf",
        "name": "org/tiny",
        "config": "default",
        "split": "dev",
        "revision": COMMIT,
    }
    with pytest.raises(InvalidInput, match=r"has the splits train, dev; name one, such as hf://or"):
        add_corpus(lake, "x", "hf://org/tiny")
    with pytest.raises(InvalidInput, match=r"Bad split: test"):
        add_corpus(lake, "x", "hf://org/tiny:test")
    with pytest.raises(InvalidInput, match="Available configs in the cache"):
        add_corpus(lake, "x", "hf://org/tiny/other:dev")
    with pytest.raises(InvalidInput, match=f"holds org/tiny at the revision {COMMIT}, not at v2"):
        add_corpus(lake, "x", "hf://org/tiny:dev@v2")
    with pytest.raises(InvalidInput, match=r"row 1 of hf://org/tiny:dev has no field 'text'"):
        add_corpus(lake, "x", "hf://org/tiny:dev")
    assert lake.corpora() == ["tiny-dev"]
    pinned = f"hf://org/tiny:train@{COMMIT}"
    add_corpus(lake, "pinned", pinned, text_field="premise")
    assert load_corpus(lake, "pinned").n_examples == 2


def test_the_same_request_is_not_read_twice(
    lake: Lake, datasets: Any, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(train=nli(datasets))
    name = "hf://org/tiny:train"
    add_corpus(lake, None, name, "snli")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("read again")

    monkeypatch.setattr(HubData, "read", never)
    found, corpus = resolve_corpus(lake, None, name, Reading("snli"))
    assert (found, corpus.n_examples) == ("tiny-train", 2)
    with pytest.raises(AssertionError, match="read again"):
        resolve_corpus(lake, None, name, Reading(text_field="premise"))
    with pytest.raises(AssertionError, match="read again"):
        resolve_corpus(lake, "other", name, Reading("snli"))


def test_what_is_not_in_the_cache_is_one_sentence(
    lake: Lake, datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "hf://org/none is not in the local cache of data sets, and the hub cannot be reached"
    with pytest.raises(InvalidInput, match=said):
        add_corpus(lake, "x", "hf://org/none")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "none").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="a folder org/none lies here"):
        add_corpus(lake, "x", "hf://org/none")
    with pytest.raises(NameNotFound, match="neither a file nor a corpus"):
        resolve_corpus(lake, None, "hf:/org/none", Reading())


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[data\]'"):
        HubData("hf://org/tiny")
