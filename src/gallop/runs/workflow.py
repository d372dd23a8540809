"""Runs begin and go on here: a new one, one that was stopped, a folder made for later.

They differ in where the loop starts and in nothing else; stages.py has what follows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.settings import Experiment
from gallop.machine import machine
from gallop.report.display import Display
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import new_folder, remove_leftovers
from gallop.run_folder.links import check_contents
from gallop.run_folder.lookup import name_of_now, run_path
from gallop.run_folder.prepared import PreparedRun, prepare
from gallop.run_folder.provenance import now, versions, write_records
from gallop.run_folder.trackers import Tracker
from gallop.runs.stages import Stages
from gallop.runs.training import initial_learner, learner_for


def run(
    experiment: Experiment,
    results: Path = Path("results"),
    name: str | None = None,
    display: Display | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> RunDirectory:
    """Train, evaluate and film one experiment in a new run folder.

    Args:
        experiment: resolved, from `yaml_file.load` or `from_dict`.
        results: the folder that holds all runs.
        name: of the run; default: now, as YYYYMMDD_HHMMSS.
        own_trackers: objects of your own that take the run's numbers, besides those it names.

    Raises:
        ExperimentError: before anything is written, if the experiment cannot be run.
        RunError: if the folder exists already or cannot be written.
        Stopped: after SIGINT or SIGTERM; `resume` goes on.
    """
    display = display or Display()
    prepared = prepare(experiment)
    path = run_path(results, experiment.algo, experiment.env, name or name_of_now())
    folder = RunDirectory(path)
    display.plan(prepared, path)
    # What cannot be made is refused before anything is written.
    display.say("making environments and networks")
    with initial_learner(prepared) as (environments, learner):
        folder.create(experiment, learner.save_policy if experiment.init_from else None)
        write_records(folder, prepared)
        Stages(folder, prepared, display, own_trackers).go(environments, learner)
    return folder


def make_folder(path: Path, prepared: PreparedRun) -> RunDirectory:
    """A new run's folder as `run` leaves it before the first timestep; `resume` trains it.

    It appears whole or not at all.
    """
    with new_folder(path) as temporary:
        folder = RunDirectory(temporary)
        folder.state.mkdir()
        if prepared.experiment.init_from:
            with initial_learner(prepared) as (_, learner):
                learner.save_policy(folder.initial_model)
        write_records(folder, prepared)
        folder.write_experiment(prepared.experiment)
    return RunDirectory(path)


def resume(
    folder: RunDirectory,
    display: Display | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> None:
    """Go on from a run's last boundary to its end, with the experiment that its folder holds.

    Raises:
        RunError: if the folder holds no run, holds a link that leaves it, or another process is
            running it.
        Stopped: after SIGINT or SIGTERM.
    """
    display = display or Display()
    check_contents(folder.path)
    prepared = prepare(folder.read_experiment())
    with folder.locked():
        if not folder.seeds_file.exists():  # killed in its first moment
            write_records(folder, prepared)
        record = folder.read_json("provenance.json")
        check_learner(folder, prepared)
        today = {**versions(), "kernels": prepared.choice.instruction_set}
        before = {**record["versions"], "kernels": record["instruction_set"]}
        _warn_of_changes(before, today, display)
        record["resumes"].append({"at": now(), "command": sys.argv, **machine()})
        folder.write_json("provenance.json", record)
        remove_leftovers(folder.path)
    display.plan(prepared, folder.path)
    go_on(folder, prepared, display, own_trackers)


def go_on(
    folder: RunDirectory,
    prepared: PreparedRun,
    display: Display,
    own_trackers: Sequence[Tracker] = (),
) -> None:
    """From the last boundary of a folder, or its very beginning, to the end of the plan."""
    display.say("making environments and networks")
    with learner_for(prepared) as (environments, learner):
        if folder.initial_model.exists() and resume_state.newest_boundary(folder.state) is None:
            learner.read_policy(folder.initial_model)
        Stages(folder, prepared, display, own_trackers).go(environments, learner)


def check_learner(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Refuse to go on with another learner than the one that trained the run.

    Raises:
        RunError: if this machine would take another.
    """
    trained_by, ours = folder.read_json("provenance.json")["learner"], prepared.choice.name
    if trained_by != ours:
        raise RunError(f"{folder.path} was trained by {trained_by}, not {ours}")


def _warn_of_changes(before: dict[str, str], today: dict[str, str], display: Display) -> None:
    changed = [f"{n} {before.get(n)} → {v}" for n, v in today.items() if before.get(n) != v]
    if changed:
        display.say(
            f"versions have changed since the run started ({', '.join(changed)}): it goes on, "
            "but not with the bits that it would have had"
        )
