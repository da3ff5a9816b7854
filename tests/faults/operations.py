"""What the fault campaign disturbs: the real operations on small lakes, and what they must give."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from layerlake.analyses.similarity.comparing.compare import rsa
from layerlake.engine.catalogue import add_corpus
from layerlake.engine.extraction.extract import extract
from layerlake.engine.models.loading import LoadedModel, load_model
from layerlake.store.errors import (
    FormatTooNew,
    LakeNotFound,
    LayerLakeError,
    NameNotFound,
    NotALake,
)
from layerlake.store.identity import columns_fingerprint
from layerlake.store.lake import Lake, open_lake
from layerlake.store.node_check import table_nodes
from layerlake.store.removal import gc, remove
from layerlake.store.sets import parse_plan
from layerlake.store.tables import read_attributes, read_table
from layerlake.store.verify import Finding, verify
from layerlake.store.writer import write_attributes

TEXTS = [f"line {number} of a corpus, and {number * number}" for number in range(260)]
OTHER_TEXTS = [f"another line {number}" for number in range(400)]
WINDOW_ROWS = 1024
N_LAYERS = 2
VARIANTS = {"base": None, "other": 0}
"""Name and the seed of random weights, if they are drawn."""


def make_model(folder: Path) -> None:
    """Write a random BERT of two layers, 16 wide, that reads letter by letter."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def tree(place: Path) -> dict[str, str]:
    """Return what lies in a lake: the digest of every file but those under construction."""
    files = {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }
    return {k: v for k, v in files.items() if not k.startswith("staging/") or k.count("/") == 1}


@dataclass(frozen=True)
class Operation:
    """One thing that people do to a lake."""

    name: str
    start: str
    """The lake it begins with."""
    act: Callable[[Path], None]
    finish: Callable[[Path], None]
    """What is done after a fault: the same again, and what remains to do."""
    gives_up: tuple[str, ...] = ()
    """What it removes or drops on purpose: committed windows below are not missed."""


@dataclass
class Examination:
    """What is not as it must be."""

    lost: list[str]
    wrong: list[str]


class WrongValues(Exception):
    """Values were served that differ from those of an undisturbed run."""


class World:
    """Prepared lakes, models, and the values that undisturbed runs give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_model(folder / "model")
        self.models: dict[str, LoadedModel] = {
            name: load_model(str(folder / "model"), randomize=seed, device="cpu")
            for name, seed in VARIANTS.items()
        }
        self.values: dict[tuple[str, str], Any] = {}
        self.tables: dict[str, str] = {}
        self.answer: Any = None
        self.kept = ""
        """Path of the table that holds the answer."""
        self.operations = {operation.name: operation for operation in self._operations()}
        self._finals: dict[tuple[str, ...], dict[str, str]] = {}

    # The lakes that operations begin with.

    def prepare(self) -> None:
        """Build every lake that an operation begins with, and read what they hold."""
        base = self.folder / "start-base"
        self.extract(base, "base")
        two = self.start("base", self.folder / "start-two")
        self.extract(two, "other")
        answered = self.start("two", self.folder / "start-answered")
        self.answer = self.rsa(answered)
        damaged = self.start("two", self.folder / "start-damaged")
        for variant, layer in (("base", 1), ("other", 0)):
            (shard,) = damaged.glob(f"activations/numbers/{variant}/*/resid/{layer}/c/1/0")
            content = bytearray(shard.read_bytes())
            content[100] ^= 1
            shard.write_bytes(content)
        dead = self.start("two", self.folder / "start-dead")
        lake = open_lake(dead, "a")
        (path,) = lake.set_paths("numbers", "other")
        plan = parse_plan(path, read_attributes(lake.location, path))
        write_attributes(lake.location, plan, sealed=False, tombstone=True)
        for number in range(3):
            half = dead / "staging" / f"dead{number}" / "draft"
            half.mkdir(parents=True)
            (half / "zarr.json").write_text("{")
        whole = self.start("answered", self.folder / "whole")
        add_corpus(open_lake(whole, "a"), "new", OTHER_TEXTS)
        lake = open_lake(whole, verified=True)
        for variant in VARIANTS:
            for layer in range(N_LAYERS + 1):
                space = lake.space("numbers", variant, layer, sealed=True)
                self.values[variant, f"resid/{layer}"] = space.rows(slice(None))
        for table in table_nodes(lake.location):
            self.tables[table] = columns_fingerprint(lake.table(table)[0])
        (self.kept,) = (table for table in self.tables if table.startswith("results/"))

    def start(self, name: str, place: Path) -> Path:
        """Copy a prepared lake to a place."""
        shutil.rmtree(place, ignore_errors=True)
        if name != "none":
            shutil.copytree(self.folder / f"start-{name}", place)
        return place

    def final(self, *names: str) -> dict[str, str]:
        """Return the tree that operations leave that nothing disturbs, one after the other."""
        if names not in self._finals:
            place = self.start(self.operations[names[0]].start, self.folder / "final")
            for name in names:
                with contextlib.suppress(LayerLakeError):  # a removal of what is not there yet
                    self.operations[name].act(place)
            for name in names:
                self.operations[name].finish(place)
            self._finals[names] = tree(place)
        return self._finals[names]

    # What is done.

    def extract(self, place: Path, variant: str) -> None:
        extract(
            open_lake(place, "a"),
            self.models[variant],
            TEXTS,
            corpus_name="numbers",
            variant=variant,
            window_rows=WINDOW_ROWS,
        )

    def rsa(self, place: Path, **options: Any) -> Any:
        result = rsa(open_lake(place, "a", verified=True), "numbers", rows="all", **options)
        found = [(r["layer"], r["measure"], r["value"], r["low"]) for r in result.records]
        if self.answer is not None and found != self.answer:
            raise WrongValues(f"rsa gave {found}")
        return found

    def ask(self, place: Path) -> None:
        """Ask what was answered before, of a lake that may answer from its results."""
        result = rsa(open_lake(place, "a"), "numbers", rows="all")
        if [
            (r["layer"], r["measure"], r["value"], r["low"]) for r in result.records
        ] != self.answer:
            raise WrongValues("rsa gave another answer")

    def add_new(self, place: Path) -> None:
        add_corpus(open_lake(place, "a"), "new", OTHER_TEXTS)

    def remove_other(self, place: Path) -> None:
        remove(open_lake(place, "r+"), "activations/numbers/other")

    def gone(self, place: Path) -> None:
        with contextlib.suppress(NameNotFound, LakeNotFound):
            self.remove_other(place)
        with contextlib.suppress(LakeNotFound):
            gc(open_lake(place, "r+"))

    def repair(self, place: Path) -> None:
        verify(open_lake(place, "r+"), repair=True)

    def repair_and_fill(self, place: Path) -> None:
        self.repair(place)
        self.extract(place, "base")
        self.extract(place, "other")

    def read(self, place: Path) -> None:
        """Read all there is, every chunk compared with its checksum."""
        lake = open_lake(place, verified=True)
        for state in lake.sets():
            for name in state.plan.arrays:
                site, _, layer = name.rpartition("/")
                space = lake.space_of(state, site, int(layer))
                for window in np.flatnonzero(state.committed).tolist():
                    start, stop = state.plan.layout.window(window)
                    expected = self.values[state.plan.variant, name][start:stop]
                    if space.rows(slice(start, stop)).tobytes() != expected.tobytes():
                        raise WrongValues(f"{space.path}, window {window}")
        for table in table_nodes(lake.location):
            if columns_fingerprint(lake.table(table)[0]) != self.tables.get(table):
                raise WrongValues(table)

    def _operations(self) -> list[Operation]:
        def extracting(variant: str) -> Callable[[Path], None]:
            return lambda place: self.extract(place, variant)

        def sweep(place: Path) -> None:
            gc(open_lake(place, "r+"))

        def nothing(place: Path) -> None:
            pass

        other = "activations/numbers/other/"
        base = "activations/numbers/base/"
        return [
            Operation("extract", "none", extracting("base"), extracting("base")),
            Operation("extract, next variant", "base", extracting("other"), extracting("other")),
            Operation("corpus add", "base", self.add_new, self.add_new),
            Operation("rm", "two", self.remove_other, self.gone, (other,)),
            Operation("gc", "dead", sweep, sweep, (other,)),
            Operation(
                "verify --repair", "damaged", self.repair, self.repair_and_fill, (base, other)
            ),
            Operation("rsa, kept", "two", self.rsa, self.rsa),
            Operation("rsa, asked again", "answered", self.ask, self.ask),
            Operation("read", "two", self.read, nothing),
            Operation(
                "repair and resume",
                "damaged",
                self.repair_and_fill,
                self.repair_and_fill,
                (base, other),
            ),
        ]

    # What must hold afterwards.

    def committed(self, place: Path) -> set[tuple[str, int]]:
        """Return every committed window: path of its set, number."""
        if not (place / "zarr.json").exists():
            return set()
        states = open_lake(place).sets()
        return {(s.plan.path, w) for s in states for w in np.flatnonzero(s.committed).tolist()}

    def examine(
        self, place: Path, must: set[tuple[str, int]], *, unverified: bool = True
    ) -> Examination:
        """Read every committed window and every table; say what is missing and what differs.

        Without checksums too, unless something is damaged: that is what they are for.
        """
        found = Examination([], [])
        for verified in (True, False) if unverified else (True,):
            try:
                lake = open_lake(place, verified=verified)
                states = lake.sets()
            except LayerLakeError as error:
                if must:
                    found.lost.append(f"all: {error}")
                return found
            held = self._examine_sets(lake, states, must, found)
            found.lost += [f"{path}, window {window}" for path, window in sorted(must - held)]
        for table in table_nodes(lake.location):
            try:
                columns = read_table(lake.location, table)[0]
            except LayerLakeError as error:
                if unverified:
                    found.lost.append(f"{table}: {error}")
                continue
            # Damaged checksums make the same question one of other bytes, with the same answer.
            known = self.tables.get(table, self.tables[self.kept] if "results/" in table else "")
            if columns_fingerprint(columns) != known:
                found.wrong.append(table)
        return found

    def _examine_sets(
        self, lake: Lake, states: list[Any], must: set[tuple[str, int]], found: Examination
    ) -> set[tuple[str, int]]:
        held = set()
        for state in states:
            plan = state.plan
            for window in np.flatnonzero(state.committed).tolist():
                start, stop = plan.layout.window(window)
                held.add((plan.path, window))
                for name in plan.arrays:
                    site, _, layer = name.rpartition("/")
                    space = lake.space_of(state, site, int(layer))
                    try:
                        rows = space.rows(slice(start, stop))
                    except LayerLakeError as error:
                        if (plan.path, window) in must:
                            found.lost.append(f"{space.path}, window {window}: {error}")
                        continue
                    if rows.tobytes() != self.values[plan.variant, name][start:stop].tobytes():
                        found.wrong.append(f"{space.path}, window {window}")
        return held

    def mend(self, place: Path, operation: Operation) -> None:
        """Do after damage what the sentences say, then the operation again."""
        try:
            lake = open_lake(place, "r+")
        except (NotALake, FormatTooNew):  # as it says
            (place / "zarr.json").unlink()
            lake = open_lake(place, "r+")
        for finding in verify(lake, repair=True).findings:
            if not finding.repaired:
                self._as_told(lake, finding)
        self.extract(place, "base")
        if operation.start in ("two", "answered", "damaged"):
            self.extract(place, "other")
        if operation.start == "answered":
            self.rsa(place)
        operation.finish(place)

    def _as_told(self, lake: Lake, finding: Finding) -> None:
        """Remove and add again what `verify` names and does not repair."""
        parts = finding.path.split("/")
        if parts[0] == "corpora":
            texts = TEXTS if parts[1] == "numbers" else OTHER_TEXTS
            add_corpus(lake, parts[1], texts)
        else:
            remove(lake, "/".join(parts[: 4 if parts[0] == "activations" else 2]))
