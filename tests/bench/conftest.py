"""An interpreter with stand-ins of the packages that the suites measure."""

from __future__ import annotations

import sys

import pytest

# A stand-in of the few functions that the suites call, so that no test needs the packages.
_RSATOOLBOX = """
import numpy as np
class _Rdm:
    def __init__(self, rows):
        self.rows, self.pattern_descriptors = rows, {}
        self.all = [np.corrcoef(rows)[np.triu_indices(len(rows), 1)]]
class data:
    @staticmethod
    def Dataset(rows, obs_descriptors=None):
        return np.array(rows, float)
class rdm:
    @staticmethod
    def calc_rdm(dataset, method):
        assert method == "correlation"
        return _Rdm(dataset)
    @staticmethod
    def concat(rdms):
        joined = _Rdm(rdms[0].rows)
        joined.all = [r.all[0] for r in rdms]
        return joined
    @staticmethod
    def compare(one, other, method):
        order = (lambda v: v.argsort().argsort()) if method == "spearman" else (lambda v: v)
        count = len(one.all)
        return np.corrcoef([order(v) for v in [*one.all, *other.all]])[:count, count:]
class model:
    @staticmethod
    def ModelFixed(name, rdm):
        return rdm
class inference:
    @staticmethod
    def eval_bootstrap_pattern(models, data, method, N, pattern_descriptor, boot_noise_ceil):
        for _ in range(N):
            rdm.compare(models[0], data, method)
"""
_HELPERS = """
import numpy as np
def compute_rdm(rows, method):
    print("noise that must not reach the answers")
    return 1 - np.corrcoef(rows)
def correlate_rdms(one, other, score):
    upper = np.triu_indices(len(one), 1)
    return np.corrcoef(one[upper], other[upper])[0, 1]
"""


@pytest.fixture(scope="session")
def peer_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter that stand-ins of rsatoolbox and thingsvision are installed for."""
    place = tmp_path_factory.mktemp("peers")
    site = place / "site"
    (site / "thingsvision" / "core" / "rsa").mkdir(parents=True)
    (site / "rsatoolbox.py").write_text(_RSATOOLBOX)
    (site / "thingsvision" / "__init__.py").write_text("import nothing_that_is_installed\n")
    (site / "thingsvision" / "core" / "rsa" / "helpers.py").write_text(_HELPERS)
    for name in ("rsatoolbox", "thingsvision"):
        described = site / f"{name}-9.8.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Name: {name}\nVersion: 9.8\n")
    python = place / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(python)
