"""Extending a finished run: a new, longer run continues where the old one ended.

The new folder starts with what a run planned at that length would hold by now: state, curve, log,
best policy, and the milestones at timesteps where the old run saved one. Random numbers depend only
on (training seed, segment number), so with constant schedules the longer run is bit-identical to a
run planned at that length. New milestones at timesteps where the old run saved none are listed as
missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from gallop.errors import ExperimentError, RunError, alternatives
from gallop.experiments.plan import Plan, make_plan
from gallop.experiments.resolve import check_extension
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import from_dict, settings_of
from gallop.policies.normalizer_file import normalizer_path
from gallop.report.display import Display
from gallop.run_folder import manifest, model_files, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import Json, link_or_copy, new_folder
from gallop.run_folder.links import check_contents
from gallop.run_folder.lookup import name_of_now, run_path
from gallop.run_folder.prepared import PreparedRun, prepare_again
from gallop.run_folder.provenance import VOUCHED, provenance, write_seeds
from gallop.run_folder.run_paths import TEMPORARY
from gallop.runs import space
from gallop.runs.recovery import check_results, newest_whole_policy
from gallop.runs.workflow import check_model, go_on, with_its_learner

# Settings that a longer run may change; all others determine timesteps already trained.
CHANGEABLE = (
    "total_timesteps",
    "milestones",
    "evaluation.interval",
    "films",
    "film_overlay",
    "audit",
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
    """Continue a finished run for more timesteps, in a new run folder.

    Args:
        run: a finished run, which is not changed.
        overrides: dotted name -> value; must include `total_timesteps`.
        results: the folder that holds all runs.
        name: name of the new run; default: the current time, as YYYYMMDD_HHMMSS.
        new_horizon: allow schedules that are not constant. They reached their end at the old total;
            from here on they continue as if the new total had been planned from the start.
        display: where to print; default: standard output.

    Returns:
        The new run.

    Raises:
        ExperimentError: if the new total does not line up, or another setting is changed.
        RunError: if the run is not finished or is damaged, or the new folder already exists.
    """
    display = display or Display()
    check_contents(run.path)
    before = run.read_experiment()
    experiment = longer(before, overrides, new_horizon)
    path = run_path(results, experiment.algo, experiment.env, name or name_of_now())
    folder = RunDirectory(path)
    folder.check_is_new()
    prepared = prepare_again(experiment, run.read_probed())
    with run.locked():
        old_plan = make_plan(before)
        _check_finished(run, old_plan)
        prepared = with_its_learner(run, prepared)
        check_model(run, prepared)
        check_results(run, display)
        display.plan(prepared, path, old_plan.horizon)
        space.check_before(path, prepared.plan, display)
        folder.check_is_new()  # since the plan was printed
        try:
            with new_folder(path) as temporary:
                begun = RunDirectory(temporary)
                _begin(run, begun, prepared, old_plan)
                manifest.begin(temporary, begun.results())
        except FileExistsError:
            raise folder.exists_error() from None
    display.say(f"extending {run.path} from timestep {old_plan.horizon:,}")
    with folder.locked():
        go_on(folder, prepared, display)
    return folder


def longer(before: Experiment, overrides: Mapping[str, object], new_horizon: bool) -> Experiment:
    """Return the experiment of the longer run.

    Args:
        before: the experiment of the finished run.
        overrides: dotted name -> value; must include `total_timesteps`.
        new_horizon: as for `extend`.

    Raises:
        ExperimentError: if it is not longer, does not line up, or changes a fixed setting.
    """
    for name in overrides:
        if name not in CHANGEABLE:
            raise ExperimentError(
                f"--{name} cannot be changed by --extend; only {alternatives(CHANGEABLE)} can"
            )
    if "total_timesteps" not in overrides:
        raise ExperimentError(
            f"--extend requires a new total of more than {before.total_timesteps} timesteps, such "
            f"as -n {before.total_timesteps * 2}"
        )
    scheduled = [
        f"{name} {value}"
        for name, value in before.hyperparameters.model_dump().items()
        if isinstance(value, str) and value.startswith("lin_")
    ]
    if scheduled and not new_horizon:
        raise ExperimentError(
            f"{scheduled[0]} reached its end at timestep {before.total_timesteps}; with "
            "--new-horizon it continues as if the new total had been planned from the start"
        )
    settings: Json = settings_of(before)
    for name, value in overrides.items():
        section, _, last = name.rpartition(".")
        (settings[section] if section else settings)[last] = value
    return from_dict(settings, partial(_check_longer, before))


def _check_longer(before: Experiment, experiment: Experiment) -> None:
    if experiment.total_timesteps <= before.total_timesteps:
        raise ExperimentError(
            f"{experiment.total_timesteps} must be more than the {before.total_timesteps} "
            "timesteps of the finished run",
            "total_timesteps",
        )
    check_extension(before, experiment)


def _check_finished(run: RunDirectory, plan: Plan) -> None:
    saved = resume_state.newest_boundary(run.state)
    if saved is None and run.is_finished():
        policy = newest_whole_policy(run)
        hint = (
            ""
            if policy is None
            else (
                f"; to start a new run from its policy: gallop run {run.experiment_file} "
                f"--init-from {policy}"
            )
        )
        cleaned = run.read_json("provenance.json").get("cleaned")
        reason = "was removed by gallop clean" if cleaned else "is damaged or was deleted"
        raise RunError(f"{run.path} cannot be extended: its resume state {reason}{hint}")
    if saved is None or saved.n_segments < len(plan.boundaries) or not run.final_model.exists():
        at = saved.timestep if saved else 0
        raise RunError(
            f"{run.path} is not finished (timestep {at:,} of {plan.horizon:,}); finish it first: "
            f"gallop run --resume {run.path}"
        )


def _begin(run: RunDirectory, folder: RunDirectory, prepared: PreparedRun, old_plan: Plan) -> None:
    """Fill the new folder with what a run planned at that length would hold by now."""
    folder.write_experiment(prepared.experiment)
    record = {"run": str(run.path), "timestep": old_plan.horizon}
    old = run.read_json("provenance.json")
    ours = provenance(prepared)
    folder.write_json("provenance.json", ours | VOUCHED | {"extends": {**record, "its": old}})
    write_seeds(folder, prepared)
    shutil.copytree(run.state, folder.state, copy_function=link_or_copy, ignore=_not_state)
    if (run.path / model_files.FOLDER).is_dir():
        shutil.copytree(run.path / model_files.FOLDER, folder.path / model_files.FOLDER)
    _copy_what_grows(run, folder)
    _copy_milestones(run, folder, prepared.plan, old_plan)


def _copy_what_grows(run: RunDirectory, folder: RunDirectory) -> None:
    """Copy the numbers, TensorBoard's events and the best policy so far."""
    best = run.best_model
    for path in (*run.numbers.files, run.tensorboard, best, normalizer_path(best)):
        if path.is_dir():
            shutil.copytree(path, folder.path / path.name)
        elif path.exists():
            shutil.copy2(path, folder.path / path.name)


def _copy_milestones(run: RunDirectory, folder: RunDirectory, plan: Plan, old_plan: Plan) -> None:
    """Copy milestones under their new percentages; record as missing those the old run lacks."""
    policies = {"random": "random", "current": "current"}
    kept = {b.timestep: b.milestone for b in old_plan.boundaries if b.milestone is not None}
    for boundary in plan.boundaries:
        if boundary.milestone is None or boundary.timestep > old_plan.horizon:
            continue
        milestone = folder.milestone(boundary.milestone)
        percent = kept.get(boundary.timestep)
        if percent is None:
            reason = f"the original run saved no milestone at timestep {boundary.timestep:,}"
            milestone.path.mkdir(parents=True)
            missing = {path.name: reason for path in milestone.files()}
            milestone.write_meta({"steps": boundary.timestep, "missing": missing})
        else:
            shutil.copytree(run.milestone(percent).path, milestone.path)
            policies[f"{percent:03d}"] = f"{boundary.milestone:03d}"
    folder.numbers.keep_episodes(policies)


def _not_state(folder: str, names: list[str]) -> list[str]:
    """List the entries of state/ that are not the learner's: the lock, queued films and audits, the
    run's ids at trackers, replaced shards, unfinished writes of a killed process.

    At the trackers, the longer run is a new run that starts with the same numbers.
    """
    own = ("lock", "lock.holder", "fence", "lease", "films", "audits", "trackers.json")
    return [n for n in names if n in own or n.endswith(".damaged") or n.startswith(TEMPORARY)]
