"""Every run of a results folder, at a glance: `gallop list`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from gallop.errors import ExperimentError
from gallop.experiments.plan import make_plan
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.lookup import all_runs


class Listed(NamedTuple):
    """One run."""

    path: Path
    name: str
    """What it is called below its algorithm and task: `first`, or `group/seed-3`."""
    algo: str
    env: str
    timestep: int
    """Of the last resumable state."""
    horizon: int
    mean_return: float | None
    """Of the final policy on the evaluation seeds, or of the latest evaluation."""
    status: Literal["finished", "running", "stopped", "damaged"]
    reason: str = ""
    """What is wrong with a damaged run."""


def list_runs(results: Path = Path("results")) -> list[Listed]:
    """All runs below a folder, oldest first. Nothing is changed, and no file is hashed."""
    return [_listed(folder) for folder in all_runs(results)]


def _listed(folder: RunDirectory) -> Listed:
    try:
        experiment = folder.read_experiment()
        horizon = make_plan(experiment).horizon
        finished = folder.is_finished()
        running = not finished and folder.is_locked()
        mean_return = folder.numbers.final_return()
        evaluations = folder.numbers.read_evaluations()
    except (ExperimentError, OSError, ValueError, KeyError) as error:
        algo, _, env = (folder.group or folder.path).parent.name.partition("_")
        reason = str(error).splitlines()[0]
        return Listed(folder.path, folder.name, algo.lower(), env, 0, 0, None, "damaged", reason)
    if mean_return is None and evaluations is not None and len(evaluations.timesteps):
        mean_return = float(evaluations.results[-1].mean())
    return Listed(
        path=folder.path,
        name=folder.name,
        algo=experiment.algo,
        env=experiment.env,
        timestep=horizon if finished else resume_state.last_timestep(folder.state),
        horizon=horizon,
        mean_return=mean_return,
        status="finished" if finished else "running" if running else "stopped",
    )
