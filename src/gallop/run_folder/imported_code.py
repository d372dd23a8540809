"""Code that a run's experiment names, and whether it lies beside the run."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import load, read_setting


def read_trained(file: Path) -> Experiment:
    """The experiment that a results folder holds.

    Raises:
        ExperimentError: if it is none, or would import code that lies beside it.
    """
    _refuse_code_that_came_along(file)
    return load(file)


def _refuse_code_that_came_along(file: Path) -> None:
    """A run's experiment may name modules to import: its task, its wrappers. In a folder from a
    stranger they could lie in that same folder, and be found from the folder that we are in.

    Raises:
        RunError: if a module would come from beside the run and from nowhere else.
    """
    env, wrappers = read_setting(file, "env"), read_setting(file, "wrappers")
    wrappers = wrappers if isinstance(wrappers, list) else []
    paths = [name for w in wrappers for name in (w if isinstance(w, dict) else [w])]
    modules = {str(path).replace(":", ".").partition(".")[0] for path in paths}
    modules |= {str(env).rpartition(":")[0].partition(".")[0]} - {""}
    here, folder = Path.cwd(), file.resolve().parent
    # All that came with it: its own folder, and the one below here that holds it.
    along = [folder]
    if folder.is_relative_to(here) and folder != here:
        along.append(here / folder.relative_to(here).parts[0])
    chosen = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    trusted = [Path(part).resolve() for part in chosen if part]
    others = [p for p in sys.path if Path(p or ".").resolve() != here or here in trusted]
    for module in modules:
        if module in sys.modules or PathFinder.find_spec(module, others):
            continue
        spec = PathFinder.find_spec(module, [str(here)])
        found = [*(spec.submodule_search_locations or []), spec.origin] if spec else []
        if any(Path(p).resolve().is_relative_to(a) for p in found if p for a in along):
            raise RunError(
                f"{file} names the module {module!r}, which lies beside the run: reading it would "
                "run that code; if you trust it, set PYTHONPATH=."
            )
