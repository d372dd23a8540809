"""Every run of a results folder, at a glance: `gallop list`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from gallop.errors import printable, shortened
from gallop.experiments.plan import last_timestep
from gallop.experiments.yaml_file import read_resolved
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.lookup import all_runs

MAX_REASON = 300  # characters


Status: TypeAlias = Literal["finished", "running", "stopped", "diverged", "damaged"]


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
    status: Status
    reason: str = ""
    """What is wrong with a damaged run, or why it has diverged."""


def list_runs(results: Path = Path("results")) -> list[Listed]:
    """All runs below a folder, oldest first.

    Nothing is changed, nothing large is read, and no task is imported: only files are read.
    """
    return [_listed(folder) for folder in all_runs(results)]


def _listed(folder: RunDirectory) -> Listed:
    try:
        return _read(folder)
    except Exception as error:  # whatever its files hold, the other runs are listed
        algo, _, env = (folder.group or folder.path).parent.name.partition("_")
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename:
            reason = f"{error.filename} cannot be read: {error.strerror}"
        reason = shortened(printable(reason), MAX_REASON)
        return Listed(folder.path, folder.name, algo.lower(), env, 0, 0, None, "damaged", reason)


def _read(folder: RunDirectory) -> Listed:
    experiment = read_resolved(folder.experiment_file)
    horizon = last_timestep(experiment)
    try:
        finished = folder.read_json("provenance.json").get("end") is not None
    except FileNotFoundError:  # killed in its first moment
        finished = False
    diverged = None if finished else folder.read_diverged()
    running = not finished and folder.is_locked()
    mean_return = folder.numbers.final_return()
    evaluations = folder.numbers.read_evaluations()
    if mean_return is None and evaluations is not None and len(evaluations.timesteps):
        mean_return = float(evaluations.results[-1].mean())
    status: Status = "stopped" if diverged is None else "diverged"
    if finished or running:
        status = "finished" if finished else "running"
    return Listed(
        path=folder.path,
        name=folder.name,
        algo=experiment.algo,
        env=experiment.env,
        timestep=horizon if finished else resume_state.last_timestep(folder.state),
        horizon=horizon,
        mean_return=mean_return,
        status=status,
        reason="" if diverged is None else shortened(printable(diverged.message), MAX_REASON),
    )
