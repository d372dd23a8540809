"""Compare `gallop.evaluation.over_tasks` with rliable 1.2.0, on scores of 2 algorithms and 3 tasks.

    python3 -m venv VENV
    VENV/bin/pip install rliable==1.2.0 arch==7.2.0 pandas==2.3.3 numpy==2.4.6 scipy==1.17.1
    PYTHONPATH=src VENV/bin/python -W ignore benchmarks/against_rliable.py [--output FILE.json]
        [--batches 10]

rliable needs pandas 2, so it gets an environment of its own. The modules compared need nothing but
NumPy and SciPy, so both run there, in one process. The fixed scores have ties between the
algorithms, and some are equal to a threshold.

Point estimates must agree to 1e-12. Interval ends are compared over batches of 10,000 resamples:
the table has the mean of each over the batches, their difference, and the difference in standard
errors, estimated from the scatter of both sides' batches. "same": the end is the same in all
batches of both.

The numbers of training seeds are compared with statsmodels, which rliable installs. The numbers of
rliable and statsmodels are written to FILE (default tests/over_tasks_by_rliable.json, which the
tests read). Takes 10 minutes of one core, most of them in rliable's probability of
improvement.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rliable import library, metrics
from statsmodels.stats.power import TTestIndPower

from gallop.evaluation.over_tasks import (
    aggregate_iqm,
    aggregate_mean,
    improvement_over_tasks,
    performance_profile,
    seeds_needed,
)
from gallop.evaluation.statistics import N_RESAMPLES

TASKS = ["first", "second", "third"]
THRESHOLDS = [0.0, 0.2, 0.4, 0.44, 0.6, 0.8, 1.0]
EFFECTS = [0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0]  # differences in standard deviations
FIXTURE = Path(__file__).parents[1] / "tests" / "over_tasks_by_rliable.json"

Scores = dict[str, list[float]]


def fixed_scores(seed: int, n_seeds: int, shift: float) -> Scores:
    """Scores of one algorithm, rounded so that there are ties."""
    generator = np.random.default_rng(seed)
    centres = {"first": 0.3, "second": 0.5, "third": 0.8}
    return {
        task: np.round(generator.normal(centres[task] + shift, 0.25, n_seeds), 2).tolist()
        for task in TASKS
    }


def matrix(scores: Scores) -> np.ndarray:
    """The scores as rliable takes them, shape [n_runs, n_tasks]."""
    return np.array([scores[task] for task in TASKS]).T


def batches_of(one: Callable[[], Any], n_batches: int) -> np.ndarray:
    """Interval ends of independent bootstraps, shape [n_batches, 2, …]."""
    return np.array([np.array(one()) for _ in range(n_batches)])


def theirs(score_dict: dict, function: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    values, intervals = library.get_interval_estimates(score_dict, function, reps=N_RESAMPLES)
    return values["x"], intervals["x"]


def compare(
    name: str,
    value: Any,
    our_interval: Callable[[], Any],
    scores: Any,
    function: Callable[..., Any],
    n_batches: int,
) -> dict[str, Any]:
    """Print a row per interval end; return rliable's numbers."""
    their_value = np.atleast_1d(function(*scores) if isinstance(scores, list) else function(scores))
    value = np.atleast_1d(value)
    a = batches_of(our_interval, n_batches).reshape(n_batches, 2, -1)
    b = batches_of(lambda: theirs({"x": scores}, function)[1], n_batches)
    difference = a.mean(axis=0) - b.mean(axis=0)
    errors = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / n_batches)
    for i in range(value.size):
        label, ends = f"{name} > {THRESHOLDS[i]}" if value.size > 1 else name, []
        for k in (0, 1):
            error = errors[k, i]
            in_errors = f"{difference[k, i] / error:+.1f}" if error > 1e-12 else "same"
            if error <= 1e-12 and abs(difference[k, i]) > 1e-12:
                in_errors = "DIFFERENT"
            ends.append(
                f"{a[:, k, i].mean():8.5f} {b[:, k, i].mean():8.5f} "
                f"{difference[k, i]:+9.1e} ({in_errors})"
            )
        print(
            f"{label:20} {value[i]:8.5f} {abs(value[i] - their_value[i]):7.1e}  {'  '.join(ends)}",
            flush=True,
        )
    if np.abs(value - their_value).max() > 1e-12:
        sys.exit(f"{name}: {value} is not {their_value}")
    return {
        "value": their_value.tolist(),
        "low": b[:, 0].mean(axis=0).tolist(),
        "high": b[:, 1].mean(axis=0).tolist(),
        "batch_std": b.std(axis=0, ddof=1).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FIXTURE)
    parser.add_argument("--batches", type=int, default=10)
    options = parser.parse_args()
    np.random.seed(0)  # rliable draws from the global generator, whatever its random_state
    generator, n = np.random.default_rng(0), options.batches
    scores = {
        "A 5": fixed_scores(seed=1, n_seeds=5, shift=0.1),
        "A 10": fixed_scores(seed=2, n_seeds=10, shift=0.1),
        "B 5": fixed_scores(seed=3, n_seeds=5, shift=0.0),
        "B 10": fixed_scores(seed=4, n_seeds=10, shift=0.0),
    }
    print(
        f"{n} batches of {N_RESAMPLES} resamples: value, |difference|; low end here, in rliable, "
        "difference (standard errors); high end likewise"
    )
    found: dict[str, dict[str, Any]] = {"iqm": {}, "mean": {}, "profile": {}, "improvement": {}}
    for name, own in scores.items():
        found["iqm"][name] = compare(
            f"IQM of {name}",
            aggregate_iqm(own, generator).value,
            lambda own=own: aggregate_iqm(own, generator).interval,
            matrix(own),
            lambda x: np.array([metrics.aggregate_iqm(x)]),
            n,
        )
        found["mean"][name] = compare(
            f"mean of {name}",
            aggregate_mean(own, generator).value,
            lambda own=own: aggregate_mean(own, generator).interval,
            matrix(own),
            lambda x: np.array([metrics.aggregate_mean(x)]),
            n,
        )
        found["profile"][name] = compare(
            name,
            performance_profile(own, THRESHOLDS, generator).share,
            lambda own=own: performance_profile(own, THRESHOLDS, generator)[2:],
            matrix(own),
            lambda x: library.score_distributions(x, THRESHOLDS),
            n,
        )
    for a, b in (("A 5", "B 5"), ("A 10", "B 10"), ("A 5", "B 10")):
        found["improvement"][f"{a} over {b}"] = compare(
            f"{a} over {b}",
            improvement_over_tasks(scores[a], scores[b], generator).value,
            lambda a=a, b=b: improvement_over_tasks(scores[a], scores[b], generator).interval,
            [matrix(scores[a]), matrix(scores[b])],
            lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
            n,
        )
    solver, seeds = TTestIndPower(), []
    for effect in EFFECTS:
        n_seeds = math.ceil(solver.solve_power(effect, power=0.8, alpha=0.05))
        ours = seeds_needed({"x": [0.0, math.sqrt(2)]}, effect)  # of standard deviation 1
        print(f"difference of {effect} standard deviations: {ours} seeds, statsmodels {n_seeds}")
        seeds.append({"effect": effect, "n_seeds": n_seeds})
    packages = ("rliable", "arch", "statsmodels", "numpy", "scipy")
    document = {
        "made_by": "benchmarks/against_rliable.py",
        "versions": {package: version(package) for package in packages},
        "n_batches": n,
        "n_resamples": N_RESAMPLES,
        "thresholds": THRESHOLDS,
        "scores": scores,
        **found,
        "seeds_needed": seeds,
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
