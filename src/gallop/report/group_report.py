"""The report of a group of runs, from their files: curve, figure, summary and table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallop.errors import RunError
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import SeedCurve, curve_over_seeds, summarise_seeds
from gallop.experiments.settings import Experiment
from gallop.report import figures
from gallop.report.display import Display
from gallop.report.run_figures import title_of
from gallop.report.run_report import as_plain
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import Json
from gallop.run_folder.manifest import write_json_result, write_result
from gallop.run_folder.seed_group import SeedGroup


def redraw(group: SeedGroup, display: Display) -> None:
    """Write curve, figure and summary again, and print the results.

    Raises:
        RunError: if the folder is not a group, or none of its runs has an evaluation yet.
    """
    experiment, runs = group.look_at_experiment(), group.runs()
    for run in runs.values():
        manifest.check(*run.numbers.files)
    with group.locked():
        drawn = draw(group, runs, experiment)
    if not drawn:
        raise RunError(f"{group.path} has nothing to plot yet: none of its runs has an evaluation")
    show(group, runs, experiment, display)


def show(
    group: SeedGroup, runs: Mapping[int, RunDirectory], experiment: Experiment, display: Display
) -> None:
    """Print the returns of the finished runs, and the paths of figure and numbers."""
    returns = final_and_best(_without(runs, damaged(runs)))
    if returns:
        final = summarise_seeds([final for final, _ in returns.values()], interval_generator())
        display.seeds(f"{title_of(experiment)}, {group.path}", returns, final)
    shown = (
        ("\nfigure ", group.learning_curve),
        ("page   ", group.report),
        ("numbers", group.summary_file),
    )
    for what, path in shown:
        if path.exists():
            display.say(f"{what} {path}")


def draw(group: SeedGroup, runs: Mapping[int, RunDirectory], experiment: Experiment) -> list[Path]:
    """Write curve.csv, learning_curve.png and summary.json so far; return the paths."""
    written = []
    whole = _without(runs, damaged(runs))
    timesteps, returns, seeds = evaluations_over_seeds(whole)
    if seeds:
        curve = curve_over_seeds(returns, interval_generator())
        _write_curve(group.curve_file, timesteps, curve)
        figure = figures.curves_over_seeds(title_of(experiment), timesteps, returns, seeds, curve)
        figures.save(figure, group.learning_curve)
        written += [group.curve_file, group.learning_curve]
    judged = final_and_best(whole)
    if judged:
        summary = _summary(experiment, judged, [seed for seed in runs if seed not in judged])
        write_json_result(group.summary_file, summary)
        written.append(group.summary_file)
    manifest.settle(group.path)
    return written


def damaged(runs: Mapping[int, RunDirectory]) -> dict[int, str]:
    """Return training seed -> why the run's numbers are unusable, for the runs affected."""
    found = {}
    for seed, run in runs.items():
        try:
            manifest.check(*run.numbers.files)
            run.numbers.read_evaluations()
            run.numbers.final_return()
        except RunError as error:
            found[seed] = error.message
    return found


def _without(
    runs: Mapping[int, RunDirectory], left_out: Mapping[int, str]
) -> dict[int, RunDirectory]:
    return {seed: run for seed, run in runs.items() if seed not in left_out}


def _write_curve(path: Path, timesteps: NDArray[np.int64], curve: SeedCurve) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["timestep", "iqm", "low", "high", "n"])
    columns = (timesteps, curve.iqm, curve.low, curve.high, curve.n)
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    write_result(path, text.getvalue().encode())


def _summary(
    experiment: Experiment, judged: Mapping[int, tuple[float, float]], unfinished: Sequence[int]
) -> Json:
    """Return summary.json: the final and best policies over the finished training seeds."""
    summary: Json = {
        "algo": experiment.algorithm.title,
        "env": experiment.env,
        "training_seeds": list(judged),
        "unfinished_training_seeds": list(unfinished),
    }
    for place, policy in enumerate(("final", "best")):
        returns = {str(seed): values[place] for seed, values in judged.items()}
        over_seeds = summarise_seeds(list(returns.values()), interval_generator())
        summary[policy] = as_plain(over_seeds) | {"mean_return_of_seed": returns}
    return summary


def final_and_best(runs: Mapping[int, RunDirectory]) -> dict[int, tuple[float, float]]:
    """Return training seed -> mean returns of final and best policy, of the finished runs."""
    found = {}
    for seed, run in runs.items():
        policies = [run.numbers.read_episodes(policy) for policy in ("final", "best")]
        if run.is_finished() and all(policies):
            final, best = (float(episodes.returns.mean()) for episodes in policies if episodes)
            found[seed] = final, best
    return found


def evaluations_over_seeds(
    runs: Mapping[int, RunDirectory],
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[int]]:
    """Collect the evaluations during training so far.

    Returns:
        Timesteps, shape [k]; mean returns, shape [n_runs, k], NaN where a run has no evaluation;
        and the seeds of the runs that have any, shape [n_runs].
    """
    means: dict[int, dict[int, float]] = {}
    for seed, run in runs.items():
        evaluations = run.numbers.read_evaluations()
        if evaluations is not None and len(evaluations.timesteps):
            rows = evaluations.mean_returns.tolist()
            means[seed] = dict(zip(evaluations.timesteps.tolist(), rows, strict=True))
    timesteps = sorted({timestep for row in means.values() for timestep in row})
    returns = [[row.get(timestep, np.nan) for timestep in timesteps] for row in means.values()]
    shape = len(means), len(timesteps)
    return np.array(timesteps, dtype=np.int64), np.array(returns).reshape(shape), list(means)
