"""A run's figures, from its files alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallop.experiments.plan import Plan
from gallop.experiments.settings import Experiment
from gallop.report import figures
from gallop.run_folder.directory import RunDirectory


def title_of(experiment: Experiment) -> str:
    """What was trained, and on which task."""
    return f"{experiment.algorithm.title} on {experiment.env}"


def draw_all(folder: RunDirectory, experiment: Experiment, plan: Plan) -> list[Path]:
    """Every figure for which there are numbers; the paths drawn."""
    drawn = draw_curves(folder, experiment)
    for percent, (timestep, _) in milestone_returns(folder, plan).items():
        drawn += draw_milestone(folder, experiment, percent, timestep)
    return drawn + draw_milestone_bars(folder, experiment, plan)


def draw_curves(folder: RunDirectory, experiment: Experiment) -> list[Path]:
    """Both learning curves, from the evaluations so far."""
    evaluations, baseline = folder.numbers.read_evaluations(), folder.numbers.read_baseline()
    if evaluations is None or baseline is None:
        return []
    title = f"{title_of(experiment)}, training seed {experiment.training_seed}"
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
    title = f"{title_of(experiment)}, {percent} % ({timestep:,} timesteps)"
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
    bars = figures.milestone_bars(title_of(experiment), returns, timesteps, baseline)
    figures.save(bars, folder.milestone_bars)
    return [folder.milestone_bars]


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
