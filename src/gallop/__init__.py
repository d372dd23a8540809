"""Gallop: from hyper-parameters to a trained, evaluated and filmed locomotion policy.

    import gallop

    experiment = gallop.experiment("configs/quickstart.yaml", training_seed=1)
    run = gallop.run(experiment)
    gallop.watch(run.path)

The same words as the command line's. Reading order is import order; the README's code tour lists
the modules in it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gallop.environments import make_env
    from gallop.judge import evaluate
    from gallop.player import watch
    from gallop.presets import experiment
    from gallop.seed_group import run_seeds
    from gallop.tuning.rounds import tune
    from gallop.workflow import run

__all__ = ["evaluate", "experiment", "make_env", "run", "run_seeds", "tune", "watch"]

# Where each lives. They are imported when they are asked for: `gallop --help` needs none of them.
_OFFERED = {
    "experiment": "gallop.presets",
    "run": "gallop.workflow",
    "evaluate": "gallop.judge",
    "run_seeds": "gallop.seed_group",
    "tune": "gallop.tuning.rounds",
    "make_env": "gallop.environments",
    "watch": "gallop.player",
}


def __getattr__(name: str) -> Any:
    if name in _OFFERED:
        return getattr(importlib.import_module(_OFFERED[name]), name)
    raise AttributeError(f"module 'gallop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
