"""Starting and resuming runs: a new run, a stopped one, a folder prepared for later.

They differ only in where the loop starts; stages.py has what follows.
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
from gallop.run_folder import consent, manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import remove_leftovers
from gallop.run_folder.links import check_contents
from gallop.run_folder.lookup import name_of_now, run_path
from gallop.run_folder.prepared import PreparedRun, prepare, prepare_again
from gallop.run_folder.provenance import (
    now,
    versions,
    write_records,
    write_seeds,
)
from gallop.run_folder.run_paths import TEMPORARY
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

    The folder is ``results/<ALGO>_<ENV_ID>/<name>``. While it trains, the plan, a progress bar and
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
        TaskError: if the task's own code fails.
        DivergedError: if training diverges.
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
    path = run_path(Path(results), experiment.algo, experiment.env, name or name_of_now())
    folder = RunDirectory(path)
    folder.check_is_new()
    prepared = prepare(experiment)
    display.plan(prepared, path)
    space.check_before(path, prepared.plan, display)
    # Before anything is written, so that failures leave no folder.
    display.say("making environments and networks")
    with initial_learner(prepared) as (environments, learner):
        consent.asked_for(experiment)
        folder = _created(folder.path, prepared, learner)
        with folder.locked():
            Stages(folder, prepared, display, own_trackers).go(environments, learner)
    return folder


def make_folder(path: Path, prepared: PreparedRun) -> RunDirectory:
    """Make a new run's folder as it is before the first timestep; `resume` trains it.

    The folder appears complete or not at all.

    Args:
        path: the new folder.
        prepared: the experiment to run in it.

    Raises:
        RunError: if it already exists or cannot be written.
    """
    if not prepared.experiment.init_from:
        return _created(path, prepared, None)
    with initial_learner(prepared) as (_, learner):
        return _created(path, prepared, learner)


def _created(path: Path, prepared: PreparedRun, learner: Learner | None) -> RunDirectory:
    """Make a run's folder with its records and with the learner's initial policy."""

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
    edited_model: bool = False,
    watchdog: object = None,
) -> None:
    """Resume a run from its last boundary to its end, with the experiment in its folder.

    A finished run is left as it is; only missing films and audits are retried.

    Args:
        folder: the run.
        display: where to print; default: standard output.
        own_trackers: custom trackers, in addition to those the experiment names.
        drop_damaged: if the replay buffer is damaged, continue without the lost rows.
        edited_model: continue although the file of the robot's model has been edited.
        watchdog: another value of this setting, for this call only.

    Raises:
        RunError: if the folder is not a run folder, contains a link that leaves it, its resume
            state is damaged, or another process is running it; nothing is changed in these cases.
        TaskError: if the task's own code fails.
        DivergedError: if training diverges.
        Stopped: after SIGINT or SIGTERM.
    """
    display = display or Display()
    check_contents(folder.path)
    experiment = folder.read_experiment()
    if folder.is_finished() and not (folder.film_jobs() or folder.audit_jobs()):
        _tidy(folder)
        display.say(f"{folder.path} is finished: nothing to do")
        return
    _look_at_divergence(folder, display)
    if watchdog is not None:
        experiment = from_dict(experiment.model_dump() | {"watchdog": watchdog})
    prepared = prepare_again(experiment, folder.read_probed())
    killed = folder.killed_holder()
    with folder.locked():
        if killed is not None:
            display.say(
                f"the last process of this run ({killed}) was killed or ended by its task; "
                "resuming from what it saved"
            )
        with space.explaining(folder, prepared.plan):
            _complete_records(folder, prepared)
            recovery.check_results(folder, display)
            prepared = with_its_learner(folder, prepared)
            if edited_model:
                _accept_model(folder, prepared)
            check_model(folder, prepared)
            _warn_of_changes(folder, prepared, display)
            remove_leftovers(folder.path)
        done = resume_state.last_timestep(folder.state)
        display.plan(prepared, folder.path, done)
        go_on(folder, prepared, display, own_trackers, drop_damaged, resumed=True)


def _tidy(folder: RunDirectory) -> None:
    """Remove unfinished writes of a run that was killed just before its end."""
    if any(folder.path.rglob(f"{TEMPORARY}*")):
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
    """Train from the last boundary of a folder, or from the start, to the end of the plan.

    The caller has locked the folder. For the arguments, see `resume`.
    """
    display.say("making environments and networks")
    with learner_for(prepared) as (environments, learner):
        stages = Stages(folder, prepared, display, own_trackers, drop_damaged, resumed)
        stages.go(environments, learner)


def _complete_records(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Write records that are missing because an earlier version was killed just after its start; an
    existing record is never replaced."""
    if manifest.root_of(folder.path) is not None or folder.seeds_file.exists():
        return
    if folder.provenance_file.exists():
        if not folder.read_json(folder.provenance_file.name).get("manifest"):
            write_seeds(folder, prepared)
    elif not any(path.exists() for path in folder.numbers.files):
        write_records(folder, prepared)
        manifest.begin(folder.path, folder.results())


def with_its_learner(folder: RunDirectory, prepared: PreparedRun) -> PreparedRun:
    """Return the run with the learner that has trained it, and with the same instruction set if
    the processor supports it.

    Raises:
        RunError: if this machine would choose another learner.
    """
    record = folder.read_json("provenance.json")
    trained_by, ours = record["learner"], prepared.choice.name
    if trained_by != ours:
        raise RunError(
            f"{folder.path} was trained by the {trained_by} learner and cannot continue with the "
            f"{ours} learner"
        )
    return prepared.with_instruction_set(record["instruction_set"])


def check_model(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Refuse to continue with an edited model of the robot.

    Another version of MuJoCo, which compiles the same file to another model, is only warned of.

    Raises:
        RunError: if the model is not the one that the run began with.
    """
    before, task = folder.read_task(), prepared.task
    if before is None or before.versions.get("mujoco") != task.versions.get("mujoco"):
        return
    if before.model_sha256 != task.model_sha256:
        raise RunError(
            f"the model of {task.env} has changed since {folder.path} began: undo the change to "
            f"its file, or start a new run from the best policy (--init-from {folder.best_model}); "
            "--resume with --edited-model continues with the model as it is now"
        )


def _accept_model(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Record that the run continues on another task than it began with."""
    record = folder.read_json(folder.provenance_file.name)
    before, task = record.get("task"), prepared.task._asdict()
    if before != task:
        earlier = [*record.get("earlier_tasks", []), {"until": now(), "task": before}]
        changed = {"task": task, "earlier_tasks": earlier}
        folder.write_json(folder.provenance_file.name, record | changed)


def _look_at_divergence(folder: RunDirectory, display: Display) -> None:
    """Report why a run diverged, and refuse to resume it if it would only diverge again.

    Raises:
        RunError: if so, with what to do instead.
    """
    told = folder.read_diverged()
    if told is None:
        return
    if not told.would_again:
        display.say(f"{folder.path} last ended with: {told.message}")
        return
    best = folder.best_model
    instead = f", start a new run from its best policy (--init-from {best})"
    raise RunError(
        f"{folder.path} diverged: {told.message}. Resuming would repeat this bit for bit: train "
        f"with other settings{instead if best.exists() else ''}, or delete {folder.diverged_file} "
        "to resume anyway"
    )


def _warn_of_changes(folder: RunDirectory, prepared: PreparedRun, display: Display) -> None:
    record = folder.read_json(folder.provenance_file.name)
    if not record["versions"]:  # lost, and replaced by `gallop verify --accept`
        return
    today = {**versions(), "kernels": prepared.choice.instruction_set}
    before = {**record["versions"], "kernels": record["instruction_set"]}
    changed = [f"{n} {before.get(n)} → {v}" for n, v in today.items() if before.get(n) != v]
    if changed:
        display.say(
            f"versions have changed since the run started ({', '.join(changed)}): it continues, "
            "but will not be bit-identical to an uninterrupted run"
        )
