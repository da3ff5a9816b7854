"""What a lake holds, at a glance: which variant was run over which corpus, how much, how far.

Read from attributes and commits; no activation is touched. What is damaged is said to be so, since
a look must not fail. Names and sources come from anybody: all text is escaped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from layerlake.store.errors import LayerLakeError
from layerlake.store.sets import SetState, read_state
from layerlake.store.tables import table_paths
from layerlake.store.views.variant_entries import (
    VariantEntry,
    attributes_or_problem,
    nested,
    variant_entries,
)

if TYPE_CHECKING:
    from layerlake.store.lake import Lake
    from layerlake.store.space import Space

MOST_VARIANTS: Final = 200
"""Variants that are read and shown; of further ones only the number is."""
MOST_CORPORA: Final = 40
OPEN_VARIANTS: Final = 50
"""Variants of a grid that are not folded away."""
CORPORA_A_GRID: Final = 5
"""Corpora side by side; more make further grids, folded."""

# No colour of text or ground is set: the notebook's theme, light or dark, shows through.
TABLE_STYLE: Final = (
    "<style>.layerlake table{border-collapse:collapse}"
    ".layerlake th,.layerlake td{border:1px solid rgba(128,128,128,.35);padding:.25em .6em;"
    "text-align:left;vertical-align:top;background:transparent}"
    ".layerlake small{opacity:.7;font-weight:normal}"
    ".layerlake summary{cursor:pointer}</style>"
)


@dataclass(frozen=True)
class CorpusEntry:
    """A corpus."""

    name: str
    about: str
    """Its size, or what is wrong with it."""


@dataclass(frozen=True)
class SetEntry:
    """One set of a variant over a corpus."""

    rows: str
    holds: str
    """Sites, layers and dtype."""
    n_bytes: int
    progress: str
    """`sealed`, or how many windows are committed, or what is wrong."""


@dataclass(frozen=True)
class Overview:
    """What a lake holds."""

    title: str
    counts: str
    corpora: tuple[CorpusEntry, ...]
    variants: tuple[VariantEntry, ...]
    """Each after the one that it was made from."""
    sets: Mapping[tuple[str, str], tuple[SetEntry, ...]]
    """By corpus and variant."""
    hidden_corpora: int
    """Corpora that are there, but are not shown."""
    hidden_variants: int


def overview(lake: Lake) -> Overview:
    """Look at a lake as it lies now."""
    location = lake.location
    activations = table_paths(location, "activations")
    corpora = sorted({*lake.corpora(), *activations})
    over = {corpus: table_paths(location, f"activations/{corpus}") for corpus in activations}
    variants = sorted({*lake.variants(), *itertools.chain.from_iterable(over.values())})
    shown_corpora, shown_variants = corpora[:MOST_CORPORA], variants[:MOST_VARIANTS]
    n_sets = 0
    sets: dict[tuple[str, str], tuple[SetEntry, ...]] = {}
    for corpus, names in over.items():
        for variant in names:
            paths = lake.set_paths(corpus, variant)
            n_sets += len(paths)
            if corpus in shown_corpora and variant in shown_variants:
                read = (_set_entry(lake, path) for path in paths)
                sets[corpus, variant] = tuple(entry for entry in read if entry is not None)
    n_bytes = sum(entry.n_bytes for entries in sets.values() for entry in entries)
    n_results = sum(len(location.nodes(f"results/{name}")) for name in location.nodes("results"))
    partly = len(corpora) > MOST_CORPORA or len(variants) > MOST_VARIANTS
    counts = ", ".join(
        [
            _count(len(corpora), "corpus", "corpora"),
            _count(len(variants), "variant"),
            _count(n_sets, "set") + f" ({'over ' if partly else ''}{_size(n_bytes)})",
            _count(n_results, "result"),
        ]
    )
    return Overview(
        f"{location.name} (mode {lake.mode})",
        counts,
        tuple(_corpus_entry(lake, name) for name in shown_corpora),
        variant_entries(lake, shown_variants, every=len(variants) == len(shown_variants)),
        sets,
        len(corpora) - len(shown_corpora),
        len(variants) - len(shown_variants),
    )


def _corpus_entry(lake: Lake, name: str) -> CorpusEntry:
    found, problem = attributes_or_problem(lake, f"corpora/{name}")
    counted = [
        f"{found[key]:,} {unit}"
        for key, unit in (("n_examples", "examples"), ("n_words", "words"))
        if isinstance(found.get(key), int)
    ]
    return CorpusEntry(name, problem or ", ".join(counted))


def _set_entry(lake: Lake, path: str) -> SetEntry | None:
    """Read one set; None if it is being removed."""
    try:
        state = read_state(lake.location, path)
    except LayerLakeError:
        return SetEntry("", path.rpartition("/")[2], 0, "damaged")
    if state.tombstone:
        return None
    return SetEntry(_rows_text(state), _holds_text(state), state.n_bytes, state.progress)


def _rows_text(state: SetState) -> str:
    contents = state.plan.contents
    unit = str(contents.get("unit", "row"))
    chosen = str(contents.get("rows", "all"))
    text = _count(state.plan.layout.n_rows, unit)
    return text if chosen == "all" else f"{text} ({chosen})"


def _holds_text(state: SetState) -> str:
    by_site: dict[str, list[int]] = {}
    for name in state.plan.arrays:
        site, _, layer = name.rpartition("/")
        by_site.setdefault(site, []).append(int(layer))
    sites = [f"{site} {ranges_text(layers)}" for site, layers in by_site.items()]
    pooling = state.plan.contents.get("pooling")
    layout = state.plan.layout
    what = [*sites, f"{layout.hidden} x {layout.dtype}"]
    if pooling not in (None, "mean"):
        what.append(f"pooled by {pooling}")
    if layout.codec != "none":
        what.append(layout.codec)
    return ", ".join(what)


def ranges_text(numbers: Iterable[int]) -> str:
    """Write whole numbers with their runs joined: 0-6, 8."""
    ordered = sorted(numbers)
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _size(n_bytes: int) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes / 1000:,.1f} kB"


def overview_text(found: Overview) -> str:
    """Return an overview for a terminal: a table a corpus, a line a set, under that of the base."""
    lines = [f"lake {found.title}: {found.counts}"]
    if not found.corpora and not found.variants:
        lines.append("nothing yet; `layerlake extract MODEL SOURCE` begins")
    run = {variant for (_, variant), sets in found.sets.items() if sets}
    for corpus in found.corpora:
        lines += ["", f"corpus {corpus.name}" + (f": {corpus.about}" if corpus.about else "")]
        here = [entry for entry in found.variants if found.sets.get((corpus.name, entry.name))]
        shown = [("  " * depth + entry.name, entry, said) for entry, depth, said in nested(here)]
        width = max((len(indented) for indented, _, _ in shown), default=0)
        for indented, entry, said in shown:
            for one in found.sets[corpus.name, entry.name]:
                what = [one.rows, one.holds, _size(one.n_bytes), one.progress]
                lineage = f"  [{'; '.join(said)}]" if said else ""
                lines.append(f"  {indented:{width}}  {', '.join(filter(None, what))}{lineage}")
    idle = [entry.name for entry in found.variants if entry.name not in run]
    if idle:
        lines += ["", f"without activations: {', '.join(idle)}"]
    more = _more(found)
    return "\n".join([*lines, "", *more] if more else lines)


def _more(found: Overview) -> list[str]:
    """Say what is there and not shown."""
    said = []
    if found.hidden_corpora:
        said.append(f"and {_count(found.hidden_corpora, 'more corpus', 'more corpora')}")
    if found.hidden_variants:
        said.append(f"and {_count(found.hidden_variants, 'more variant')}")
    return said


def overview_html(found: Overview) -> str:
    """Return an overview for a notebook: variants as rows, corpora as columns."""
    parts = [TABLE_STYLE, f"<b>{escape(found.title)}</b><br>{escape(found.counts)}"]
    if not found.corpora and not found.variants:
        parts.append("<br>nothing yet; <code>layerlake extract MODEL SOURCE</code> begins")
    for number, corpora in enumerate(_batches(found.corpora, CORPORA_A_GRID)):
        open_ = found.variants[:OPEN_VARIANTS]
        folded = found.variants[OPEN_VARIANTS:]
        grid = _grid(found, corpora, open_)
        if folded:
            label = _count(len(folded), "more variant")
            grid += fold(label, _grid(found, corpora, folded))
        if number:
            grid = fold("corpora " + ", ".join(entry.name for entry in corpora), grid)
        parts.append(grid)
    if found.variants and not found.corpora:
        parts.append(_grid(found, (), found.variants))
    parts += [f"<br>{escape(text)}" for text in _more(found)]
    return f'<div class="layerlake">{"".join(parts)}</div>'


def _batches(entries: tuple[CorpusEntry, ...], size: int) -> Iterator[tuple[CorpusEntry, ...]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def fold(label: str, content: str) -> str:
    """Return HTML that is folded away under a label, a text."""
    return f"<details><summary>{escape(label)}</summary>{content}</details>"


def _grid(found: Overview, corpora: Iterable[CorpusEntry], variants: Iterable[VariantEntry]) -> str:
    columns = list(corpora)
    head = "".join(f"<th>{_headed(entry.name, [entry.about])}</th>" for entry in columns)
    rows = []
    for variant, depth, said in nested(variants):
        indent = f' style="padding-left:{0.6 + 1.4 * depth:.1f}em"' if depth else ""
        cells = (found.sets.get((corpus.name, variant.name), ()) for corpus in columns)
        rows.append(
            f"<tr><th{indent}>{_headed(variant.name, [variant.about, *said])}</th>"
            + "".join(f"<td>{'<br>'.join(map(_cell, sets))}</td>" for sets in cells)
            + "</tr>"
        )
    return (
        f"<table><thead><tr><th>variant</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _headed(name: str, lines: Iterable[str]) -> str:
    small = "<br>".join(escape(line) for line in lines if line)
    return escape(name) + (f"<br><small>{small}</small>" if small else "")


def _cell(one: SetEntry) -> str:
    seal = "&#10003;" if one.progress == "sealed" else "&#9680;"  # a tick, a half-filled circle
    head = ", ".join(filter(None, [one.rows, _size(one.n_bytes)]))
    return f"{escape(head)}<br>{seal} {escape(one.progress)}<br><small>{escape(one.holds)}</small>"


def space_html(space: Space) -> str:
    """Return a small table about a space, for a notebook."""
    contents = space.state.plan.contents
    rows, hidden = space.shape
    chosen = str(contents.get("rows", "all"))
    facts = {
        "corpus": space.corpus,
        "variant": space.variant,
        "site": space.site,
        "layer": str(space.layer),
        "rows": _count(rows, space.unit or "row") + ("" if chosen == "all" else f" ({chosen})"),
        "hidden": f"{hidden:,} x {space.dtype}",
        "size": _size(rows * hidden * space.dtype.itemsize),
        "state": space.state.progress + (", verified reads" if space.verified else ""),
        "path": space.path,
    }
    if space.pooling:
        stored = "" if space.unit == contents.get("unit") else " of stored pieces"
        facts["rows"] += f", pooled by {space.pooling}{stored}"
    lines = "".join(
        f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    return f'<div class="layerlake">{TABLE_STYLE}<table><tbody>{lines}</tbody></table></div>'


def counts_text(lake: Lake) -> str:
    """Return the numbers of corpora and variants, from their names alone."""
    try:
        corpora, variants = len(lake.corpora()), len(lake.variants())
    except (OSError, LayerLakeError):
        return "cannot be read"
    return f"{_count(corpora, 'corpus', 'corpora')}, {_count(variants, 'variant')}"
