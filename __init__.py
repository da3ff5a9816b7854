"""LayerLake: extract a model's activations once, analyse them many times.

Importing this loads none of the names below: each arrives from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlake.analyses.finetuning.evaluate import evaluate
    from layerlake.analyses.finetuning.finetune import finetune
    from layerlake.analyses.finetuning.many_runs import finetune_many
    from layerlake.analyses.profiles.profile import plan_profile, profile
    from layerlake.analyses.profiles.space_profile import profile_array, profile_space
    from layerlake.analyses.results.rsatoolbox import from_rsatoolbox
    from layerlake.analyses.similarity.comparing.compare import compare, plan_compare, rsa
    from layerlake.analyses.similarity.comparing.compare_arrays import compare_arrays
    from layerlake.engine.catalogue import add_corpus
    from layerlake.engine.corpora.corpus import Corpus
    from layerlake.engine.corpora.reading import read_corpus
    from layerlake.engine.extraction.extract import extract
    from layerlake.engine.extraction.many_variants import extract_many
    from layerlake.engine.importing import import_activations
    from layerlake.engine.progress import silent, to_function, to_json_lines, to_terminal
    from layerlake.engine.verification import verify
    from layerlake.store.errors import LayerLakeError
    from layerlake.store.lake import Lake, open_lake
    from layerlake.store.removal import gc, remove
    from layerlake.store.space import Space

__version__ = "0.2.0.dev0"

__all__ = [
    "Corpus",
    "Lake",
    "LayerLakeError",
    "Space",
    "__version__",
    "add_corpus",
    "compare",
    "compare_arrays",
    "evaluate",
    "extract",
    "extract_many",
    "finetune",
    "finetune_many",
    "from_rsatoolbox",
    "gc",
    "import_activations",
    "open_lake",
    "plan_compare",
    "plan_profile",
    "profile",
    "profile_array",
    "profile_space",
    "read_corpus",
    "remove",
    "rsa",
    "silent",
    "to_function",
    "to_json_lines",
    "to_terminal",
    "verify",
]

_HOMES = {
    "Corpus": "layerlake.engine.corpora.corpus",
    "Lake": "layerlake.store.lake",
    "LayerLakeError": "layerlake.store.errors",
    "Space": "layerlake.store.space",
    "add_corpus": "layerlake.engine.catalogue",
    "compare": "layerlake.analyses.similarity.comparing.compare",
    "compare_arrays": "layerlake.analyses.similarity.comparing.compare_arrays",
    "evaluate": "layerlake.analyses.finetuning.evaluate",
    "extract": "layerlake.engine.extraction.extract",
    "extract_many": "layerlake.engine.extraction.many_variants",
    "finetune": "layerlake.analyses.finetuning.finetune",
    "finetune_many": "layerlake.analyses.finetuning.many_runs",
    "from_rsatoolbox": "layerlake.analyses.results.rsatoolbox",
    "gc": "layerlake.store.removal",
    "import_activations": "layerlake.engine.importing",
    "open_lake": "layerlake.store.lake",
    "plan_compare": "layerlake.analyses.similarity.comparing.compare",
    "plan_profile": "layerlake.analyses.profiles.profile",
    "profile": "layerlake.analyses.profiles.profile",
    "profile_array": "layerlake.analyses.profiles.space_profile",
    "profile_space": "layerlake.analyses.profiles.space_profile",
    "read_corpus": "layerlake.engine.corpora.reading",
    "remove": "layerlake.store.removal",
    "rsa": "layerlake.analyses.similarity.comparing.compare",
    "silent": "layerlake.engine.progress",
    "to_function": "layerlake.engine.progress",
    "to_json_lines": "layerlake.engine.progress",
    "to_terminal": "layerlake.engine.progress",
    "verify": "layerlake.engine.verification",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'layerlake' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # so that the next use costs nothing
    return value


def __dir__() -> list[str]:
    """List the public names, imported yet or not."""
    return list(__all__)
