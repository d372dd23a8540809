"""The figures of a run, plotted from its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallop.errors import counted
from gallop.experiments.plan import Plan
from gallop.experiments.settings import Experiment
from gallop.report import figures
from gallop.run_folder.directory import RunDirectory


def title_of(experiment: Experiment) -> str:
    """Return algorithm and task as a title."""
    return f"{experiment.algorithm.title} on {experiment.env}"


def draw_all(folder: RunDirectory, experiment: Experiment, plan: Plan) -> list[Path]:
    """Plot every figure for which there is data; return the paths."""
    drawn = draw_curves(folder, experiment)
    for percent, (timestep, _) in milestone_returns(folder, plan).items():
        drawn += draw_milestone(folder, experiment, percent, timestep)
    return drawn + draw_milestone_bars(folder, experiment, plan)


def draw_curves(folder: RunDirectory, experiment: Experiment) -> list[Path]:
    """Plot both learning curves from the evaluations so far; return the paths."""
    evaluations, baseline = folder.numbers.read_evaluations(), folder.numbers.read_baseline()
    if evaluations is None or baseline is None:
        return []
    title = f"{title_of(experiment)}, training seed {experiment.training_seed}"
    curve = figures.learning_curve(title, evaluations, _cut(folder, "current"))
    figures.save(curve, folder.learning_curve)
    both = figures.comparison(title, evaluations, baseline, _cut(folder, "current", "random"))
    figures.save(both, folder.comparison)
    return [folder.learning_curve, folder.comparison]


def draw_milestone(
    folder: RunDirectory, experiment: Experiment, percent: int, timestep: int
) -> list[Path]:
    """Plot both figures of a milestone; return the paths."""
    milestone, baseline = folder.milestone(percent), folder.numbers.read_baseline()
    returns = milestone.read_rewards()
    if returns is None or baseline is None:
        return []
    title = f"{title_of(experiment)}, {percent} % ({timestep:,} timesteps)"
    policy = f"{percent:03d}"
    boxes = figures.trained_vs_random(title, returns, baseline, _cut(folder, policy, "random"))
    figures.save(boxes, milestone.boxplot)
    figures.save(figures.histogram(title, returns, _cut(folder, policy)), milestone.histogram)
    return [milestone.boxplot, milestone.histogram]


def draw_milestone_bars(folder: RunDirectory, experiment: Experiment, plan: Plan) -> list[Path]:
    """Plot the bars that compare the milestones; return the path."""
    baseline, found = folder.numbers.read_baseline(), milestone_returns(folder, plan)
    if baseline is None or not found:
        return []
    returns = {percent: values for percent, (_, values) in found.items()}
    timesteps = {percent: timestep for percent, (timestep, _) in found.items()}
    note = _cut(folder, "random", *(f"{percent:03d}" for percent in found))
    bars = figures.milestone_bars(title_of(experiment), returns, timesteps, baseline, note)
    figures.save(bars, folder.milestone_bars)
    return [folder.milestone_bars]


def _cut(folder: RunDirectory, *policies: str) -> str:
    """Return a note on how many episodes of these policies were cut."""
    cut = folder.numbers.cut_episodes()
    told = [cut[policy] for policy in policies if policy in cut]
    if not told:
        return ""
    n, length = sum(each.n for each in told), max(each.length for each in told)
    verb = "was" if n == 1 else "were"
    return f"{counted(n, 'episode')} did not end and {verb} cut after {counted(length, 'timestep')}"


def milestone_returns(
    folder: RunDirectory, plan: Plan
) -> dict[int, tuple[int, NDArray[np.float64]]]:
    """Return percentage -> timestep and returns of the milestones reached so far."""
    found = {}
    for boundary in plan.boundaries:
        if boundary.milestone is not None:
            returns = folder.milestone(boundary.milestone).read_rewards()
            if returns is not None:
                found[boundary.milestone] = (boundary.timestep, returns)
    return found
