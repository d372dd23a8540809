"""A search's winner against SB3's defaults, both trained anew on seeds that the search never saw.

    python benchmarks/search_winner_against_defaults.py SEARCH RESULTS_FOLDER
        [--timesteps 100000] [--seeds 0..4] [--output FILE.csv]

SEARCH is the folder of the search's last round, or its results.json. Trains as `run --seeds` does,
below RESULTS_FOLDER; stopped and started again it does what is missing, and several searches
share the defaults' runs. Scores are mean returns of the final policies on the ten evaluation seeds;
the difference is taken seed by seed, with Student's 95 % interval: a bootstrap of five is too
narrow.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from gallop import search_results
from gallop.experiment_file import from_dict
from gallop.policies import seeds_from
from gallop.seed_group import SeedGroup, run_seeds
from gallop.statistics import compare, interquartile_mean, paired_difference_of_few

COLUMNS = ["search", "trial", "timesteps", "training_seed", "winner_return", "defaults_return"]


def trained(
    results: search_results.SearchResults, hyperparameters: dict, name: str, options
) -> SeedGroup:
    search = results.more["search"]
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


def finals(group: SeedGroup) -> dict[int, float]:
    """Training seed -> mean return of the final policy on the evaluation seeds."""
    return {seed: group.run(seed).final_return() for seed in group.read_seeds()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("search", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--timesteps", type=int, default=100_000)
    parser.add_argument("--seeds", default="0..4")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    results = search_results.read(options.search)
    trial, best = search_results.hyperparameters_of(results, "best")
    name = results.study_name.rpartition("/")[2]
    winner = finals(trained(results, best, f"winner-{name}", options))
    defaults = finals(trained(results, {}, "defaults", options))
    seeds = sorted(winner.keys() & defaults.keys())
    ours, theirs = (np.array([side[seed] for seed in seeds]) for side in (winner, defaults))
    found = compare(ours, theirs, np.random.default_rng(0))
    print(json.dumps(best))
    print(
        f"IQM over {len(seeds)} training seeds at {options.timesteps:,} timesteps: winner "
        f"{interquartile_mean(ours):,.0f}, SB3's defaults {interquartile_mean(theirs):,.0f}"
    )
    difference = paired_difference_of_few(ours, theirs)
    low, high = difference.interval
    print(
        f"paired difference {difference.mean:+,.0f} [{low:+,.0f}, {high:+,.0f}], "
        f"probability of improvement {found.probability_of_improvement.value:.2f}, "
        f"sign flip p {found.p_sign_flip:.3f}"
    )
    rows = []
    if options.output.exists():
        with options.output.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["search"] != name]
    for seed, a, b in zip(seeds, ours, theirs, strict=True):
        values = [name, trial, options.timesteps, seed, f"{a:.1f}", f"{b:.1f}"]
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
