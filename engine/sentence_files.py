"""HDF5 files of a dataset a sentence: those of NeuroX, structural probes and ELMo.

Dataset `i` (from `0`, in the order of the text) has shape (layers, tokens, hidden), or (tokens,
hidden) for one layer. NeuroX and ELMo add `sentence_to_index`, a JSON object from sentence to i;
NeuroX writes a sentence as the pieces of its words, and tells repeated ones by ` (Occurrence k)`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlake.engine.activation_files import Numbering, number_layers
from layerlake.engine.corpora.corpus import Corpus
from layerlake.engine.progress import Progress, silent
from layerlake.store.errors import InvalidInput, MissingExtra
from layerlake.store.external.external_plan import array_name

MAPPING = "sentence_to_index"

_OCCURRENCE = re.compile(r" \(Occurrence [0-9]+\)$")
_MARKS = re.compile(r"##|[Ġ▁]|[^0-9a-z]")
_FEWEST_COMPARED = 3


class SentenceFile:
    """The words of a corpus, in an HDF5 file of a dataset a sentence.

    Every shape is looked at, and compared with the corpus, before anything is read.

    Parameters
    ----------
    words
        (row,) the words of the corpus that are rows, rising.

    Raises
    ------
    InvalidInput
        The file is cut short, is no such file, or does not fit the corpus; the sentence is named.
    MissingExtra
        h5py is not installed.
    """

    def __init__(
        self,
        path: Path,
        corpus: Corpus,
        words: NDArray[np.int64],
        site: str,
        numbering: Numbering,
        progress: Progress = silent,
    ) -> None:
        try:
            import h5py
        except ImportError:
            raise MissingExtra(
                f"{path.name} is HDF5, which needs h5py: pip install 'layerlake[hdf5]'"
            ) from None
        self.path = path
        self.corpus = corpus
        self.words = words
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            cut = "truncated" in str(error)
            reason = "it is cut short" if cut else f"HDF5 says: {error}"
            raise InvalidInput(f"{path.name} cannot be opened: {reason}") from None
        try:
            n_layers = self._look(h5py, progress)
            self._compare_texts(progress)
            taken = number_layers(n_layers, numbering, path.name)
        except BaseException:
            self.close()
            raise
        self._places = [place for place, _ in taken]
        self.arrays = tuple(array_name(site, layer) for _, layer in taken)
        self.n_rows = len(words)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _look(self, h5py: Any, progress: Progress) -> int:
        """Compare the shape of every sentence with the corpus; return the number of layers."""
        name, corpus = self.path.name, self.corpus
        keys = [key for key in self._file if key != MAPPING]
        odd = [key for key in keys if not (key.isascii() and key.isdigit())]
        if odd or not keys:
            raise InvalidInput(
                f"{name} is no file of sentences: expected datasets 0, 1, 2, ... and found "
                f"{', '.join(sorted(odd)[:5]) or 'none'}"
            )
        if len(keys) != corpus.n_examples:
            raise InvalidInput(
                f"{name} holds {len(keys)} sentences, and the corpus has {corpus.n_examples}"
            )
        if "0" not in self._file:
            raise InvalidInput(
                f"the sentences of {name} are numbered from {min(map(int, keys))}; expected 0 to "
                f"{len(keys) - 1}"
            )
        counts = np.diff(corpus.word_offsets)
        first: tuple[int, int] | None = None
        kinds = set()
        with progress(f"looking at {name}", len(keys), "sentences") as stage:
            for sentence, count in enumerate(counts.tolist()):
                data = self._dataset(h5py, sentence)
                where = f"sentence {sentence} of {name} ({corpus.example_name(sentence)!r})"
                if data.ndim not in (2, 3) or data.dtype.kind != "f":
                    raise InvalidInput(
                        f"{where} has shape {data.shape} of {data.dtype}; expected floats of "
                        "(layers, tokens, hidden)"
                    )
                shape = (1, *data.shape) if data.ndim == 2 else data.shape
                if shape[1] != count:
                    raise InvalidInput(
                        f"{where} has {shape[1]} tokens, and the corpus has {count} words there; "
                        "bring words, not pieces, of the sentences that the corpus holds"
                    )
                first = first or (shape[0], shape[2])
                if (shape[0], shape[2]) != first:
                    raise InvalidInput(
                        f"{where} has {shape[0]} layers of {shape[2]} values, where those before "
                        f"it have {first[0]} of {first[1]}"
                    )
                kinds.add(data.dtype)
                stage.advance(1)
        assert first is not None, "a corpus has examples"
        if not all(first):
            raise InvalidInput(f"{name} holds {first[0]} layers of {first[1]} values")
        self.hidden = int(first[1])
        self.dtype = np.result_type(*kinds)
        return int(first[0])

    def _dataset(self, h5py: Any, sentence: int) -> Any:
        """Return the dataset of a sentence, which lies in this file and in no other."""
        key = str(sentence)
        link = self._file.get(key, getlink=True)
        data = self._file[key] if isinstance(link, h5py.HardLink) else None
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
            raise InvalidInput(
                f"sentence {sentence} of {self.path.name} is no dataset in this file; expected "
                "(layers, tokens, hidden)"
            )
        return data

    def _compare_texts(self, progress: Progress) -> None:
        """Refuse a file whose sentences are plainly not those of the corpus."""
        if MAPPING not in self._file:
            return
        name = self.path.name
        try:
            raw = self._file[MAPPING][0]
            texts = {
                int(place): _OCCURRENCE.sub("", text) for text, place in json.loads(raw).items()
            }
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, OSError):
            raise InvalidInput(
                f"{MAPPING} of {name} is no JSON object from sentence to number"
            ) from None
        with progress(f"comparing {name}", len(texts), "sentences") as stage:
            for sentence, text in texts.items():
                self._compare_text(sentence, text)
                stage.advance(1)

    def _compare_text(self, sentence: int, text: str) -> None:
        """Refuse a sentence if less than half of its words are those of the corpus."""
        name, corpus = self.path.name, self.corpus
        if not 0 <= sentence < corpus.n_examples:
            raise InvalidInput(f"{MAPPING} of {name} names sentence {sentence}, which is not there")
        own = [corpus.word(word) for word in range(*corpus.word_offsets[sentence : sentence + 2])]
        pairs = [
            (_plain(a), _plain(b))
            for a, b in zip(own, text.split(" "), strict=False)
            if a.isascii() and _plain(a) and _plain(b)
        ]
        agreeing = sum(a == b for a, b in pairs)
        if len(pairs) >= _FEWEST_COMPARED and 2 * agreeing < len(pairs):
            raise InvalidInput(
                f"sentence {sentence} of {name} reads {text[:60]!r}, and example "
                f"{corpus.example_name(sentence)!r} of the corpus {' '.join(own)[:60]!r}; import "
                "it over the corpus that it was made of"
            )

    def blocks(self, start: int, window_rows: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield the rows of every array sentence by sentence."""
        import h5py

        offsets = self.corpus.word_offsets
        sentence = int(np.searchsorted(offsets, self.words[start], "right")) - 1
        while start < self.n_rows:
            low, high = offsets[sentence : sentence + 2].tolist()
            stop = int(np.searchsorted(self.words, high))
            if stop > start:
                try:
                    data = np.asarray(self._dataset(h5py, sentence)[...])
                except OSError as error:
                    raise InvalidInput(
                        f"sentence {sentence} of {self.path.name} cannot be read: HDF5 says: "
                        f"{error}"
                    ) from None
                cube = data[None] if data.ndim == 2 else data
                kept = self.words[start:stop] - low
                for number, place in enumerate(self._places):
                    yield number, start, cube[place][kept]
                start = stop
            sentence += 1


def _plain(word: str) -> str:
    """Return a word without marks of pieces, case and punctuation."""
    return _MARKS.sub("", word.lower())
