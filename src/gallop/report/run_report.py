"""A run's figures and milestone records, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.errors import RunError
from gallop.evaluation.episodes import Episodes
from gallop.evaluation.statistics import Interval, Slope, compare, slope_of_last_quarter, summarise
from gallop.experiments.plan import Plan, make_plan
from gallop.experiments.settings import Experiment
from gallop.report import figures
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.provenance import versions


def milestone_returns(
    folder: RunDirectory, plan: Plan
) -> dict[int, tuple[int, NDArray[np.float64]]]:
    """Percentage -> timestep and returns of the milestones that are there."""
    found = {}
    for boundary in plan.boundaries:
        if boundary.milestone is not None:
            returns = folder.milestone(boundary.milestone).read_rewards()
            if returns is not None:
                found[boundary.milestone] = (boundary.timestep, returns)
    return found


def draw_curves(folder: RunDirectory, experiment: Experiment) -> list[Path]:
    """Both learning curves, from the evaluations so far."""
    evaluations, baseline = folder.numbers.read_evaluations(), folder.numbers.read_baseline()
    if evaluations is None or baseline is None:
        return []
    title = f"{_title(experiment)}, training seed {experiment.training_seed}"
    figures.save(figures.learning_curve(title, evaluations), folder.learning_curve)
    figures.save(figures.comparison(title, evaluations, baseline), folder.comparison)
    return [folder.learning_curve, folder.comparison]


def draw_milestone(
    folder: RunDirectory, experiment: Experiment, percent: int, timestep: int
) -> list[Path]:
    """Both figures of a milestone."""
    milestone, baseline = folder.milestone(percent), folder.numbers.read_baseline()
    returns = milestone.read_rewards()
    if returns is None or baseline is None:
        return []
    title = f"{_title(experiment)}, {percent} % ({timestep:,} timesteps)"
    figures.save(figures.trained_vs_random(title, returns, baseline), milestone.boxplot)
    figures.save(figures.histogram(title, returns), milestone.histogram)
    return [milestone.boxplot, milestone.histogram]


def draw_milestone_bars(folder: RunDirectory, experiment: Experiment, plan: Plan) -> list[Path]:
    """The milestones beside each other."""
    baseline, found = folder.numbers.read_baseline(), milestone_returns(folder, plan)
    if baseline is None or not found:
        return []
    returns = {percent: values for percent, (_, values) in found.items()}
    timesteps = {percent: timestep for percent, (timestep, _) in found.items()}
    bars = figures.milestone_bars(_title(experiment), returns, timesteps, baseline)
    figures.save(bars, folder.milestone_bars)
    return [folder.milestone_bars]


def draw_all(folder: RunDirectory) -> list[Path]:
    """Every figure of a run anew, from its files; the paths drawn.

    Raises:
        RunError: if the folder holds no run, nothing to draw yet, or another process is running it.
    """
    experiment = folder.read_experiment()
    plan = make_plan(experiment)
    with folder.locked():
        drawn = draw_curves(folder, experiment)
        for percent, (timestep, _) in milestone_returns(folder, plan).items():
            drawn += draw_milestone(folder, experiment, percent, timestep)
        drawn += draw_milestone_bars(folder, experiment, plan)
    if not drawn:
        raise RunError(f"{folder.path} has nothing to draw yet: it was not evaluated so far")
    return drawn


def _title(experiment: Experiment) -> str:
    return f"{experiment.algo.upper()} on {experiment.env}"


def _generator() -> np.random.Generator:
    """For bootstrap intervals: the same returns always have the same interval."""
    return np.random.default_rng(0)


def _slope(folder: RunDirectory, timestep: int) -> Slope | None:
    """How the evaluation return was rising at that timestep."""
    evaluations = folder.numbers.read_evaluations()
    if evaluations is None:
        return None
    until = evaluations.timesteps <= timestep
    means = evaluations.results.mean(axis=1)
    return slope_of_last_quarter(evaluations.timesteps[until], means[until])


def _meta(
    experiment: Experiment,
    timestep: int,
    episodes: Episodes,
    baseline: NDArray[np.float64],
    slope: Slope | None,
) -> dict[str, Any]:
    return {
        "algo": experiment.algo.upper(),
        "env": experiment.env,
        "steps": timestep,
        "seeds": episodes.seeds.tolist(),
        "return": as_plain(summarise(episodes.returns, _generator())),
        "compared_to_random": as_plain(compare(episodes.returns, baseline, _generator())),
        "slope_of_last_quarter": None if slope is None else as_plain(slope),
        "n_unstable_episodes": episodes.n_unstable,
        "versions": versions(),
    }


def as_plain(value: Any) -> Any:
    """Named tuples as dictionaries, intervals as lists, for JSON."""
    if isinstance(value, Interval):
        return list(value)
    if hasattr(value, "_asdict"):
        return {name: as_plain(part) for name, part in value._asdict().items()}
    return value
