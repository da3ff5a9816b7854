"""`layerlake ls`, `info`, `verify`, `rm` and `gc`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from layerlake.cli.completion import paths
from layerlake.cli.options import json_option, lake_option

if TYPE_CHECKING:
    from layerlake.store.lake import Lake


@click.command()
@click.argument("path", required=False, default="", shell_complete=paths)
@lake_option()
@json_option()
def ls(path: str, lake: str | None, as_json: bool) -> None:
    """List corpora, variants, sets and results, or those whose path begins with PATH.

    Variants are indented below their parents.

    \b
    Example:
      layerlake ls
      layerlake ls activations/wiki
    """
    from layerlake.analyses.results.kept import described
    from layerlake.store.external.external_rows import NUMBERED
    from layerlake.store.lake import open_lake
    from layerlake.store.views.variant_entries import nested, variant_entries

    opened = open_lake(lake)
    records: list[dict[str, Any]] = []
    for name in opened.corpora():
        about = opened.attributes(f"corpora/{name}")
        what = f"{about['n_examples']:,} examples, {about['n_words']:,} words"
        if about["source"].get("format") == NUMBERED:
            what = f"{about['n_examples']:,} bare rows"
        records.append({"path": f"corpora/{name}", "what": what})
    wanted = path.strip("/")
    depths: dict[str, int] = {}
    entries = variant_entries(opened, opened.variants())
    listed = [entry for entry in entries if f"variants/{entry.name}".startswith(wanted)]
    for entry, depth, lineage in nested(listed):
        node = f"variants/{entry.name}"
        depths[node] = depth
        what = ", ".join(filter(None, [entry.about, *lineage]))
        made = {"parent": entry.base, "training": entry.training}
        records.append({"path": node, "what": what, **made})
    for state in opened.sets():
        plan = state.plan
        layout = plan.layout
        what = (
            f"{layout.n_rows:,} {plan.contents['unit']} rows ({plan.contents['rows']}), "
            f"{_arrays(plan.arrays)}, {layout.dtype}, {state.n_bytes / 1e6:,.1f} MB, "
        )
        missing = int((~state.committed).sum())
        what += "sealed" if state.sealed else f"{missing} of {layout.n_windows} windows missing"
        records.append({"path": plan.path, "what": what})
    for analysis in opened.location.nodes("results"):
        for identity in opened.location.nodes(f"results/{analysis}"):
            node = f"results/{analysis}/{identity}"
            settings = opened.attributes(node).get("settings")
            records.append({"path": node, "what": described(analysis, settings)})
    records = [record for record in records if record["path"].startswith(wanted)]
    if path and not records:
        opened.check_path(path)
    if as_json:
        click.echo(json.dumps({"lake": opened.location.name, "records": records}))
        return
    lines = [("  " * depths.get(r["path"], 0) + r["path"], r["what"]) for r in records]
    width = max((len(indented) for indented, _ in lines), default=0)
    for indented, what in lines:
        click.echo(f"{indented:{width}}  {what}")


def _arrays(names: Sequence[str]) -> str:
    """Say which arrays a set has: `7 layers` of resid, or `13 arrays of resid, mlp_out`."""
    sites = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
    return (
        f"{len(names)} layers"
        if sites == ["resid"]
        else f"{len(names)} arrays of {', '.join(sites)}"
    )


@click.command()
@click.argument("path", shell_complete=paths)
@lake_option()
@json_option()
def info(path: str, lake: str | None, as_json: bool) -> None:
    """Show the attributes of the node at PATH.

    \b
    Example:
      layerlake info variants/base
    """
    from layerlake.store.errors import InvalidInput
    from layerlake.store.lake import open_lake

    opened = open_lake(lake)
    attributes = opened.attributes(opened.check_path(path))
    if not attributes:
        raise InvalidInput(f"{path} only groups others; name one that `layerlake ls {path}` lists")
    if as_json:
        click.echo(json.dumps(attributes, ensure_ascii=False))
        return
    base = _base_of(opened, path)
    if base is not None:
        click.echo(f"own base: variants/{base}")
    for name, value in _flat(attributes):
        click.echo(f"{name}: {value}")


def _base_of(lake: Lake, path: str) -> str | None:
    """Return the variant that the one at a path was made from, where the lake holds it."""
    from layerlake.store.views.variant_entries import variant_entries

    section, _, name = path.strip("/").partition("/")
    if section != "variants":
        return None
    entries = variant_entries(lake, lake.variants())
    return next((entry.base for entry in entries if entry.name == name), None)


def _flat(attributes: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name of every attribute and its value as text."""
    for name, value in attributes.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + name, text


@click.command()
@click.argument("path", required=False, shell_complete=paths)
@click.option("--repair", is_flag=True, help="Drop damaged windows, so that extraction can resume.")
@lake_option()
@json_option()
def verify(path: str | None, repair: bool, lake: str | None, as_json: bool) -> None:
    """Check checksums, metadata, completeness and finite values; exit code 1 on damage.

    \b
    Example:
      layerlake verify
      layerlake verify activations/wiki/base --repair
    """
    from layerlake.engine.progress import to_terminal
    from layerlake.engine.verification import verify as check
    from layerlake.store.lake import open_lake

    opened = open_lake(lake, "r+" if repair else "r")
    found = check(opened, path, repair=repair, progress=to_terminal)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
    else:
        for finding in found.findings:
            mended = " (dropped)" if finding.repaired else ""
            click.echo(f"{finding.path}: {finding.problem}{mended}")
        verdict = "sound" if not found.findings else f"{len(found.findings)} findings"
        click.echo(
            f"{verdict}: {found.n_chunks:,} chunks, {found.n_bytes / 1e6:,.1f} MB checked, "
            f"{found.n_incomplete} sets incomplete"
        )
    sys.exit(0 if found.sound else 1)


@click.command()
@click.argument("path", shell_complete=paths)
@lake_option()
@json_option()
def rm(path: str, lake: str | None, as_json: bool) -> None:
    """Remove the corpus, variant, set or result at PATH for good.

    \b
    Example:
      layerlake rm activations/wiki/base
    """
    from layerlake.store.lake import open_lake
    from layerlake.store.removal import remove

    remove(open_lake(lake, "r+"), path)
    click.echo(json.dumps({"removed": path}) if as_json else f"removed {path}")


@click.command()
@lake_option()
@json_option()
def gc(lake: str | None, as_json: bool) -> None:
    """Finish interrupted removals and delete what dead writers left behind.

    \b
    Example:
      layerlake gc
    """
    from layerlake.store.lake import open_lake
    from layerlake.store.removal import gc as collect

    freed = collect(open_lake(lake, "r+"))
    click.echo(json.dumps({"freed_bytes": freed}) if as_json else f"freed {freed:,} bytes")
