"""Corpora, tokenizations, row sets and variants: putting them into a lake and getting them back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.corpora.hub import HubData, is_hub_name
from layerlake.engine.corpora.objects import corpus_of_object
from layerlake.engine.corpora.reading import Reading, read_file
from layerlake.engine.progress import Progress, automatic, silent
from layerlake.engine.tokenization.tokenize import Tokenization, tokenization_request, tokenize
from layerlake.store import schema
from layerlake.store.errors import InvalidInput, LakeCorrupt, NameConflict, NameNotFound
from layerlake.store.external.external_plan import BROUGHT
from layerlake.store.identity import short
from layerlake.store.lake import Lake, nearest
from layerlake.store.row_sets import RowSet
from layerlake.store.tables import table_paths

if TYPE_CHECKING:
    from layerlake.engine.models.loading import LoadedModel

Source = str | os.PathLike[str] | Corpus | Iterable[Any]
"""A file, a name in the lake or on the hub (`hf://...`), a `Corpus`, or examples in memory."""


def add_corpus(
    lake: Lake,
    name: str | None,
    source: Source,
    format: str | None = None,
    *,
    segment: str = "sentence",
    text_field: str | None = None,
    pair_field: str | None = None,
    words_field: str | None = None,
    licence: str | None = None,
    progress: Progress = automatic,
) -> str:
    """Put a corpus into a lake.

    Parameters
    ----------
    lake
        Opened for writing.
    name
        Name in the lake; by default the stem of the file, or what the data set is called.
    source
        A file, `hf://org/name[/config][:split][@revision]`, a `Corpus`, or examples in memory: a
        list of strings, of pairs of strings, or of dicts; a DataFrame; a Dataset (see
        `corpus_of_object`).
    format, segment, text_field, pair_field, words_field, licence, progress
        As `read_corpus`.

    Returns
    -------
    The name. Adding the same content again changes nothing, but restores what is damaged.

    Raises
    ------
    InvalidInput
        The source cannot be read; see `read_corpus`.
    NameConflict
        The name is taken by other content.
    """
    reading = Reading(format, segment, text_field, pair_field, words_field)
    name, corpus = read_named(name, source, reading, licence=licence, progress=progress)
    _keep_corpus(lake, name, corpus)
    return name


def _keep_corpus(lake: Lake, name: str, corpus: Corpus) -> None:
    attributes = {
        **corpus.to_attributes(),
        "kind": "corpus",
        "fingerprint": corpus.fingerprint,
        "n_examples": corpus.n_examples,
        "n_words": corpus.n_words,
    }
    path, columns = f"corpora/{name}", corpus.to_columns()
    try:
        new = lake.add_table(path, columns, attributes)
    except LakeCorrupt:
        new = False
    if not new:
        lake.restore_table(path, columns, attributes)


def read_named(
    name: str | None,
    source: Source | HubData,
    reading: Reading,
    *,
    licence: str | None = None,
    progress: Progress,
) -> tuple[str, Corpus]:
    """Return the name and the content of what `add_corpus` is given."""
    called: str | None = None
    if isinstance(source, str | os.PathLike) and not is_hub_name(source):
        corpus = read_file(Path(source), reading, licence=licence, progress=progress)
        called = Path(source).name.split(".")[0]
    else:
        if reading.segment != "sentence":
            raise InvalidInput("segment is for the format wikitext, which only files have")
        how = {"format": reading.format, **reading.fields, "licence": licence}
        if isinstance(source, Corpus):
            corpus = source
            ways = [way for way, said in how.items() if said is not None]
            if ways:
                raise InvalidInput(f"{ways[0]} says how to read a source, and a Corpus is read")
        elif isinstance(source, str | HubData):
            hub = HubData(source) if isinstance(source, str) else source
            called, corpus = hub.name.short, hub.read(**how, progress=progress)
        else:
            called, corpus = corpus_of_object(source, **how, progress=progress)
    if name is None and called is not None:
        name = schema.name_from(called)
    if name is None:
        raise InvalidInput("a corpus that is no file needs a name; give one")
    return schema.check_name(name, "corpus"), corpus


def load_corpus(lake: Lake, name: str) -> Corpus:
    """Return a corpus of the lake; raise `NameNotFound` where there is none."""
    return Corpus.from_columns(*lake.table(f"corpora/{lake.check_corpus(name)}"))


def resolve_corpus(
    lake: Lake, name: str | None, source: Source, reading: Reading, progress: Progress = silent
) -> tuple[str, Corpus]:
    """Return name and content of a corpus given in any of the ways of `add_corpus`, or by name.

    A name in the lake comes first; a file is read, to be kept under `name` or its stem. Nothing is
    written.

    Raises
    ------
    InvalidInput, NameNotFound
        The source cannot be read; see `read_corpus`.
    NameConflict
        The name is taken by other content.
    """
    if isinstance(source, str) and not source:
        raise InvalidInput("no corpus is named; give a file, or a corpus of the lake")
    if isinstance(source, str) and source in lake.corpora() and name in (None, source):
        return source, load_corpus(lake, source)
    found: Source | HubData = source
    if is_hub_name(source):
        found = HubData(str(source))
        kept = _kept_from_hub(lake, name, found, reading)
        if kept is not None:
            return kept
    elif isinstance(source, str) and not Path(source).exists():
        if source in lake.corpora():
            raise InvalidInput(
                f"corpus {source!r} is in the lake already; a name for it (here {name!r}) is only "
                "for a file, so leave --corpus out"
            )
        raise NameNotFound(
            f"{source!r} is neither a file nor a corpus of {lake.location.name}; "
            f"{nearest(source, lake.corpora())}"
        )
    name, corpus = read_named(name, found, reading, progress=progress)
    lake.holds_table(f"corpora/{name}", corpus.fingerprint)
    return name, corpus


def _kept_from_hub(
    lake: Lake, name: str | None, hub: HubData, reading: Reading
) -> tuple[str, Corpus] | None:
    """Return a corpus of the lake that the same request to the hub gave, at the same commit."""
    name = schema.name_from(hub.name.short) if name is None else name
    if name not in lake.corpora():
        return None
    kept = lake.attributes(f"corpora/{name}")["source"]
    asked = hub.request(reading.format, **reading.fields)
    same = kept.get("asked") == asked and kept.get("revision") == hub.revision
    return (name, load_corpus(lake, name)) if same else None


def _reusable(attributes: dict[str, Any], request: dict[str, Any], limit: int | None) -> bool:
    settings = attributes["settings"]
    asked = ("tokenizer", "packing", "long", "bos", "bos_id", "chat")
    return (
        all(settings.get(name) == request.get(name) for name in asked)
        and settings.get("limit") in (None, limit)
        and (limit is None or attributes["longest"] <= limit)
    )


def find_tokenization(
    lake: Lake,
    corpus_name: str,
    corpus: Corpus,
    tokenizer: Any,
    *,
    packing: str = "single",
    long: str = "refuse",
    limit: int | None = None,
    bos: str = "auto",
    chat: bool = False,
    progress: Progress = silent,
) -> Tokenization:
    """Return the corpus cut into pieces: from the lake where it was done before, else made."""
    parent = f"corpora/{corpus_name}/tokenizations"
    how: dict[str, Any] = {"packing": packing, "long": long, "bos": bos, "chat": chat}
    request = tokenization_request(tokenizer, **how)
    for name in table_paths(lake.location, parent):
        attributes = lake.attributes(f"{parent}/{name}")
        if _reusable(attributes, request, limit):
            return Tokenization.from_columns(*lake.table(f"{parent}/{name}"))
    with progress(f"tokenising {corpus_name}", corpus.n_examples, "examples") as stage:
        seen = 0

        def advance(done: int) -> None:
            nonlocal seen
            stage.advance(done - seen)
            seen = done

        return tokenize(corpus, tokenizer, limit=limit, on_progress=advance, **how)


def keep_inputs(
    lake: Lake, corpus_name: str, corpus: Corpus, tokenization: Tokenization, rows: RowSet
) -> None:
    """Put into the lake what an extraction stands on, where it is not there yet."""
    place = f"corpora/{corpus_name}"
    if not lake.holds_table(place, corpus.fingerprint):
        _keep_corpus(lake, corpus_name, corpus)
    path = f"{place}/tokenizations/{short(tokenization.fingerprint)}"
    if not lake.holds_table(path, tokenization.fingerprint):
        attributes = {
            **tokenization.to_attributes(),
            "kind": "tokenization",
            "n_pieces": tokenization.n_pieces,
            "n_inputs": tokenization.n_inputs,
            "longest": int(np.diff(tokenization.input_offsets).max(initial=0)),
        }
        lake.add_table(path, tokenization.to_columns(), attributes)
    path = f"{place}/rows/{short(rows.fingerprint)}"
    if not lake.holds_table(path, rows.fingerprint):
        attributes = {**rows.to_attributes(), "kind": "rows", "n_rows": rows.n_rows}
        lake.add_table(path, rows.to_columns(), attributes)


def variant_attributes(model: LoadedModel, tokenizer: str) -> dict[str, Any]:
    """Return what the lake keeps about a variant."""
    lineage = {"parent": model.parent, "training": model.training}
    return {key: said for key, said in lineage.items() if said is not None} | {
        "kind": "variant",
        "fingerprint": model.weights_digest,
        "weights_digest": model.weights_digest,
        "source": model.source,
        "revision": model.revision,
        "architecture": model.architecture,
        "config": model.config,
        "n_layers": model.n_layers,
        "hidden": model.hidden,
        "randomize": model.randomize,
        "truncate": model.truncate,
        "tokenizer": tokenizer,
    }


OF_NO_WEIGHT = frozenset(
    {
        "_commit_hash", "_name_or_path", "architectures", "chunk_size_feed_forward", "dtype",
        "finetuning_task", "gradient_checkpointing", "id2label", "initializer_range", "label2id",
        "output_attentions", "output_hidden_states", "problem_type", "return_dict", "torch_dtype",
        "torchscript", "transformers_version", "use_cache",
    }
)  # fmt: skip
"""Entries of a config that change no activation; so do all that speak of dropout."""


def check_variant(lake: Lake, name: str, model: LoadedModel) -> None:
    """Raise `NameConflict` where the name holds other weights, or the same built otherwise."""
    digest = model.weights_digest
    advice = f"choose another name with --as, or remove it with `layerlake rm variants/{name}`"
    config: dict[str, Any] = {}
    if name in lake.variants():
        about = lake.attributes(f"variants/{name}")
        if about.get("source") == BROUGHT:
            raise NameConflict(
                f"variant {name!r} holds activations that were brought from elsewhere; choose "
                "another name with --as"
            )
        known = {about.get("weights_digest")}
        config = about.get("config") or {}
    else:  # never there, or damaged and dropped: then its sets still say whose they are
        sets = [lake.attributes(path) for path in lake.set_paths(variant=name)]
        recipes = [kept.get("recipe", {}) for kept in sets if not kept.get("tombstone")]
        known = {recipe["weights"] for recipe in recipes if "weights" in recipe}
    for kept in known - {digest}:
        raise NameConflict(
            f"variant {name!r} holds other weights (digest {str(kept)[:12]}, given {digest[:12]}); "
            f"{advice}"
        )
    for key in sorted(config.keys() & model.config.keys() - OF_NO_WEIGHT):
        then, now = config[key], model.config[key]
        if "dropout" not in key and then != now:
            raise NameConflict(
                f"variant {name!r} has these weights, but another config ({key} {then!r} then, "
                f"{now!r} now); {advice}"
            )


def same_weights(lake: Lake, name: str, digest: str) -> list[str]:
    """Return the other variants of a lake whose weights have that digest."""
    others = [variant for variant in lake.variants() if variant != name]
    return [v for v in others if lake.attributes(f"variants/{v}").get("weights_digest") == digest]


def add_variant(lake: Lake, name: str, model: LoadedModel, tokenizer: str) -> None:
    """Put a variant into the lake; nothing changes where it is there already."""
    check_variant(lake, name, model)
    lake.add_table(f"variants/{name}", {}, variant_attributes(model, tokenizer))
