"""Importing files that numpy, safetensors and h5py wrote: the same values, or one sentence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from layerlake.engine.catalogue import add_corpus, load_corpus
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts, string_array
from layerlake.engine.importing import import_activations
from layerlake.engine.progress import ProgressEvent, to_function
from layerlake.store.errors import InvalidInput, NameConflict, NameNotFound
from layerlake.store.external import external_writer as brought_module
from layerlake.store.external.external_rows import bare_corpus
from layerlake.store.external.external_writer import ActivationWriter
from layerlake.store.lake import Lake, open_lake
from layerlake.store.stored_space import load_rows
from layerlake.store.verify import verify

h5py = pytest.importorskip("h5py", reason="the hdf5 extra is not installed")

N, HIDDEN = 2500, 6
IDS = [f"image {number}" for number in range(N)]
CUBE = np.random.default_rng(0).standard_normal((3, N, HIDDEN)).astype("float32")
SENTENCES = [
    ["The", "harbour", "woke", "early"],
    ["Nobody", "told", "the", "gulls"],
    ["Nobody", "told", "the", "gulls"],
    ["Ünder", "a", "lamp"],
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return open_lake(tmp_path / "lake", "a")


@pytest.fixture
def corpus(lake: Lake, of_words: Callable[..., Corpus]) -> Corpus:
    """Four sentences with a tag a word, in the lake as `shore`."""
    bare = of_words(SENTENCES)
    tags = string_array(["N" if word[0].isupper() else "V" for s in SENTENCES for word in s])
    tagged = dataclasses.replace(bare, annotations={"upos": tags})
    add_corpus(lake, "shore", tagged)
    return tagged


@pytest.fixture
def words() -> list[Any]:
    """Activations of the sentences: (layers, tokens, hidden) each."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal((3, len(s), HIDDEN)).astype("float32") for s in SENTENCES]


@pytest.fixture
def sentences(tmp_path: Path, words: list[Any]) -> Callable[..., Path]:
    """A function that writes them as HDF5; the mapping is that of NeuroX."""

    def write(change: Callable[[Any], None] = lambda file: None, mapping: bool = True) -> Path:
        path = tmp_path / "words.hdf5"
        with h5py.File(path, "w") as file:
            for number, values in enumerate(words):
                file.create_dataset(str(number), data=values)
            if mapping:
                texts: dict[str, str] = {}
                for number, sentence in enumerate(SENTENCES):
                    text = " ".join(word.lower().replace("rb", "##rb") for word in sentence)
                    key, count = text, 1
                    while key in texts:
                        count += 1
                        key = f"{text} (Occurrence {count})"
                    texts[key] = str(number)
                held = file.create_dataset("sentence_to_index", (1,), h5py.string_dtype())
                held[0] = json.dumps(texts)
            change(file)
        return path

    return write


def held(lake: Lake, variant: str, layer: int, site: str = "resid", corpus: str = "images") -> Any:
    """Return all rows of a layer, from a sealed set."""
    return lake.space(corpus, variant, layer, site, sealed=True).rows(slice(None))


def test_bare_examples_make_the_corpus_that_the_engine_would_make(
    lake: Lake, of_words: Callable[..., Corpus]
) -> None:
    ids = ["a b", "ü", "image 3"]
    made = of_words([[name] for name in ids])
    made = dataclasses.replace(made, columns={"id": string_array(ids)}, source={"format": "ids"})
    columns, attributes = bare_corpus(ids)
    assert attributes["fingerprint"] == made.fingerprint
    with lake.writer("images", "vit", ids=ids) as writer:
        writer.append("resid", 0, CUBE[0, :3])
    kept = load_corpus(lake, "images")
    assert kept.fingerprint == made.fingerprint
    assert [kept.word(word) for word in range(3)] == ids
    for name, values in made.to_columns().items():
        assert columns[name].tolist() == values.tolist()
    state = lake.sets("images", "vit")[0]
    assert load_rows(lake.location, "images", state.plan.contents["row_set"]).unit == "example"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_npy_of_one_layer(lake: Lake, tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "layer.npy"
    np.save(path, CUBE[0].astype(dtype))
    report = import_activations(lake, path, "images", "vit", layers=8, ids=IDS)
    assert report.path == lake.sets("images", "vit")[0].plan.path
    assert (report.n_rows, report.hidden, report.n_read) == (N, HIDDEN, N)
    assert report.arrays == ("resid/8",)
    assert report.dtype == ("float16" if dtype == "float16" else "float32")
    assert held(lake, "vit", 8).dtype == report.dtype
    np.testing.assert_array_equal(held(lake, "vit", 8), CUBE[0].astype(dtype).astype(report.dtype))
    about = lake.sets("images", "vit")[0].plan
    assert about.recipe["source"]["file"] == "layer.npy"
    assert about.recipe["source"]["bytes"] == path.stat().st_size
    assert about.about["ids"] == "matched"
    assert verify(lake).findings == ()
    again = import_activations(lake, path, "images", "vit", layers=8, ids=IDS)
    assert (again.path, again.n_read) == (report.path, 0)


@pytest.mark.parametrize(
    ("numbering", "layers"),
    [
        ({"first_layer": 0}, {0: 0, 1: 1, 2: 2}),
        ({"first_layer": 1}, {1: 0, 2: 1, 3: 2}),
        ({"first_layer": 1, "layers": "2-3"}, {2: 1, 3: 2}),
        ({"layers": [0, 6, 12]}, {0: 0, 6: 1, 12: 2}),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_several_layers(
    lake: Lake, tmp_path: Path, numbering: Any, layers: dict[int, int], order: Any
) -> None:
    np.save(tmp_path / "cube.npy", np.asarray(CUBE, order=order))
    events: list[ProgressEvent] = []
    report = import_activations(
        lake,
        tmp_path / "cube.npy",
        "images",
        "vit",
        ids=IDS,
        window_rows=1024,
        progress=to_function(events.append),
        **numbering,
    )
    assert report.arrays == tuple(f"resid/{layer}" for layer in layers)
    for layer, place in layers.items():
        np.testing.assert_array_equal(held(lake, "vit", layer), CUBE[place])
    assert (events[-1].state, events[-1].done) == ("finished", N * len(layers))


def test_an_import_that_stops_goes_on(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "cube.npy", CUBE)
    options: Any = {"first_layer": 0, "ids": IDS, "window_rows": 1024}
    real = brought_module.SetWriter.write_array
    calls = 0

    def stops(*arguments: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == 5:  # three arrays of a window and one of the next are down
            raise RuntimeError("stopped here")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(brought_module.SetWriter, "write_array", stops)
        with pytest.raises(RuntimeError):
            import_activations(lake, tmp_path / "cube.npy", "images", "vit", **options)
    assert lake.sets()[0].committed.tolist() == [True, False, False]
    np.save(tmp_path / "cube2.npy", CUBE)
    with pytest.raises(NameConflict, match="begun in another way"):
        import_activations(lake, tmp_path / "cube2.npy", "images", "vit", **options)
    report = import_activations(lake, tmp_path / "cube.npy", "images", "vit", **options)
    assert report.n_read == N - 1024
    for layer in range(3):
        np.testing.assert_array_equal(held(lake, "vit", layer), CUBE[layer])


@pytest.mark.parametrize(
    ("names", "arrays"),
    [
        (["0", "1", "2"], ["resid/1", "resid/2", "resid/3"]),
        (["layer_0", "layer_10", "layer_2"], ["resid/1", "resid/11", "resid/3"]),
        (["layers.0", "layer5", "hidden_states.7"], ["resid/1", "resid/6", "resid/8"]),
        (["resid.8", "mlp_out.8", "attn_out/layer_8"], ["resid/9", "mlp_out/9", "attn_out/9"]),
        (["h.1", "blocks-2", "block/3"], ["resid/2", "resid/3", "resid/4"]),
    ],
)
def test_names_of_tensors(lake: Lake, tmp_path: Path, names: list[str], arrays: list[str]) -> None:
    path = tmp_path / "layers.safetensors"
    save_file(dict(zip(names, CUBE, strict=True)), path)
    report = import_activations(lake, path, "images", "vit", first_layer=1, ids=IDS)
    assert sorted(report.arrays) == sorted(arrays)
    for array, values in zip(arrays, CUBE, strict=True):
        site, _, layer = array.rpartition("/")
        np.testing.assert_array_equal(held(lake, "vit", int(layer), site), values)


def test_tensors_that_are_mapped_or_chosen_or_stacked(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"emb": CUBE[0], "x=y": CUBE[1], "labels": np.arange(N)}, path)
    mapping = {"emb": "0", "x=y": "mlp_out/3"}
    report = import_activations(lake, path, "images", "mapped", mapping=mapping, ids=IDS)
    assert report.arrays == ("resid/0", "mlp_out/3")
    np.testing.assert_array_equal(held(lake, "mapped", 3, "mlp_out"), CUBE[1])
    path = tmp_path / "layers.safetensors"
    save_file({f"layer_{layer}": CUBE[layer] for layer in range(3)}, path)
    report = import_activations(
        lake, path, "images", "chosen", layers="0,2", first_layer=0, ids=IDS
    )
    assert report.arrays == ("resid/0", "resid/2")
    np.testing.assert_array_equal(held(lake, "chosen", 2), CUBE[2])
    path = tmp_path / "cube.safetensors"
    save_file({"hidden_states": CUBE}, path)
    import_activations(lake, path, "images", "stacked", first_layer=0, ids=IDS)
    for layer in range(3):
        np.testing.assert_array_equal(held(lake, "stacked", layer), CUBE[layer])


def test_bfloat16_tensors_keep_every_bit(lake: Lake, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    tensor = torch.from_numpy(CUBE[0]).bfloat16()
    save_tensors({"layer_0": tensor}, tmp_path / "half.safetensors")
    path = tmp_path / "half.safetensors"
    report = import_activations(
        lake, path, "images", "vit", first_layer=0, ids=IDS, window_rows=1024
    )
    assert report.dtype == "float32"
    np.testing.assert_array_equal(held(lake, "vit", 0), tensor.float().numpy())


def test_words_of_sentences(
    lake: Lake, corpus: Corpus, words: list[Any], sentences: Callable[..., Path]
) -> None:
    every = np.concatenate(words, axis=1)
    for variant, mapping in (("neurox", True), ("probes", False)):
        report = import_activations(
            lake, sentences(mapping=mapping), "shore", variant, first_layer=0, pooling="last"
        )
        assert (report.unit, report.n_rows, report.hidden) == ("word", 15, HIDDEN)
        for layer in range(3):
            np.testing.assert_array_equal(held(lake, variant, layer, corpus="shore"), every[layer])
    assert lake.sets("shore", "neurox")[0].plan.contents["pooling"] == "last"
    import_activations(
        lake,
        sentences(),
        "shore",
        "nouns",
        first_layer=1,
        layers=2,
        pooling="last",
        rows="where upos=N",
    )
    (state,) = lake.sets("shore", "nouns")
    assert state.plan.contents["rows"] == "where upos=N"
    rows = load_rows(lake.location, "shore", state.plan.contents["row_set"])
    assert rows.row_word.tolist() == [0, 4, 8, 12]
    np.testing.assert_array_equal(held(lake, "nouns", 2, corpus="shore"), every[1][[0, 4, 8, 12]])
    assert verify(lake).findings == ()


def test_one_layer_a_sentence_and_long_corpora_that_stop(
    lake: Lake, tmp_path: Path, of_words: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 9, 600).tolist()
    add_corpus(lake, "long", of_words([["w"] * length for length in lengths]))
    values = rng.standard_normal((sum(lengths), 4)).astype("float16")
    with h5py.File(tmp_path / "top.hdf5", "w") as file:
        for number, part in enumerate(np.split(values, np.cumsum(lengths)[:-1])):
            file.create_dataset(str(number), data=part)
    options: Any = {"layers": 12, "pooling": "mean", "window_rows": 1024}
    real = brought_module.SetWriter.write_array
    monkeypatch.setattr(
        brought_module.SetWriter,
        "write_array",
        lambda self, window, *rest: 1 / 0 if window == 1 else real(self, window, *rest),
    )
    with pytest.raises(ZeroDivisionError):
        import_activations(lake, tmp_path / "top.hdf5", "long", "elmo", **options)
    monkeypatch.undo()
    report = import_activations(lake, tmp_path / "top.hdf5", "long", "elmo", **options)
    assert (report.n_read, report.dtype) == (len(values) - 1024, "float16")
    np.testing.assert_array_equal(held(lake, "elmo", 12, corpus="long"), values)


def test_rows_that_an_array_is_of(lake: Lake, corpus: Corpus, tmp_path: Path) -> None:
    np.save(tmp_path / "nouns.npy", CUBE[0, :4])
    options: Any = {"layers": 0, "unit": "word", "pooling": "mean"}
    import_activations(
        lake, tmp_path / "nouns.npy", "shore", "nouns", rows="where upos=N", **options
    )
    np.testing.assert_array_equal(held(lake, "nouns", 0, corpus="shore"), CUBE[0, :4])
    with pytest.raises(InvalidInput, match=r"has 4 rows, and there are 15 words .* \(all\)"):
        import_activations(lake, tmp_path / "nouns.npy", "shore", "all", **options)
    import_activations(lake, tmp_path / "nouns.npy", "shore", "whole", layers=0, unit="example")
    assert lake.sets("shore", "whole")[0].plan.about["ids"] == "by order"
    (tmp_path / "ids.txt").write_text("ex-0\nex-1\nex-2\nex-3\n")
    report = import_activations(
        lake, tmp_path / "nouns.npy", "shore", "named", layers=0, ids=tmp_path / "ids.txt"
    )
    assert report.unit == "example"


def test_a_dry_run_looks_and_writes_nothing(lake: Lake, tmp_path: Path) -> None:
    np.save(tmp_path / "layer.npy", CUBE[0])
    path = tmp_path / "layer.npy"
    report = import_activations(lake, path, "images", "vit", layers=8, ids=IDS, dry_run=True)
    assert (report.path, report.n_read, report.n_bytes) == (None, 0, N * HIDDEN * 4)
    assert not (tmp_path / "lake").exists()


def unpicklable(path: Path) -> Path:
    """Write a .npy of Python objects that would leave a file behind if it were unpickled."""

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (path.with_suffix(".opened"),)

    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    return path


def test_nothing_is_ever_unpickled(lake: Lake, tmp_path: Path) -> None:
    path = unpicklable(tmp_path / "trap.npy")
    with pytest.raises(InvalidInput, match="holds Python objects, which are never unpickled"):
        import_activations(lake, path, "images", "vit", layers=0, ids=IDS)
    assert not path.with_suffix(".opened").exists()


def archive(path: Path) -> None:
    """Write an .npz."""
    with path.open("wb") as file:
        np.savez(file, CUBE[0])


def cut(path: Path, share: float) -> Path:
    """Cut a file short."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return path


@pytest.mark.parametrize(
    ("write", "options", "said"),
    [
        (lambda p: np.save(p, CUBE[0]), {}, "nothing says which layer layer.npy is"),
        (lambda p: np.save(p, CUBE), {}, "holds 3 layers and does not say which: give --first-"),
        (lambda p: np.save(p, CUBE), {"layers": "0,1"}, "3 layers, and 2 numbers were given"),
        (
            lambda p: np.save(p, CUBE),
            {"layers": "0,4", "first_layer": 0},
            "layer 4 asked of layer.npy, which holds 0, 1, 2",
        ),
        (lambda p: np.save(p, CUBE), {"first_layer": -1}, "first_layer is -1"),
        (lambda p: np.save(p, CUBE), {"layers": "x"}, "layers 'x' not understood"),
        (lambda p: np.save(p, CUBE[0, 0]), {"layers": 0}, r"has shape \(6,\); expected"),
        (lambda p: np.save(p, CUBE[None]), {"layers": 0}, r"has shape \(1, 3, 2500, 6\)"),
        (lambda p: np.save(p, CUBE[0].astype(int)), {"layers": 0}, "holds int64; give floats"),
        (lambda p: np.save(p, CUBE[0, :0]), {"layers": 0}, "holds 0 rows of 6 values"),
        (lambda p: np.save(p, CUBE[0, :99]), {"layers": 0}, "99 rows, and there are 2500 examples"),
        (lambda p: (np.save(p, CUBE[0]), cut(p, 0.9)), {"layers": 0}, "cut short or damaged"),
        (lambda p: (np.save(p, CUBE[0]), cut(p, 0.0002)), {"layers": 0}, "cut short|no .npy"),
        (lambda p: p.write_bytes(b""), {"layers": 0}, "is no .npy, .safetensors or HDF5 file"),
        (lambda p: p.write_bytes(b"\x80\x04K\x01."), {"layers": 0}, "a pickle .* is not opened"),
        (
            archive,
            {"layers": 0},
            r"an archive \(.npz, .pt\), which is not opened",
        ),
        (
            lambda p: np.save(p, np.where(CUBE[0] == CUBE[0, 7, 3], np.nan, CUBE[0])),
            {"layers": 0},
            r"resid/0, row 7 \(example 'image 7'\): NaN or infinite",
        ),
        (
            lambda p: np.save(p, CUBE[0] * 1e6),
            {"layers": 0, "store_dtype": "float16"},
            "does not fit float16",
        ),
        (lambda p: np.save(p, CUBE[0]), {"layers": 0, "mapping": {"a": "1"}}, "--map is for ten"),
        (lambda p: np.save(p, CUBE[0]), {"layers": 0, "rows": "last"}, "rows need a unit"),
        (lambda p: np.save(p, CUBE[0]), {"layers": 0, "ids": IDS[:9]}, "there are 9 examples"),
        (lambda p: save_file({"a": CUBE[0]}, p), {}, r"names give no layer \(a\)"),
        (lambda p: save_file({"1": CUBE[0]}, p), {}, "of its own convention: give --first-layer"),
        (lambda p: save_file({"1": CUBE[0]}, p), {"layers": "1"}, "of its own convention"),
        (
            lambda p: save_file({"1": CUBE[0]}, p),
            {"layers": "9", "first_layer": 0},
            "layer 9 asked of layer.npy, which holds 1",
        ),
        (
            lambda p: save_file({"1": CUBE[0], "layer_1": CUBE[1]}, p),
            {"first_layer": 0},
            "has more than one resid/1; say which with --map",
        ),
        (
            lambda p: save_file({"1": CUBE[0], "2": CUBE[1, :9]}, p),
            {"first_layer": 0},
            "differ in shape",
        ),
        (
            lambda p: save_file({"1": CUBE[0], "2": CUBE[1].astype("float16")}, p),
            {"first_layer": 0},
            "come as F16, F32",
        ),
        (lambda p: save_file({"1": CUBE, "2": CUBE}, p), {"first_layer": 0}, "tensor '1' of"),
        (
            lambda p: save_file({"1": CUBE[0].astype("int32")}, p),
            {"first_layer": 0},
            "tensor '1' of layer.npy is I32; expected floats",
        ),
        (lambda p: save_file({}, p), {"first_layer": 0}, "holds no tensors"),
        (
            lambda p: (save_file({"1": CUBE[0]}, p), cut(p, 0.9)),
            {"first_layer": 0},
            "damaged or cut short: its header does not fit",
        ),
        (
            lambda p: (save_file({"1": CUBE[0]}, p), cut(p, 0.0005)),
            {"first_layer": 0},
            "damaged or cut short",
        ),
        (
            lambda p: save_file({"a": CUBE[0]}, p),
            {"mapping": {"b": "0"}},
            "has no tensor 'b'; it has a",
        ),
        (lambda p: save_file({"a": CUBE[0]}, p), {"mapping": {"a": "x"}}, "mapped to 'x'; give"),
        (
            lambda p: save_file({"a": CUBE[0]}, p),
            {"mapping": {"a": "0"}, "layers": 0},
            "--map names our layers itself",
        ),
    ],
)
def test_files_that_are_refused(
    lake: Lake, tmp_path: Path, write: Callable[[Path], Any], options: Any, said: str
) -> None:
    path = tmp_path / "layer.npy"
    write(path)
    with pytest.raises(InvalidInput, match=said):
        import_activations(lake, path, "images", "vit", **{"ids": IDS, **options})
    assert lake.variants() == []
    assert lake.corpora() == []


def replaced(key: str, values: Any) -> Callable[[Any], None]:
    """Return a change of an HDF5 file: another dataset under a key, or none."""

    def change(file: Any) -> None:
        if key in file:
            del file[key]
        if values is not None:
            file.create_dataset(key, data=values)

    return change


def moved(file: Any) -> None:
    """Number sentences from 1."""
    for number in reversed(range(4)):
        file.move(str(number), str(number + 1))


def linked(file: Any) -> None:
    """Put a link to another file in the place of a sentence."""
    del file["2"]
    file["2"] = h5py.ExternalLink("/etc/hostname", "/2")


WIDE = np.zeros((3, 4, HIDDEN), "float32")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced("1", WIDE[:, :3]), r"sentence 1 of .*'ex-1'\) has 3 tokens, and .* has 4 words"),
        (replaced("1", WIDE[:2]), "sentence 1 .* has 2 layers of 6 values, where .* have 3 of 6"),
        (replaced("3", WIDE[:, :3, :5]), "sentence 3 .* has 3 layers of 5 values"),
        (replaced("0", WIDE[0, 0]), r"sentence 0 .* has shape \(6,\) of float32; expected floats"),
        (replaced("0", WIDE.astype(int)), "of int64; expected floats"),
        (replaced("2", None), "holds 3 sentences, and the corpus has 4"),
        (replaced("4", WIDE), "holds 5 sentences, and the corpus has 4"),
        (replaced("layer_1", WIDE), "is no file of sentences: .* found layer_1"),
        (moved, "are numbered from 1; expected 0 to 3"),
        (linked, "sentence 2 of words.hdf5 is no dataset in this file"),
        (replaced("sentence_to_index", ["[1]"]), "is no JSON object from sentence to number"),
        (replaced("sentence_to_index", ['{"a b": "9"}']), "names sentence 9, which is not there"),
        (
            replaced("sentence_to_index", ['{"we sail at once": "0"}']),
            "sentence 0 of .* reads 'we sail at once', and example 'ex-0' .* 'The harbour woke",
        ),
        (replaced("0", np.full_like(WIDE, np.nan)), r"row 0 \(word 0 of example 'ex-0'\): NaN"),
    ],
)
def test_sentences_that_are_refused(
    lake: Lake,
    corpus: Corpus,
    sentences: Callable[..., Path],
    change: Callable[[Any], None],
    said: str,
) -> None:
    path = sentences(change)
    with pytest.raises(InvalidInput, match=said):
        import_activations(lake, path, "shore", "neurox", first_layer=0, pooling="last")
    assert lake.variants() == []


def test_what_sentences_need(
    lake: Lake, corpus: Corpus, sentences: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sentences()
    for options, said in [
        ({"first_layer": 0}, "nothing says how the rows of words were made of pieces"),
        ({"pooling": "last"}, "holds 3 layers and does not say which"),
        ({"pooling": "last", "first_layer": 0, "ids": IDS}, "without ids"),
        ({"pooling": "last", "first_layer": 0, "unit": "example"}, "with the unit word"),
        ({"pooling": "last", "first_layer": 0, "rows": "where upos=X"}, "select none"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            import_activations(lake, path, "shore", "neurox", **options)
    with pytest.raises(NameNotFound, match=r"no corpus 'shor' .* did you mean shore"):
        import_activations(lake, path, "shor", "neurox", first_layer=0, pooling="last")
    with pytest.raises(InvalidInput, match="there is no file"):
        import_activations(lake, path.parent / "no.hdf5", "shore", "neurox")
    with pytest.raises(InvalidInput, match="a lake is needed"):
        import_activations("lake", path, "shore", "neurox")  # type: ignore[arg-type]
    cut(path, 0.7)
    with pytest.raises(InvalidInput, match=r"words.hdf5 cannot be opened: it is cut short"):
        import_activations(lake, path, "shore", "neurox", first_layer=0, pooling="last")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 600)
    with pytest.raises(InvalidInput, match=r"words.hdf5 cannot be opened: HDF5 says"):
        import_activations(lake, path, "shore", "neurox", first_layer=0, pooling="last")
    assert lake.variants() == []


def test_words_of_raw_texts_are_whitespace_tokens(lake: Lake, tmp_path: Path) -> None:
    add_corpus(lake, "raw", corpus_from_texts(["don't  go", "now"]))
    with h5py.File(tmp_path / "raw.hdf5", "w") as file:
        file.create_dataset("0", data=CUBE[:, :2])
        file.create_dataset("1", data=CUBE[:, 2:3])
    import_activations(lake, tmp_path / "raw.hdf5", "raw", "elmo", first_layer=0, pooling="mean")
    np.testing.assert_array_equal(held(lake, "elmo", 2, corpus="raw"), CUBE[2, :3])


def test_rows_by_number_go_on_after_an_interruption(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(3000 * 2, dtype="float32").reshape(3000, 2)
    np.save(tmp_path / "rows.npy", values)
    asked = {"layers": 4, "window_rows": 1024}
    append = ActivationWriter.append

    def stop(self: ActivationWriter, site: str, layer: int, rows: Any, **more: Any) -> None:
        if self.position >= 2048:
            raise KeyboardInterrupt
        append(self, site, layer, rows, **more)

    monkeypatch.setattr(ActivationWriter, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        import_activations(lake, tmp_path / "rows.npy", "numbers", "net", **asked)
    monkeypatch.undo()
    report = import_activations(lake, tmp_path / "rows.npy", "numbers", "net", **asked)
    assert (report.n_read, report.made_corpus) == (3000 - 2048, None)
    np.testing.assert_array_equal(lake.space("numbers", "net", 4).rows(slice(None)), values)
    with lake.writer("numbers", "other", layers=0) as writer:  # a row is an example here
        writer.append("resid", 0, values)
    assert lake.space("numbers", "other", 0).shape == (3000, 2)
    with pytest.raises(InvalidInput, match="the ids do not match corpus 'numbers': example 0"):
        lake.writer("numbers", "third", ids=range(1, 3001), layers=0)
