"""Rows are those of each text alone, whatever a model makes of padding and of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.batching_check import ALONE, LENGTHS, PADDED, SAME_LENGTH
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import Lake, open_lake
from layerlake.store.writer import SetWriter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZE = {
    "vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
    "num_hidden_layers": 2,
}  # fmt: skip
MOBILE = {
    "intermediate_size": 32, "embedding_size": 16, "intra_bottleneck_size": 16,
    "true_hidden_size": 16, "num_feedforward_networks": 2,
}  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", "a")


@pytest.fixture
def tokenizer(small_bert: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(small_bert, local_files_only=True)


@pytest.fixture
def texts(tokenizer: Any) -> list[str]:
    """Texts of 1 to 24 words; some are of one length, and some so near that they share a batch."""
    known = [word for word in tokenizer.get_vocab() if word.isalpha()]
    generator = np.random.default_rng(0)
    lengths = [1, 3, 3, 7, 7, 22, 23, 23, 24, 5]
    return [" ".join(generator.choice(known, length)) for length in lengths]


def made(kind: str, vocabulary: int) -> Any:
    size = {**SIZE, "vocab_size": vocabulary}
    builds: dict[str, Callable[[], Any]] = {
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**size)),
        "mobilebert": lambda: transformers.MobileBertModel(
            transformers.MobileBertConfig(**{**size, **MOBILE})
        ),
        "convbert": lambda: transformers.ConvBertModel(
            transformers.ConvBertConfig(**size, embedding_size=32)
        ),
        "yoso": lambda: transformers.YosoModel(transformers.YosoConfig(**size)),
        "fnet": lambda: transformers.FNetModel(transformers.FNetConfig(**size)),
    }
    torch.manual_seed(0)
    module = builds[kind]()
    for weights in module.parameters():
        torch.nn.init.normal_(weights, 0, 0.2)
    return module.eval()


def alone(module: Any, tokenizer: Any, texts: list[str], layer: int) -> Any:
    """Return the outputs of a block, each text run by itself, in plain transformers."""
    with torch.no_grad():
        return np.concatenate(
            [
                module(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
                .hidden_states[layer][0]
                .numpy()
                for text in texts
            ]
        )


def batching(lake: Lake, path: str) -> str:
    (recipe,) = [state.plan.recipe for state in lake.sets() if state.plan.path == path]
    return str(recipe.get("batching", PADDED))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", PADDED),
        ("mobilebert", SAME_LENGTH),
        ("convbert", SAME_LENGTH),
        ("yoso", SAME_LENGTH),
        ("fnet", SAME_LENGTH),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_rows_are_those_of_each_text_alone(
    kind: str, expected: str, lake: Lake, tokenizer: Any, texts: list[str]
) -> None:
    module = made(kind, len(tokenizer))
    report = extract(
        lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c", layers="1",
        store_dtype="float32",
    )  # fmt: skip
    assert batching(lake, report.path) == expected
    assert any("Padding changes" in note for note in report.notes) == (expected != PADDED)
    rows = lake.space("c", "v", layer=1).rows(slice(None))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.model_input_names = names[:2] if kind == "fnet" else names
    expected_rows = alone(module, tokenizer, texts, layer=1)
    np.testing.assert_allclose(rows, expected_rows, atol=1e-5 * np.abs(expected_rows).max())


def shifted_by_neighbours(module: Any, args: Any, output: Any) -> Any:
    """Add to each text what depends on the others of its batch, as experts with a capacity do."""
    hidden = output[0] if isinstance(output, tuple) else output
    changed = hidden + 0.1 * hidden.mean(dim=(0, 1), keepdim=True) * (len(hidden) > 1)
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def random_at_all_times(module: Any, args: Any, output: Any) -> Any:
    """Drop out, in eval mode too."""
    hidden = output[0] if isinstance(output, tuple) else output
    changed = torch.nn.functional.dropout(hidden, 0.5, training=True)
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def test_texts_that_depend_on_each_other_are_run_alone(
    lake: Lake, tokenizer: Any, texts: list[str]
) -> None:
    module = made("bert", len(tokenizer))
    plain = alone(module, tokenizer, texts, layer=2)
    module.encoder.layer[0].register_forward_hook(shifted_by_neighbours)
    report = extract(
        lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c", layers="2",
        store_dtype="float32",
    )  # fmt: skip
    assert batching(lake, report.path) == ALONE
    rows = lake.space("c", "v", layer=2).rows(slice(None))
    np.testing.assert_allclose(rows, plain, atol=1e-5 * np.abs(plain).max())
    assert "each input was run by itself" in report.notes[0]


def test_only_the_sites_that_are_asked_for_count(
    lake: Lake, tokenizer: Any, texts: list[str]
) -> None:
    module = made("bert", len(tokenizer))
    module.encoder.layer[1].register_forward_hook(shifted_by_neighbours)
    report = extract(
        lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c", layers="0,1"
    )
    assert batching(lake, report.path) == PADDED


def test_a_model_that_is_random_in_eval_mode_is_refused(
    lake: Lake, tokenizer: Any, texts: list[str]
) -> None:
    module = made("bert", len(tokenizer))
    module.encoder.layer[0].register_forward_hook(random_at_all_times)
    with pytest.raises(InvalidInput, match="each time that it is run over the same text"):
        extract(lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c")
    assert not lake.sets()


@pytest.mark.filterwarnings("ignore")
def test_half_precision_hides_nothing(lake: Lake, tokenizer: Any, texts: list[str]) -> None:
    module = made("convbert", len(tokenizer)).to(torch.bfloat16)
    report = extract(lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c")
    assert batching(lake, report.path) == SAME_LENGTH
    assert next(module.parameters()).dtype == torch.bfloat16


def test_a_resumed_set_goes_on_as_it_was_begun(
    lake: Lake, tokenizer: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = made("convbert", len(tokenizer))
    options = {"tokenizer": tokenizer, "window_rows": 1024, "store_dtype": "float32"}
    whole = extract(lake, module, texts * 40, variant="whole", corpus_name="c", **options)
    write = SetWriter.write_window

    def stop_at_the_second(writer: SetWriter, window: int, arrays: Any) -> None:
        if window == 1:
            raise KeyboardInterrupt
        write(writer, window, arrays)

    monkeypatch.setattr(SetWriter, "write_window", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        extract(lake, module, "c", variant="resumed", **options)
    monkeypatch.undo()
    report = extract(lake, module, "c", variant="resumed", **options)
    assert 0 < report.n_computed < whole.n_windows
    assert batching(lake, report.path) == SAME_LENGTH
    rows = (lake.space("c", variant, layer=2).rows(slice(None)) for variant in ("whole", "resumed"))
    np.testing.assert_array_equal(*rows)


def test_a_full_device_is_no_fault_of_the_model(
    lake: Lake, tokenizer: Any, texts: list[str]
) -> None:
    module = made("bert", len(tokenizer))

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    module.encoder.layer[1].register_forward_hook(full)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        extract(lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c")


@pytest.mark.parametrize("limit", [3, 8])
def test_texts_fit_a_model_of_few_positions(limit: int, lake: Lake, tokenizer: Any) -> None:
    config = transformers.BertConfig(
        **{**SIZE, "vocab_size": len(tokenizer)}, max_position_embeddings=limit
    )
    assert limit < max(LENGTHS)
    module = transformers.BertModel(config)
    extract(lake, module, ["a"], tokenizer=tokenizer, variant="v", corpus_name="c")


def test_a_model_that_reads_no_tokens_is_refused_in_a_sentence(lake: Lake, tokenizer: Any) -> None:
    module = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            image_size=32, patch_size=16,
        )
    )  # fmt: skip
    with pytest.raises(InvalidInput, match=r"whose only input is text|embeds"):
        extract(lake, module, ["a"], tokenizer=tokenizer, variant="v", corpus_name="c")


def test_what_a_library_raises_in_a_forward_pass_is_a_sentence(
    lake: Lake, tokenizer: Any, texts: list[str]
) -> None:
    module = made("bert", len(tokenizer))

    def broken(*_: Any) -> None:
        raise KeyError("bbox")

    module.encoder.layer[1].register_forward_hook(broken)
    with pytest.raises(InvalidInput, match=r"cannot be run over tokens \('bbox'\)"):
        extract(lake, module, texts, tokenizer=tokenizer, variant="v", corpus_name="c")
