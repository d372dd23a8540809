"""A finished run's end as the beginning of a longer one.

The new run's folder begins with what a run planned so long from the start would hold by now: state,
curve, log, best policy, and the milestones that fall where one was kept. As segments draw from
(training seed, segment number) alone, a longer run with constant schedules then has the same bits
as one planned whole. Milestones that were passed without being kept are named as missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gallop.errors import ExperimentError, RunError
from gallop.experiments.plan import Plan, make_plan
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import compose, settings_of
from gallop.policies.normalizer_file import normalizer_path
from gallop.report.display import Display
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import Json, new_folder
from gallop.run_folder.links import check_contents
from gallop.run_folder.lookup import name_of_now, run_path
from gallop.run_folder.prepared import PreparedRun, prepare
from gallop.run_folder.provenance import VOUCHED, provenance, write_seeds
from gallop.runs import space
from gallop.runs.recovery import check_results, newest_whole_policy
from gallop.runs.workflow import check_learner, go_on

# What a longer run may change; all else decides bits that have been drawn already.
CHANGEABLE = (
    "total_timesteps",
    "milestones",
    "evaluation.interval",
    "films",
    "trackers",
    "watchdog",
    "source",
)


def extend(
    run: RunDirectory,
    overrides: Mapping[str, object],
    *,
    results: Path = Path("results"),
    name: str | None = None,
    new_horizon: bool = False,
    display: Display | None = None,
) -> RunDirectory:
    """Train a finished run longer, in a new run folder.

    Args:
        run: finished; it is left as it is.
        overrides: dotted name -> value; `total_timesteps` at least.
        results: the folder of all runs.
        name: of the new run; default: now.
        new_horizon: let schedules that are not constant go on as if the new total had been planned;
            they have already come to their end at the old one.

    Raises:
        ExperimentError: if the run is not finished, the new total does not line up, or another
            setting is changed.
    """
    display = display or Display()
    check_contents(run.path)
    before = run.read_experiment()
    experiment = longer(before, overrides, new_horizon)
    prepared = prepare(experiment)
    path = run_path(results, experiment.algo, experiment.env, name or name_of_now())
    folder = RunDirectory(path)
    with run.locked():
        old_plan = make_plan(before)
        _check_finished(run, old_plan)
        check_learner(run, prepared)
        check_results(run, display)
        display.plan(prepared, path)
        space.check_before(path, prepared.plan, display)
        if path.exists():
            raise RunError(f"{path} exists already; --name gives another")
        with new_folder(path) as temporary:
            begun = RunDirectory(temporary)
            _begin(run, begun, prepared, old_plan)
            manifest.begin(temporary, begun.results())
    display.say(f"begins with {run.path} at timestep {old_plan.horizon:,}")
    with folder.locked():
        go_on(folder, prepared, display)
    return folder


def longer(before: Experiment, overrides: Mapping[str, object], new_horizon: bool) -> Experiment:
    """The experiment of the longer run.

    Raises:
        ExperimentError: if it is not longer, does not line up, or changes what must stay.
    """
    for name in overrides:
        if name not in CHANGEABLE:
            raise ExperimentError(
                f"--extend goes on with a run as it is: leave out --{name} "
                f"({', '.join(CHANGEABLE)} can change)"
            )
    if "total_timesteps" not in overrides:
        raise ExperimentError(
            f"--extend needs more timesteps than {before.total_timesteps}, such as "
            f"-n {before.total_timesteps * 2}"
        )
    scheduled = [
        f"{name} {value}"
        for name, value in before.hyperparameters.model_dump().items()
        if isinstance(value, str) and value.startswith("lin_")
    ]
    if scheduled and not new_horizon:
        raise ExperimentError(
            f"{scheduled[0]} has come to its end at timestep {before.total_timesteps}; "
            "--new-horizon lets it go on as if the new total had been planned from the start"
        )
    settings: Json = settings_of(before)
    for name, value in overrides.items():
        section, _, last = name.rpartition(".")
        (settings[section] if section else settings)[last] = value
    experiment = compose(None, settings)
    if experiment.total_timesteps <= before.total_timesteps:
        raise ExperimentError(
            f"{experiment.total_timesteps} is not more than the {before.total_timesteps} timesteps "
            "that the run has",
            "total_timesteps",
        )
    return experiment


def _check_finished(run: RunDirectory, plan: Plan) -> None:
    saved = resume_state.newest_boundary(run.state)
    if saved is None and run.is_finished():
        policy = newest_whole_policy(run)
        hint = f"; gallop run {run.experiment_file} --init-from {policy}" if policy else ""
        cleaned = run.read_json("provenance.json").get("cleaned")
        reason = "was removed by gallop clean" if cleaned else "is damaged or was deleted"
        raise RunError(f"{run.path} cannot be extended: its state {reason}{hint}")
    if saved is None or saved.n_segments < len(plan.boundaries) or not run.final_model.exists():
        at = saved.timestep if saved else 0
        raise RunError(
            f"{run.path} is not finished: it stands at timestep {at:,} of {plan.horizon:,}; "
            f"gallop run --resume {run.path} goes on with it"
        )


def _begin(run: RunDirectory, folder: RunDirectory, prepared: PreparedRun, old_plan: Plan) -> None:
    """Fill the new folder with what it would hold by now."""
    folder.write_experiment(prepared.experiment)
    record = {"run": str(run.path), "timestep": old_plan.horizon}
    old = run.read_json("provenance.json")
    ours = provenance(prepared.choice)
    folder.write_json("provenance.json", ours | VOUCHED | {"extends": {**record, "its": old}})
    write_seeds(folder, prepared)
    shutil.copytree(run.state, folder.state, copy_function=_link, ignore=_not_state)
    _copy_what_grows(run, folder)
    _copy_milestones(run, folder, prepared.plan, old_plan)


def _copy_what_grows(run: RunDirectory, folder: RunDirectory) -> None:
    """Numbers, TensorBoard's events and the best policy so far."""
    best = run.best_model
    for path in (*run.numbers.files, run.tensorboard, best, normalizer_path(best)):
        if path.is_dir():
            shutil.copytree(path, folder.path / path.name)
        elif path.exists():
            shutil.copy2(path, folder.path / path.name)


def _copy_milestones(run: RunDirectory, folder: RunDirectory, plan: Plan, old_plan: Plan) -> None:
    """Those that fall where one was kept, under their new percentages; the others are missing."""
    policies = {"random": "random", "current": "current"}
    kept = {b.timestep: b.milestone for b in old_plan.boundaries if b.milestone is not None}
    for boundary in plan.boundaries:
        if boundary.milestone is None or boundary.timestep > old_plan.horizon:
            continue
        milestone = folder.milestone(boundary.milestone)
        percent = kept.get(boundary.timestep)
        if percent is None:
            reason = (
                f"timestep {boundary.timestep:,} was passed before the run was extended, and no "
                "milestone was kept there"
            )
            milestone.path.mkdir(parents=True)
            missing = {path.name: reason for path in milestone.files()}
            milestone.write_meta({"steps": boundary.timestep, "missing": missing})
        else:
            shutil.copytree(run.milestone(percent).path, milestone.path)
            policies[f"{percent:03d}"] = f"{boundary.milestone:03d}"
    folder.numbers.keep_episodes(policies)


def _link(source: str, target: str) -> None:
    """Shards are written once and never changed, so both runs can share them."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _not_state(folder: str, names: list[str]) -> list[str]:
    """What of state/ is not the learner's: the lock, films that wait, the trackers' ids of the run,
    shards that were replaced, what a killed process was writing.

    With the trackers the longer run is another one, which begins with the same numbers.
    """
    own = ("lock", "lock.holder", "films", "trackers.json")
    return [n for n in names if n in own or n.endswith(".damaged") or n.startswith(".new-")]
