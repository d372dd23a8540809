"""What a grid has found, from the files of its runs: returns by task and over all tasks.

An *arm* is an algorithm with a change. Returns are those of the final policies of finished runs:
one mean over the evaluation episodes per training seed. Scores put all tasks on one scale: 0 is the
random policy's mean return, and 1 the reference return.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.errors import counted
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.over_tasks import (
    Arrays,
    Estimate,
    Profile,
    aggregate_iqm,
    aggregate_mean,
    improvement_over_tasks,
    normalised,
    performance_profile,
    seeds_needed,
)
from gallop.evaluation.statistics import (
    Difference,
    Interval,
    Probability,
    SeedSummary,
    difference_of_few,
    finite,
    probability_of_improvement,
    summarise_seeds,
)
from gallop.experiments.grid import Cell, Grid
from gallop.report.group_report import damaged, final_and_best
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.grid_folder import GridFolder

GAPS = (0.1, 0.2, 0.5)
"""Differences of the score for which the number of seeds needed is given."""
N_THRESHOLDS = 101
NOTHING = Interval(math.nan, math.nan)
"""With one seed."""


class RunResult(NamedTuple):
    """A run of the grid."""

    arm: str
    cell: Cell
    seed: int
    folder: RunDirectory
    state: str
    """finished, failed, begun or missing."""
    final: float
    """Mean return of the final policy; NaN unless finished."""
    best: float


class OnTask(NamedTuple):
    """The runs of an arm on one task."""

    arm: str
    task: str
    returns: NDArray[np.float64]
    """Finite returns of finished runs, shape [n]."""
    n_planned: int
    summary: SeedSummary | None
    difference: Difference | None
    """From the first arm; None for that arm, or if one of the two has no run."""
    probability: Probability | None
    """That a run of this arm beats one of the first."""


class OverTasks(NamedTuple):
    """The runs of an arm on all tasks that every arm has finished runs on.

    Intervals are NaN unless a task has two seeds.
    """

    arm: str
    n_runs: int
    iqm: Estimate
    """Of the scores."""
    mean: Estimate
    better: Probability | None
    """Probability that a run beats one of the first arm; None for that arm."""
    profile: Profile
    scores: Arrays


class Found(NamedTuple):
    """What a grid has found so far."""

    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    runs: tuple[RunResult, ...]
    on_tasks: tuple[OnTask, ...]
    over_tasks: tuple[OverTasks, ...]
    """Empty without a task that every arm has finished runs on."""
    random: dict[str, float]
    """Task -> mean return of the random policy."""
    reference: dict[str, float]
    """Task -> return that counts as a score of 1."""
    n_seeds: dict[float, int | None]
    """Difference of the mean score -> training seeds per arm that show it on one task."""
    notes: tuple[str, ...]


def read_results(folder: GridFolder, grid: Grid) -> Found:
    """Read the finished runs of a grid, and compute what they say."""
    cells = grid.cells()
    arms = tuple(dict.fromkeys(grid.label(c.algo, c.change) for c in cells))
    runs: list[RunResult] = []
    notes: list[str] = []
    for cell in cells:
        arm = grid.label(cell.algo, cell.change)
        group = {seed: folder.group(cell).run(seed) for seed in grid.training_seeds}
        unusable = damaged(group)
        notes += [f"{arm} on {cell.env}, seed {seed}: {why}" for seed, why in unusable.items()]
        judged = final_and_best({s: run for s, run in group.items() if s not in unusable})
        for seed, run in group.items():
            final, best = judged.get(seed, (math.nan, math.nan))
            state = "finished" if seed in judged else _state(run)
            runs.append(RunResult(arm, cell, seed, run, state, final, best))
            if state == "finished" and not math.isfinite(final):
                notes.append(f"{arm} on {cell.env}, seed {seed}: its return is not finite")
    tasks = tuple(grid.tasks)
    returns = {
        (arm, task): finite([r.final for r in runs if (r.arm, r.cell.env) == (arm, task)])
        for arm in arms
        for task in tasks
    }
    random = {task: _random_return(task, runs) for task in tasks}
    reference = dict(grid.reference_returns)
    for task in tasks:
        means = [returns[arm, task].mean() for arm in arms if returns[arm, task].size]
        reference.setdefault(task, float(max(means, default=math.nan)))
    n_planned = len(grid.training_seeds)
    on_tasks = [
        _on_task(arm, task, returns[arm, task], returns[arms[0], task], n_planned, arm == arms[0])
        for task in tasks
        for arm in arms
    ]
    common = [task for task in tasks if all(returns[arm, task].size for arm in arms)]
    flat = [task for task in common if not reference[task] > random[task]]
    if flat:
        notes.append(
            f"left out over tasks, because the reference return is not above the random policy's: "
            f"{', '.join(flat)}"
        )
    common = [task for task in common if task not in flat]
    over = _over_tasks(arms, common, returns, random, reference) if common else []
    if 0 < len(common) < len(tasks) - len(flat):
        notes.append(f"over tasks: {len(common)} of {counted(len(tasks), 'task')} so far")
    pooled = {f"{o.arm} {task}": values for o in over for task, values in o.scores.items()}
    n_seeds = {gap: seeds_needed(pooled, gap) if pooled else None for gap in GAPS}
    return Found(
        arms, tasks, tuple(runs), tuple(on_tasks), tuple(over), random, reference, n_seeds,
        tuple(notes),
    )  # fmt: skip


def _state(run: RunDirectory) -> str:
    if run.read_diverged() is not None:
        return "failed"
    return "begun" if run.experiment_file.is_file() else "missing"


def _random_return(task: str, runs: list[RunResult]) -> float:
    """Return the random policy's mean return on a task, on the evaluation seeds."""
    for run in runs:
        if run.cell.env == task and run.state == "finished":
            baseline = run.folder.numbers.read_baseline()
            if baseline is not None and np.isfinite(baseline).any():
                return float(finite(baseline).mean())
    return math.nan


def _on_task(
    arm: str,
    task: str,
    ours: NDArray[np.float64],
    first: NDArray[np.float64],
    n_planned: int,
    is_first: bool,
) -> OnTask:
    difference = probability = None
    if not is_first and ours.size and first.size:
        difference = difference_of_few(ours, first)
        if not math.isfinite(difference.interval.low):
            difference = difference._replace(interval=NOTHING)
        probability = probability_of_improvement(ours, first, interval_generator())
        if min(ours.size, first.size) < 2:
            probability = probability._replace(interval=NOTHING)
    summary = summarise_seeds(ours, interval_generator()) if ours.size else None
    if summary is not None and summary.n < 2:
        summary = summary._replace(iqm_interval=NOTHING)
    return OnTask(arm, task, ours, n_planned, summary, difference, probability)


def _over_tasks(
    arms: tuple[str, ...],
    tasks: list[str],
    returns: dict[tuple[str, str], NDArray[np.float64]],
    random: dict[str, float],
    reference: dict[str, float],
) -> list[OverTasks]:
    scores = {
        arm: normalised({task: returns[arm, task] for task in tasks}, random, reference)
        for arm in arms
    }
    everything = np.concatenate([values for arm in arms for values in scores[arm].values()])
    top = max(1.0, float(everything.max()))
    thresholds = np.linspace(min(0.0, float(everything.min())), top, N_THRESHOLDS)
    return [
        _arm_over_tasks(arm, scores[arm], None if arm == arms[0] else scores[arms[0]], thresholds)
        for arm in arms
    ]


def _arm_over_tasks(
    arm: str, ours: Arrays, first: Arrays | None, thresholds: NDArray[np.float64]
) -> OverTasks:
    """Return the statistics of an arm; those without two seeds on any task have no interval."""
    iqm = aggregate_iqm(ours, interval_generator())
    mean = aggregate_mean(ours, interval_generator())
    profile = performance_profile(ours, thresholds, interval_generator())
    if not _are_repeated(ours):
        unknown = np.full(thresholds.size, math.nan)
        iqm, mean = iqm._replace(interval=NOTHING), mean._replace(interval=NOTHING)
        profile = profile._replace(low=unknown, high=unknown)
    better = None
    if first is not None:
        better = improvement_over_tasks(ours, first, interval_generator())
        if not (_are_repeated(ours) and _are_repeated(first)):
            better = better._replace(interval=NOTHING)
    n_runs = sum(values.size for values in ours.values())
    return OverTasks(arm, n_runs, iqm, mean, better, profile, ours)


def _are_repeated(scores: Arrays) -> bool:
    """Whether a task has two seeds: without them, resamples of the seeds are all the same."""
    return any(values.size > 1 for values in scores.values())
