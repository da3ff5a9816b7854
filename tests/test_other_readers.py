"""A whole lake, made by real extraction and analysis, as the other readers of Zarr see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from layerlake.analyses.similarity.comparing.compare import rsa
from layerlake.engine.extraction.extract import extract
from layerlake.store.lake import open_lake
from layerlake.store.verify import verify

pytest.importorskip("torch")

SENTENCES = """\
# sent_id = one
1\tGulls\tgull\tNOUN\tNNS\t_\t2\tnsubj\t_\t_
2\tcry\tcry\tVERB\tVBP\t_\t0\troot\t_\t_

# sent_id = zwö
1\tNaïve\tnaive\tADJ\tJJ\t_\t2\tamod\t_\t_
2\tvisitors\tvisitor\tNOUN\tNNS\t_\t3\tnsubj\t_\t_
3\tstare\tstare\tVERB\tVBP\t_\t0\troot\t_\t_

"""


@pytest.fixture(scope="module", params=["none", "lz4"])
def lake(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small_bert: Path
) -> Path:
    """A lake with a corpus with annotations, two variants, both units, and a result."""
    folder = tmp_path_factory.mktemp("lake")
    corpus = folder / "shore.conllu"
    corpus.write_text(SENTENCES + SENTENCES.replace("one", "2").replace("zwö", "3"), "utf-8")
    opened = open_lake(folder / "lake", "a")
    for variant, seed in (("base", None), ("random", 1)):
        for unit in ("piece", "word"):
            extract(
                opened,
                str(small_bert),
                corpus,
                variant=variant,
                randomize=seed,
                unit=unit,
                codec=request.param,
            )
    rsa(opened, rows="all")
    assert verify(opened).findings == ()
    return folder / "lake"


def arrays(lake: Path) -> list[Path]:
    """Return the folder of every array below a lake."""
    found = [
        path.parent
        for path in sorted(lake.rglob("zarr.json"))
        if json.loads(path.read_text("utf-8"))["node_type"] == "array"
    ]
    assert len(found) > 60
    return found


def stock(folder: Path) -> Any:
    """Return all values of an array as zarr-python reads it."""
    return np.asarray(zarr.open_array(folder, mode="r")[...])


def test_zarr_lists_and_reads_everything_without_a_warning(lake: Path) -> None:
    # Warnings are errors in these tests.
    root = zarr.open_group(lake, mode="r")
    members = dict(root.members(max_depth=None))
    listed = {path for path, node in members.items() if isinstance(node, zarr.Array)}
    assert listed == {str(folder.relative_to(lake)) for folder in arrays(lake)}
    assert root.tree() is not None
    opened = open_lake(lake)
    for path in opened.set_paths():
        layers = sorted(p for p in listed if p.startswith(f"{path}/resid/"))
        assert len(layers) == 4
        for layer in layers:
            _, corpus, variant, _, site, number = layer.split("/")
            unit = opened.attributes(path)["contents"]["unit"]
            space = opened.space(corpus, variant, int(number), site, unit=unit)
            assert stock(lake / layer).tobytes() == space.rows(slice(None)).tobytes()


def test_tensorstore_reads_the_same_bits(lake: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    for folder in arrays(lake):
        kvstore = {"driver": "file", "path": f"{folder}/"}
        found = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()
        assert found.dtype == stock(folder).dtype
        assert found.tobytes() == stock(folder).tobytes(), folder


def test_zarrs_reads_the_same_bits(lake: Path) -> None:
    pytest.importorskip("zarrs")
    for folder in arrays(lake):
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            found = stock(folder)
        assert found.tobytes() == stock(folder).tobytes(), folder
