"""Chat templates and the BOS, against what `transformers` makes of the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlake.engine import catalogue
from layerlake.engine.corpora.corpus import Corpus, corpus_from_texts
from layerlake.engine.rows.choose import choose_rows
from layerlake.engine.tokenization.tokenize import Tokenization, tokenize
from layerlake.store.errors import InvalidInput
from layerlake.store.lake import open_lake
from layerlake.store.tables import table_paths

QUESTIONS = ["where is the cat?", "user", "a house in Paris"]
ANSWERS = ["on the mat , at all", "user user", "the other"]

LLAMA = (
    "{{ bos_token }}{% for m in messages %}<<{{ m['role'] }}>>\n{{ m['content'] | trim }}\n\n"
    "{% endfor %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
TEMPLATES = {"llama": LLAMA, "mistral": MISTRAL}


def with_template(tokenizer: Any, template: str | None, bos: str | None = "<s>") -> Any:
    """Return a copy of a tokenizer that has a chat template and a BOS."""
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    if bos is not None:
        changed.bos_token = bos
    return changed


def inputs_of(found: Tokenization) -> list[list[int]]:
    """Return the piece ids of every input."""
    return [part.tolist() for part in np.split(found.piece_ids, found.input_offsets[1:-1])]


@pytest.mark.parametrize("kind", ["llama", "gemma", "roberta"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("packing", ["single", "pair", "second"])
def test_chats_are_those_of_transformers(
    tokenizers_made_here: dict[str, Any], kind: str, template: str, packing: str
) -> None:
    tokenizer = with_template(tokenizers_made_here[kind], TEMPLATES[template])
    corpus = corpus_from_texts(QUESTIONS, None if packing == "single" else ANSWERS)
    found = tokenize(corpus, tokenizer, packing=packing, chat=True)
    expected = []
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        turns = [{"role": "user", "content": answer if packing == "second" else question}]
        if packing == "pair":
            turns.append({"role": "assistant", "content": answer})
        expected.append(
            tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
        )
    assert inputs_of(found) == expected
    packed = {"single": [0], "pair": [0, 1], "second": [1]}[packing]
    words = np.flatnonzero(np.isin(corpus.word_segment, packed))
    inner = found.piece_word[~found.special]
    assert np.unique(inner[inner >= 0]).tolist() == words.tolist()
    assert np.all(found.piece_word[found.special] == -1)
    assert np.all(np.diff(inner[inner >= 0]) >= 0)
    for word in words.tolist():
        text = tokenizer.decode(found.piece_ids[found.piece_word == word]).strip()
        assert text == corpus.word(word)


def test_white_space_that_a_template_takes_off_shifts_no_word(
    tokenizers_made_here: dict[str, Any],
) -> None:
    tokenizer = with_template(tokenizers_made_here["llama"], LLAMA)
    corpus = corpus_from_texts(["  \n the cat sat ", "the cat sat"])
    found = tokenize(corpus, tokenizer, chat=True)
    first, second = inputs_of(found)
    assert first == second
    half = len(first)
    moved = found.piece_word[half:].copy()
    moved[moved >= 0] -= 3
    assert np.array_equal(found.piece_word[:half], moved)
    assert np.unique(moved).tolist() == [-1, 0, 1, 2]


def test_the_frame_is_recorded_and_part_of_the_fingerprint(
    tokenizers_made_here: dict[str, Any],
) -> None:
    corpus = corpus_from_texts(QUESTIONS)
    plain = tokenizers_made_here["llama"]
    found = [
        tokenize(corpus, with_template(plain, template), chat=True)
        for template in (LLAMA, MISTRAL, MISTRAL)
    ]
    assert found[1].settings["chat"] == ["<s>[INST] ", " [/INST]"]
    assert found[1].fingerprint == found[2].fingerprint
    bare = tokenize(corpus, with_template(plain, MISTRAL))
    assert len({found[0].fingerprint, found[1].fingerprint, bare.fingerprint}) == 3
    assert bare.fingerprint == tokenize(corpus, plain).fingerprint
    assert "chat" not in bare.settings
    assert "bos" not in bare.settings


def test_chats_are_found_again_in_a_lake(
    tokenizers_made_here: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, corpus = open_lake(tmp_path / "lake", "a"), corpus_from_texts(QUESTIONS)
    tokenizer = with_template(tokenizers_made_here["llama"], MISTRAL)
    ways: list[dict[str, Any]] = [
        {"chat": True},
        {},
        {"bos": "never"},
        {"chat": True, "bos": "never"},
    ]
    for way in ways:
        found = catalogue.find_tokenization(lake, "asked", corpus, tokenizer, **way)
        catalogue.keep_inputs(lake, "asked", corpus, found, choose_rows(corpus, found))
    assert len(table_paths(lake.location, "corpora/asked/tokenizations")) == len(ways)
    made: list[Any] = []
    monkeypatch.setattr(catalogue, "tokenize", lambda *_, **options: made.append(options))
    again = [catalogue.find_tokenization(lake, "asked", corpus, tokenizer, **way) for way in ways]
    assert made == []
    assert ["chat" in found.settings for found in again] == [True, False, False, True]
    assert [found.settings.get("bos") for found in again] == [None, None, "never", "never"]
    other = with_template(tokenizer, LLAMA)
    catalogue.find_tokenization(lake, "asked", corpus, other, chat=True)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("template", "packing", "options", "said"),
    [
        (None, "single", {}, "the tokenizer llama has no chat template; leave --chat out"),
        ("{{ messages[0]['content'] | upper }}", "single", {}, "does not write every text once"),
        (
            "{{ messages[0]['content'] }} {{ messages[0]['content'] }}",
            "single",
            {},
            "does not write every text once and in order",
        ),
        (
            "{{ messages[0]['content'] | replace('cat', 'dog') }}",
            "single",
            {},
            "changes the text of example 'example 1'",
        ),
        ("{{ raise_exception('no more') }}", "single", {}, "applied to 1 turns (no more)"),
        (LLAMA, "trim(8)", {}, "packing trim(8) would cut through the chat template"),
        (LLAMA, "window(8,4)", {}, "packing window(8,4) would cut through the chat template"),
        (LLAMA, "single", {"long": "split"}, "--long split would cut through the chat"),
        (LLAMA, "single", {"long": "window"}, "--long window would cut through the chat"),
    ],
)
def test_chats_refused(
    tokenizers_made_here: dict[str, Any],
    template: str | None,
    packing: str,
    options: dict[str, str],
    said: str,
) -> None:
    tokenizer = with_template(tokenizers_made_here["llama"], template)
    with pytest.raises(InvalidInput) as caught:
        tokenize(corpus_from_texts(QUESTIONS), tokenizer, packing=packing, chat=True, **options)
    assert said in str(caught.value)


def test_given_words_and_chat_do_not_go_together(
    tokenizers_made_here: dict[str, Any], of_words: Callable[..., Corpus]
) -> None:
    tokenizer = with_template(tokenizers_made_here["llama"], LLAMA)
    with pytest.raises(InvalidInput, match="words of this corpus are given and cut one by one"):
        tokenize(of_words([["the", "cat"]]), tokenizer, chat=True)


def test_long_chats_are_refused_or_dropped(tokenizers_made_here: dict[str, Any]) -> None:
    tokenizer = with_template(tokenizers_made_here["llama"], LLAMA)
    corpus = corpus_from_texts(["the", "the cat sat on the mat " * 8])
    with pytest.raises(InvalidInput, match="1 of 2 examples have more than 40 pieces"):
        tokenize(corpus, tokenizer, chat=True, limit=40)
    found = tokenize(corpus, tokenizer, chat=True, limit=40, long="drop")
    assert found.input_example.tolist() == [0]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "roberta"])
def test_bos(tokenizers_made_here: dict[str, Any], kind: str) -> None:
    tokenizer = with_template(tokenizers_made_here[kind], None)
    corpus = corpus_from_texts(QUESTIONS)
    bare = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in QUESTIONS]
    usual = tokenizer(QUESTIONS)["input_ids"]
    bos = tokenizer.bos_token_id
    always = tokenize(corpus, tokenizer, bos="always")
    never = tokenize(corpus, tokenizer, bos="never")
    assert inputs_of(tokenize(corpus, tokenizer)) == usual
    if kind == "gpt2":  # its template has none
        assert inputs_of(always) == [[bos, *ids] for ids in bare]
        assert inputs_of(never) == usual == bare
    else:
        assert inputs_of(always) == usual
        assert inputs_of(never) == [ids[1:] for ids in usual]
    assert all(always.special[start] for start in always.input_offsets[:-1])
    assert always.settings["bos"] == "always"
    assert always.settings["bos_id"] == bos
    assert always.settings["specials"][0] == ["<s>"]
    found = {tokenize(corpus, tokenizer).fingerprint, always.fingerprint, never.fingerprint}
    assert len(found) == 3


def test_bos_between_two_texts_is_left_out_too(tokenizers_made_here: dict[str, Any]) -> None:
    tokenizer = with_template(tokenizers_made_here["roberta"], None, "</s>")
    corpus = corpus_from_texts(QUESTIONS, ANSWERS)
    found = tokenize(corpus, tokenizer, packing="pair", bos="never")
    usual = tokenizer(QUESTIONS, ANSWERS)["input_ids"]
    assert inputs_of(found) == [[i for i in ids if i != tokenizer.bos_token_id] for ids in usual]


@pytest.mark.parametrize("template", TEMPLATES)
def test_bos_of_chats(tokenizers_made_here: dict[str, Any], template: str) -> None:
    corpus = corpus_from_texts(QUESTIONS)
    tokenizer = with_template(tokenizers_made_here["llama"], TEMPLATES[template])
    usual = tokenize(corpus, tokenizer, chat=True)
    assert {ids[0] for ids in inputs_of(usual)} == {tokenizer.bos_token_id}
    assert inputs_of(tokenize(corpus, tokenizer, chat=True, bos="always")) == inputs_of(usual)
    never = tokenize(corpus, tokenizer, chat=True, bos="never")
    assert not (never.piece_ids == tokenizer.bos_token_id).any()
    inner = never.piece_word[~never.special]
    assert np.unique(inner[inner >= 0]).tolist() == list(range(corpus.n_words))
    bare = with_template(tokenizer, TEMPLATES[template].removeprefix("{{ bos_token }}"))
    bare.chat_template = bare.chat_template.removeprefix("<s>")
    without = inputs_of(tokenize(corpus, bare, chat=True))
    assert inputs_of(never) == without
    added = tokenize(corpus, bare, chat=True, bos="always")
    assert inputs_of(added) == [[tokenizer.bos_token_id, *ids] for ids in without]
    assert added.special[added.input_offsets[:-1]].all()


def test_bos_refused(minilm_tokenizer: Any) -> None:
    corpus = corpus_from_texts(QUESTIONS)
    with pytest.raises(InvalidInput, match="has no BOS to put in front; leave --bos always out"):
        tokenize(corpus, minilm_tokenizer, bos="always")
    with pytest.raises(InvalidInput, match="bos is 'sometimes'; choose one of auto, always, never"):
        tokenize(corpus, minilm_tokenizer, bos="sometimes")
    usual = tokenize(corpus, minilm_tokenizer)
    never = tokenize(corpus, minilm_tokenizer, bos="never")
    assert np.array_equal(never.piece_ids, usual.piece_ids)
