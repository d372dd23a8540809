"""Runs begin and go on here: a new one, one that was stopped, a folder made for later.

They differ in where the loop starts and in nothing else; stages.py has what follows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import from_dict
from gallop.learners.learner import Learner
from gallop.report.display import Display
from gallop.run_folder import consent, manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import remove_leftovers
from gallop.run_folder.links import check_contents
from gallop.run_folder.lookup import name_of_now, run_path
from gallop.run_folder.prepared import PreparedRun, prepare
from gallop.run_folder.provenance import versions, write_records, write_seeds
from gallop.run_folder.trackers import Tracker
from gallop.runs import recovery, space
from gallop.runs.stages import Stages
from gallop.runs.training import initial_learner, learner_for


def run(
    experiment: Experiment,
    results: str | PathLike[str] = Path("results"),
    name: str | None = None,
    display: Display | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> RunDirectory:
    """Train, evaluate and film one experiment in a new run folder.

    The folder is `results/<ALGO>_<ENV_ID>/<name>`. While it trains, the plan, a progress bar and
    a closing table are printed.

    Args:
        experiment: what to train, from `gallop.experiment`.
        results: the folder that holds all runs.
        name: name of the run folder; default: the current time, as YYYYMMDD_HHMMSS.
        display: where to print; `Display(quiet=True)` prints errors only.
        own_trackers: your own objects that receive the run's numbers, in addition to the trackers
            that the experiment names.

    Returns:
        The run's folder. `gallop.evaluate` and `gallop.watch` accept it, and so does every function
        that takes a path.

    Raises:
        ExperimentError: before anything is written, if the experiment cannot be run.
        RunError: if the folder already exists or cannot be written.
        Stopped: after SIGINT or SIGTERM; `gallop run --resume` resumes the run.

    Example:
        A short run of PPO on the pendulum, without films::

            import gallop

            experiment = gallop.experiment(
                algo="ppo", env="Pendulum-v1", total_timesteps=4_096, milestones=[100], films=False
            )
            run = gallop.run(experiment, name="first")
            print(run.path, run.best_model)
    """
    display = display or Display()
    prepared = prepare(experiment)
    path = run_path(Path(results), experiment.algo, experiment.env, name or name_of_now())
    folder = RunDirectory(path)
    display.plan(prepared, path)
    space.check_before(path, prepared.plan, display)
    # What cannot be made is refused before anything is written.
    display.say("making environments and networks")
    with initial_learner(prepared) as (environments, learner):
        consent.asked_for(experiment)
        folder = _created(folder.path, prepared, learner)
        with folder.locked():
            Stages(folder, prepared, display, own_trackers).go(environments, learner)
    return folder


def make_folder(path: Path, prepared: PreparedRun) -> RunDirectory:
    """A new run's folder as `run` leaves it before the first timestep; `resume` trains it.

    It appears whole or not at all.
    """
    if not prepared.experiment.init_from:
        return _created(path, prepared, None)
    with initial_learner(prepared) as (_, learner):
        return _created(path, prepared, learner)


def _created(path: Path, prepared: PreparedRun, learner: Learner | None) -> RunDirectory:
    """A run's folder with its records, and with the policy that the learner begins with."""

    def fill(folder: RunDirectory) -> None:
        if prepared.experiment.init_from and learner is not None:
            learner.save_policy(folder.initial_model)
        write_records(folder, prepared)

    folder = RunDirectory(path)
    folder.create(prepared.experiment, fill)
    return folder


def resume(
    folder: RunDirectory,
    display: Display | None = None,
    own_trackers: Sequence[Tracker] = (),
    *,
    drop_damaged: bool = False,
    watchdog: object = None,
) -> None:
    """Go on from a run's last boundary to its end, with the experiment that its folder holds.

    A run that is finished is left as it is; only films that are missing are tried again.

    Args:
        watchdog: another value of this setting, for this call.
        drop_damaged: where the replay buffer is damaged, go on without the rows that are lost.

    Raises:
        RunError: if the folder holds no run, holds a link that leaves it, another process is
            running it, or what it goes on from is damaged; nothing is changed then.
        Stopped: after SIGINT or SIGTERM.
    """
    display = display or Display()
    check_contents(folder.path)
    experiment = folder.read_experiment()
    if folder.is_finished() and not folder.film_jobs():
        _tidy(folder)
        display.say(f"{folder.path} is finished: nothing to do")
        return
    _look_at_divergence(folder, display)
    if watchdog is not None:
        experiment = from_dict(experiment.model_dump() | {"watchdog": watchdog})
    prepared = prepare(experiment)
    killed = folder.killed_holder()
    with folder.locked():
        if killed is not None:
            display.say(f"{killed}, was killed or ended by its task: what it kept is gone on from")
        with space.explaining(folder, prepared.plan):
            _complete_records(folder, prepared)
            recovery.check_results(folder, display)
            check_learner(folder, prepared)
            _warn_of_changes(folder, prepared, display)
            remove_leftovers(folder.path)
        display.plan(prepared, folder.path)
        go_on(folder, prepared, display, own_trackers, drop_damaged, resumed=True)


def _tidy(folder: RunDirectory) -> None:
    """Remove what a run that was killed in its very last moment left of its last write."""
    if any(folder.path.rglob(".new-*")):
        with contextlib.suppress(RunError, OSError), folder.locked():
            remove_leftovers(folder.path)


def go_on(
    folder: RunDirectory,
    prepared: PreparedRun,
    display: Display,
    own_trackers: Sequence[Tracker] = (),
    drop_damaged: bool = False,
    resumed: bool = False,
) -> None:
    """From the last boundary of a folder, or its very beginning, to the end of the plan; the caller
    holds the folder."""
    display.say("making environments and networks")
    with learner_for(prepared) as (environments, learner):
        stages = Stages(folder, prepared, display, own_trackers, drop_damaged, resumed)
        stages.go(environments, learner)


def _complete_records(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Write what an earlier version, killed in its first moment, had not written; a record that is
    there is never replaced."""
    if manifest.root_of(folder.path) is not None or folder.seeds_file.exists():
        return
    if folder.provenance_file.exists():
        if not folder.read_json(folder.provenance_file.name).get("manifest"):
            write_seeds(folder, prepared)
    elif not any(path.exists() for path in folder.numbers.files):
        write_records(folder, prepared)
        manifest.begin(folder.path, folder.results())


def check_learner(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Refuse to go on with another learner than the one that trained the run.

    Raises:
        RunError: if this machine would take another.
    """
    trained_by, ours = folder.read_json("provenance.json")["learner"], prepared.choice.name
    if trained_by != ours:
        raise RunError(f"{folder.path} was trained by {trained_by}, not {ours}")


def _look_at_divergence(folder: RunDirectory, display: Display) -> None:
    """Say why a run has diverged, and refuse to go on with one that would do so again.

    Raises:
        RunError: with what can be done instead.
    """
    told = folder.read_diverged()
    if told is None:
        return
    if not told.would_again:
        display.say(f"{folder.path} ended last time with: {told.message}")
        return
    best = folder.best_model
    instead = f", start another from its best policy (--init-from {best})" if best.exists() else ""
    raise RunError(
        f"{folder.path} has diverged: {told.message}. Resumed, it would do so again with the same "
        f"bits: train with other settings{instead}, or delete {folder.diverged_file} to try all "
        "the same"
    )


def _warn_of_changes(folder: RunDirectory, prepared: PreparedRun, display: Display) -> None:
    record = folder.read_json(folder.provenance_file.name)
    if not record["versions"]:  # it was lost: `gallop verify --accept` made another
        return
    today = {**versions(), "kernels": prepared.choice.instruction_set}
    before = {**record["versions"], "kernels": record["instruction_set"]}
    changed = [f"{n} {before.get(n)} → {v}" for n, v in today.items() if before.get(n) != v]
    if changed:
        display.say(
            f"versions have changed since the run started ({', '.join(changed)}): it goes on, "
            "but not with the bits that it would have had"
        )
