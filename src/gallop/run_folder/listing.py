"""All runs of a results folder at a glance: `gallop list`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from gallop.errors import printable, shortened
from gallop.experiments.plan import last_timestep
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import read_resolved
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.lookup import all_runs

MAX_REASON = 300  # characters
MAX_ARGUMENTS = 80


Status: TypeAlias = Literal["finished", "running", "stopped", "diverged", "damaged"]


class Listed(NamedTuple):
    """A run, as listed."""

    path: Path
    name: str
    """Path below the folder of its algorithm and task: `first`, or `group/seed-3`."""
    algo: str
    env: str
    """Id of the task, with its keyword arguments in evaluations."""
    timestep: int
    """Timestep of the last resume state."""
    horizon: int
    mean_return: float | None
    """Mean return of the final policy on the evaluation seeds, else of the latest evaluation."""
    status: Status
    reason: str = ""
    """What is damaged, or why the run diverged."""


def list_runs(results: Path = Path("results")) -> list[Listed]:
    """Return all runs in a results folder, oldest first.

    Nothing is changed, no large file is read, and no task is imported.
    """
    return [_listed(folder) for folder in all_runs(results)]


def _listed(folder: RunDirectory) -> Listed:
    try:
        return _read(folder)
    except Exception as error:  # the other runs must be listed, whatever this one contains
        algo, _, env = (folder.group or folder.path).parent.name.partition("_")
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename:
            reason = f"{error.filename} cannot be read: {error.strerror}"
        reason = shortened(printable(reason), MAX_REASON)
        return Listed(folder.path, folder.name, algo.lower(), env, 0, 0, None, "damaged", reason)


def _arguments(experiment: Experiment) -> str:
    """The task's keyword arguments and wrappers: they make another task of the same id."""
    kwargs = experiment.evaluation_env_kwargs
    text = f" {{{', '.join(f'{name}: {kwargs[name]}' for name in kwargs)}}}" * bool(kwargs)
    names = [name for each in experiment.wrappers for name in each]
    return shortened(text + "".join(f" + {name}" for name in names), MAX_ARGUMENTS)


def _read(folder: RunDirectory) -> Listed:
    experiment = read_resolved(folder.experiment_file)
    horizon = last_timestep(experiment)
    try:
        finished = folder.read_json("provenance.json").get("end") is not None
    except FileNotFoundError:  # killed just after its start
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
        env=experiment.env + _arguments(experiment),
        timestep=horizon if finished else resume_state.last_timestep(folder.state),
        horizon=horizon,
        mean_return=mean_return,
        status=status,
        reason="" if diverged is None else shortened(printable(diverged.message), MAX_REASON),
    )
