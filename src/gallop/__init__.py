"""Gallop: from hyper-parameters to a trained, evaluated and filmed locomotion policy.

    import gallop

    experiment = gallop.experiment("quickstart", training_seed=1)
    run = gallop.run(experiment)
    gallop.evaluate(run)
    gallop.watch(run)

The functions have the names of the command line's commands. Wherever they take a path, a `str`, a
`pathlib.Path` and an object that another of these functions returned are equally good.

To read the code, follow the import order; the code tour in docs/architecture.md lists the packages
in that order.
"""

from __future__ import annotations

import importlib
import sys


# `python -m gallop` puts the current folder first on sys.path, where any file could be mistaken for
# a module that we import. Python's own start-up is over by now, so it is enough to remove it here.
def _is_run_by_python_m() -> bool:
    if sys.argv[:1] != ["-m"]:
        return False
    name = sys.orig_argv[-len(sys.argv)]
    if name.startswith("-"):  # "-mgallop", "-umgallop"
        name = name.partition("m")[2]
    return name.partition(".")[0] == "gallop"


if _is_run_by_python_m() and not sys.flags.safe_path:
    del sys.path[0]

from typing import TYPE_CHECKING, Any  # noqa: E402

__version__ = "0.1.0"
DISTRIBUTION = "gallop-rl"  # the name for pip; "gallop" on PyPI is an unrelated package

if TYPE_CHECKING:
    from gallop.commands.playing import watch
    from gallop.commands.scoring import evaluate
    from gallop.environments.make import make_env
    from gallop.execution.ray_cluster import RayCluster
    from gallop.experiments.presets import experiment
    from gallop.runs.seed_group import run_seeds
    from gallop.runs.workflow import run
    from gallop.tuning.rounds import tune

__all__ = ["RayCluster", "evaluate", "experiment", "make_env", "run", "run_seeds", "tune", "watch"]

# The module of each public function. They are imported on first use: `gallop --help` needs none.
_OFFERED = {
    "experiment": "gallop.experiments.presets",
    "run": "gallop.runs.workflow",
    "evaluate": "gallop.commands.scoring",
    "run_seeds": "gallop.runs.seed_group",
    "tune": "gallop.tuning.rounds",
    "make_env": "gallop.environments.make",
    "watch": "gallop.commands.playing",
    "RayCluster": "gallop.execution.ray_cluster",
}


def __getattr__(name: str) -> Any:
    if name in _OFFERED:
        return getattr(importlib.import_module(_OFFERED[name]), name)
    raise AttributeError(f"module 'gallop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
