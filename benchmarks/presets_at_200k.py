r"""Summarise three presets that were trained for 200,000 timesteps with several training seeds.

    python benchmarks/presets_at_200k.py RESULTS_FOLDER OUTPUT_FOLDER

The runs in RESULTS_FOLDER come from these commands (bash), once per training seed S:

    preset() { gallop run --algo $1 --env $2 -n 200_000 --segment 5000 --evaluation.interval 5000 \
               --seed $S --n_threads 1 --name seed-$S -f RESULTS_FOLDER; }
    preset sac Hopper-v5; preset td3 Walker2d-v5; preset ppo HalfCheetah-v5

Writes every evaluation (learning.csv), one figure, and prints the tables in Markdown.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gallop.evaluation.statistics import bootstrap_interval, slope_of_last_quarter, summarise
from gallop.report import figures
from gallop.run_folder.directory import RunDirectory

CASES = [("sac", "Hopper-v5"), ("td3", "Walker2d-v5"), ("ppo", "HalfCheetah-v5")]


def final_returns(run: RunDirectory) -> np.ndarray:
    """Returns of the last milestone's policy on the ten evaluation seeds."""
    found = run.milestone(100).read_rewards()
    assert found is not None, f"{run.path} is not finished"
    return found


def main(results: Path, output: Path) -> None:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    rows: list[list[object]] = []
    over_seeds, single = [], []
    for place, (algo, env) in enumerate(CASES):
        runs = [RunDirectory(p) for p in sorted((results / f"{algo.upper()}_{env}").glob("seed-*"))]
        runs = [run for run in runs if run.is_finished()]
        axes = figure.add_subplot(1, len(CASES), place + 1)
        curves = []
        for run in runs:
            evaluations = run.numbers.read_evaluations()
            assert evaluations is not None
            seed = run.read_experiment().training_seed
            means = evaluations.results.mean(axis=1)
            curves.append(means)
            axes.plot(evaluations.timesteps, means, color=figures.TRAINED, alpha=0.45, linewidth=1)
            rows += [
                [algo, env, seed, timestep, repr(float(mean))]
                for timestep, mean in zip(evaluations.timesteps, means, strict=True)
            ]
            summary = summarise(final_returns(run), np.random.default_rng(0))
            slope = slope_of_last_quarter(evaluations.timesteps, means)
            assert slope is not None
            low, high = summary.mean_interval
            slope_low, slope_high = slope.interval
            name = f"{algo.upper()} on {env}"
            single.append(
                f"| {name} | {seed} | {summary.mean:,.0f} [{low:,.0f}, {high:,.0f}] "
                f"| {summary.iqm:,.0f} | {slope.per_100k:+,.0f} [{slope_low:+,.0f}, "
                f"{slope_high:+,.0f}], {slope.trend} |"
            )
        stacked = np.array(curves)  # [seeds, evaluations]
        band = np.array(
            [bootstrap_interval(column, np.random.default_rng(0)) for column in stacked.T]
        )
        timesteps = evaluations.timesteps
        axes.fill_between(
            timesteps, band[:, 0], band[:, 1], color=figures.TRAINED, alpha=0.2, linewidth=0,
            label=f"95 % interval over {len(runs)} training seeds",
        )  # fmt: skip
        axes.plot(
            timesteps, stacked.mean(axis=0), color=figures.TRAINED, linewidth=2,
            label=f"mean of {len(runs)} training seeds (thin: each)",
        )  # fmt: skip
        axes.set_title(f"{algo.upper()} on {env}", fontsize=12, loc="left")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: figures.short(value)))
        axes.set_xlabel("timesteps")
        if place == 0:
            axes.set_ylabel("evaluation return, mean of 5 episodes")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="upper left", frameon=False, fontsize=8)
        finals = np.array([final_returns(run).mean() for run in runs])
        low, high = bootstrap_interval(finals, np.random.default_rng(0))
        each = ", ".join(f"{value:,.0f}" for value in sorted(finals))
        over_seeds.append(
            f"| {algo.upper()} on {env} | {len(runs)} | {finals.mean():,.0f} "
            f"[{low:,.0f}, {high:,.0f}] | {each} |"
        )
    output.mkdir(parents=True, exist_ok=True)
    figures.save(figure, output / "learning.png")
    with (output / "learning.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["algo", "env", "training_seed", "timestep", "mean_return"])
        writer.writerows(rows)
    print("| preset | training seeds | mean return at 200,000 [95 % over seeds] | each |")
    print("|---|---|---|---|", *over_seeds, sep="\n")
    print("\n| preset | training seed | mean of ten episodes [95 % over starts] | IQM |", end="")
    print(" slope of the last quarter, per 100k |\n|---|---|---|---|---|", *single, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
