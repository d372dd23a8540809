"""Compare winners of searches with SB3's defaults, retrained on seeds that no search has used.

    python benchmarks/search_winner_against_defaults.py SEARCH [SEARCH …] --output FOLDER
        [--results results] [--timesteps 100000] [--seeds 0..4]

SEARCH is the folder of a search's last round, or its results.json; all must be of the same task.
Trains as `gallop run --seeds` does, in --results; if it is stopped and restarted, it trains only
what is missing. Writes the final returns (winners.csv) and a figure of all evaluations (curves.png)
to FOLDER. Scores are mean returns of the final policies on the ten evaluation seeds. The difference
is paired by seed, with Student's 95 % interval, because a bootstrap of five values is too narrow.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gallop.evaluation.statistics import compare, interquartile_mean, paired_difference_of_few
from gallop.experiments import search_results
from gallop.experiments.seeding import seeds_from
from gallop.experiments.yaml_file import from_dict
from gallop.report import figures
from gallop.report.group_report import evaluations_over_seeds
from gallop.run_folder.seed_group import SeedGroup
from gallop.runs.seed_group import run_seeds

COLOURS = [figures.INK, figures.BASELINE, figures.TRAINED, "#8a6d3b", "#5b4a8a"]


def trained(search: dict, hyperparameters: dict, name: str, options) -> SeedGroup:
    experiment = dict(search["experiment"])
    own = dict(experiment.pop("hyperparameters", None) or {})
    for setting in ("segment", "evaluation"):
        experiment.pop(setting, None)
    experiment |= {
        "total_timesteps": options.timesteps,
        "segment": 10_000,
        "evaluation": {"interval": 10_000, "n_episodes": 5},
        "milestones": [100],
        "films": False,
        "hyperparameters": own | hyperparameters,
    }
    return run_seeds(
        from_dict(experiment), seeds_from(options.seeds), results=options.results, name=name
    )


def finals(group: SeedGroup) -> np.ndarray:
    """Mean return of each training seed's final policy on the evaluation seeds."""
    return np.array([group.run(seed).numbers.final_return() for seed in group.read_seeds()])


def draw(title: str, groups: dict[str, SeedGroup], path: Path) -> None:
    """Draw every evaluation of every run, and the IQM over the training seeds."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for (name, group), colour in zip(groups.items(), COLOURS, strict=False):
        timesteps, returns, seeds = evaluations_over_seeds(group.runs())
        axes.plot(timesteps, returns.T, color=colour, linewidth=0.8, alpha=0.4)
        what = "SB3's defaults" if name == "defaults" else f"winner of {name}"
        label = f"{what}: IQM over {len(seeds)} training seeds (thin: each)"
        axes.plot(
            timesteps, interquartile_mean(returns.T), color=colour, linewidth=2.5, label=label
        )
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("timesteps")
    axes.set_ylabel("evaluation return, mean of 5 episodes")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: figures.short(value)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    figures.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("searches", type=Path, nargs="+", metavar="SEARCH")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--timesteps", type=int, default=100_000)
    parser.add_argument("--seeds", default="0..4")
    options = parser.parse_args()
    groups: dict[str, SeedGroup] = {}
    for path in options.searches:
        results = search_results.read(path)
        _, best = search_results.hyperparameters_of(results, "best")
        name = results.study_name.rpartition("/")[2].removesuffix("_round2")
        groups[name] = trained(results.more["search"], best, f"winner-{name}", options)
    groups = {"defaults": trained(results.more["search"], {}, "defaults", options), **groups}
    seeds, theirs = groups["defaults"].read_seeds(), finals(groups["defaults"])
    rows = [("defaults", *pair) for pair in zip(seeds, theirs, strict=True)]
    print(
        "| | IQM | each | difference [95 %] | P(better) | sign flip p |\n|---|---|---|---|---|---|"
    )
    for name, group in groups.items():
        ours = finals(group)
        each = ", ".join(f"{value:,.0f}" for value in ours)
        line = f"| {name} | {interquartile_mean(ours):,.0f} | {each} |"
        if name != "defaults":
            rows += [(name, *pair) for pair in zip(seeds, ours, strict=True)]
            difference = paired_difference_of_few(ours, theirs)
            low, high = difference.interval
            found = compare(ours, theirs, np.random.default_rng(0))
            line += (
                f" {difference.mean:+,.0f} [{low:+,.0f}, {high:+,.0f}] | "
                f"{found.probability_of_improvement.value:.2f} | {found.p_sign_flip:.3f} |"
            )
        print(line)
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "winners.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["winner_of", "training_seed", "final_return"])
        writer.writerows((name, seed, f"{value:.1f}") for name, seed, value in rows)
    title = f"{results.algo.upper()} on {results.env}"
    draw(title, groups, options.output / "curves.png")


if __name__ == "__main__":
    main()
