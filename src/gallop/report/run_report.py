"""The results of a run, from its files: as text, and as the records of its milestones.

Both `gallop run` and `gallop figures` end with `show`.
"""

from __future__ import annotations

import contextlib
import math
import sys
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments.make import RewardWrappers
from gallop.environments.probe import Probed
from gallop.errors import ExperimentError, RunError
from gallop.evaluation.episodes import Episodes
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import (
    Difference,
    Interval,
    Probability,
    Slope,
    Summary,
    compare,
    slope_of_last_quarter,
    summarise,
)
from gallop.experiments import seeding
from gallop.experiments.plan import Plan, interval_for_slope, make_plan
from gallop.experiments.settings import Experiment
from gallop.report.display import Display, Pair, Row
from gallop.report.pages.audit_record import read_audit
from gallop.report.run_figures import draw_all, milestone_returns, title_of
from gallop.run_folder import manifest
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.files import Json
from gallop.run_folder.provenance import versions


class _Judged(NamedTuple):
    """A policy with its returns on the evaluation seeds."""

    label: str
    timestep: int
    returns: NDArray[np.float64]


def redraw(folder: RunDirectory, display: Display) -> None:
    """Plot every figure of a run again, and print its results.

    Raises:
        RunError: if the folder is not a run, has no evaluation yet, or another process is using
            it.
    """
    experiment = folder.look_at_experiment()
    plan = make_plan(experiment)
    with folder.locked():
        rewards = [folder.milestone(percent).rewards for percent in experiment.milestones]
        manifest.check(*folder.numbers.files, *rewards)
        drawn = draw_all(folder, experiment, plan)
        manifest.settle(folder.path)
        if not drawn:
            raise RunError(f"{folder.path} has nothing to plot yet: there was no evaluation so far")
        for path in drawn:
            if path.parent != folder.path:  # `show` prints the others
                display.say(f"figure  {path}")
        show(folder, experiment, plan, display)


def show(folder: RunDirectory, experiment: Experiment, plan: Plan, display: Display) -> None:
    """Print the returns of all policies, whether the return is still rising, and the paths."""
    growing, ends = _judged(folder, plan)
    rows = [Row(j.label, j.timestep, _summary(j.returns)) for j in (*growing, *ends)]
    probed = folder.read_probed()
    pairs = []
    if not probed.ignores_seed:
        pairs = [_pair(later, before) for before, later in pairwise(growing)]
        if len(ends) == 2:
            pairs.append(_pair(*ends))
    display.results(f"{title_of(experiment)}, {folder.path}", rows, pairs)
    names = {"random": "random", "current": "evaluations during training"}
    names |= {f"{percent:03d}": f"{percent} %" for percent in experiment.milestones}
    cut = folder.numbers.cut_episodes()
    not_finite = {
        j.label: (n, j.returns.size)
        for j in (*growing, *ends)
        if (n := int((~np.isfinite(j.returns)).sum()))
    }
    evaluations = folder.numbers.read_evaluations()
    if evaluations is not None and evaluations.n_not_finite:
        counts = evaluations.n_not_finite, evaluations.results.size
        not_finite = {names["current"]: counts} | not_finite
    display.left_out({names.get(p, p): cut[p] for p in cut}, not_finite)
    if not folder.best_model.exists() and folder.final_model.exists():
        display.say("no best policy: no evaluation during training had only finite returns")
    display.meaning(len(seeding.EVALUATION_SEEDS))
    if probed.note:
        display.say(f"Task: {probed.note}.")
    if note := reward_note(folder, experiment):
        display.say(f"Returns: {note}.")
    n_evaluations = 0 if evaluations is None else len(evaluations.timesteps)
    slope = slope_at(folder, plan.horizon)
    enough = _interval_for_slope(experiment) if slope is None else None
    display.slope(slope, n_evaluations, plan.horizon, enough)
    _show_where_things_are(folder, experiment, display)


def _interval_for_slope(experiment: Experiment) -> int | None:
    """Return `interval_for_slope`, without importing the module of a custom task."""
    module = experiment.env.rpartition(":")[0]
    if module and module not in sys.modules:
        return None
    with contextlib.suppress(ExperimentError):  # such as a task that is no longer registered
        return interval_for_slope(experiment)
    return None


def _judged(folder: RunDirectory, plan: Plan) -> tuple[list[_Judged], list[_Judged]]:
    """Return random policy and milestones, in order, and best and final policy."""
    numbers = folder.numbers
    growing, ends = [], []
    baseline = numbers.read_baseline()
    if baseline is not None:
        growing.append(_Judged("random", 0, baseline))
    for percent, (timestep, returns) in milestone_returns(folder, plan).items():
        growing.append(_Judged(f"{percent} %", timestep, returns))
    evaluations = numbers.read_evaluations()
    if evaluations is not None:
        for label, at in (("best", evaluations.best_timestep), ("final", plan.horizon)):
            episodes = numbers.read_episodes(label)
            if episodes is not None and at is not None:
                ends.append(_Judged(label, at, episodes.returns))
    return growing, ends


def _summary(returns: NDArray[np.float64]) -> Summary:
    return summarise(returns, interval_generator())


def _pair(ours: _Judged, theirs: _Judged) -> Pair:
    label = f"{ours.label} − {theirs.label}"
    return Pair(label, compare(ours.returns, theirs.returns, interval_generator()))


def _show_where_things_are(folder: RunDirectory, experiment: Experiment, display: Display) -> None:
    display.say("")
    for path in (folder.learning_curve, folder.comparison, folder.milestone_bars):
        if path.exists():
            display.say(f"figure  {path}")
    if folder.report.exists():
        display.say(f"page    {folder.report}")
    for percent in experiment.milestones:
        milestone = folder.milestone(percent)
        meta = milestone.read_meta() or {}
        missing = meta.get("missing", {})
        if milestone.film.exists():
            note = f" ({meta['film_note']})" if meta.get("film_note") else ""
            display.say(f"film    {milestone.film}{note}")
        elif milestone.film.name in missing:
            display.say(f"film    {milestone.film} is missing: {missing[milestone.film.name]}")
    if folder.progress_film.exists():
        display.say(f"film    {folder.progress_film}")
    elif folder.progress_job.exists():
        display.say(f"film    {folder.progress_film} is missing: see {folder.log_file.name}")
    for line in _audits(folder, experiment):
        display.say(f"audit   {line}")
    if folder.best_model.exists():
        display.say(f"policy  {folder.best_model}")
        display.say(f"to watch it: gallop watch {folder.path}")


def _audits(folder: RunDirectory, experiment: Experiment) -> list[str]:
    """A line on each audit: its path, and what it found or why there is none."""
    lines: dict[str, None] = {}  # a reason that is the same for all milestones is told once
    for percent in experiment.milestones:
        milestone = folder.milestone(percent)
        missing = (milestone.read_meta() or {}).get("missing", {})
        if milestone.audit.exists():
            lines[_audit_line(milestone)] = None
        elif experiment.audit and milestone.audit.name in missing:
            lines[f"{milestone.audit} is missing: {missing[milestone.audit.name]}"] = None
    return list(lines)


def _audit_line(milestone: Milestone) -> str:
    try:
        found = read_audit(milestone.audit)
    except (OSError, ValueError) as error:
        return f"{milestone.audit} is damaged: {error}"
    names = ", ".join(each.name for each in found.findings) or "no findings"
    return found.why_not or f"{milestone.audit}: {names}"


# --- milestones ----------------------------------------------------------------------------------


def slope_at(folder: RunDirectory, timestep: int) -> Slope | None:
    """Return the slope of the evaluation return in the last quarter up to a timestep."""
    evaluations = folder.numbers.read_evaluations()
    if evaluations is None:
        return None
    until = evaluations.timesteps <= timestep
    return slope_of_last_quarter(evaluations.timesteps[until], evaluations.mean_returns[until])


def milestone_record(
    experiment: Experiment,
    timestep: int,
    episodes: Episodes,
    baseline: NDArray[np.float64],
    slope: Slope | None,
    probed: Probed,
) -> Json:
    """Return the content of a milestone's meta.json, except for missing files.

    Args:
        experiment: of the run.
        timestep: of the milestone.
        episodes: of its policy on the evaluation seeds.
        baseline: returns of the random policy on the same seeds.
        slope: of the evaluation return up to there, if known.
        probed: what was found out about the task.
    """
    compared = None
    if not probed.ignores_seed:
        compared = as_plain(compare(episodes.returns, baseline, interval_generator()))
    return {
        "algo": experiment.algorithm.title,
        "env": experiment.env,
        "steps": timestep,
        "seeds": episodes.seeds.tolist(),
        "return": as_plain(_summary(episodes.returns)),
        "compared_to_random": compared,
        "task_note": probed.note,
        "slope_of_last_quarter": None if slope is None else as_plain(slope),
        "n_unstable_episodes": episodes.n_unstable,
        "n_cut_episodes": episodes.n_cut,
        "versions": versions(),
    }


def reward_record(wrappers: RewardWrappers) -> Json:
    """Return what meta.json records of wrappers that change rewards; empty without any."""
    if not wrappers.note:
        return {}
    return {
        "reward_wrappers": [*wrappers.left_out, *wrappers.kept],
        "reward_wrappers_in_evaluation": list(wrappers.kept),
    }


def reward_note(folder: RunDirectory, experiment: Experiment) -> str:
    """Return a note on what the returns are, from the milestones' meta.json."""
    for percent in experiment.milestones:
        meta = folder.milestone(percent).read_meta() or {}
        if names := meta.get("reward_wrappers"):
            kept = meta.get("reward_wrappers_in_evaluation", [])
            left_out = (name for name in names if name not in kept)
            return RewardWrappers(tuple(left_out), tuple(kept)).note
    return ""


def as_plain(statistics: NamedTuple) -> Json:
    """Convert statistics for JSON: to dictionaries, with intervals as lists, and null for NaN."""

    def plain(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Interval):
            return [plain(bound) for bound in value]
        return as_plain(value) if isinstance(value, Difference | Probability) else value

    return {name: plain(value) for name, value in statistics._asdict().items()}
