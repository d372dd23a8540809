"""Where nothing can be found, a search says so: its winner's lead is gone when trained again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gallop_noise_task import N_TIMESTEPS, SIGMA
from scipy.integrate import quad
from scipy.stats import norm

from gallop.display import Display
from gallop.tuning import rounds
from gallop.tuning.search import from_data

N_TRIALS, N_FRESH, SEARCH_SEEDS = 24, 6, (0, 1, 2)


def a_search(search_seed):
    """24 trials of one rollout each; returns are independent normals, standard deviation SIGMA."""
    return from_data(
        {
            "experiment": {
                "algo": "ppo",
                "env": "gallop_noise_task:Noise-v0",
                "total_timesteps": N_TIMESTEPS,
                "segment": N_TIMESTEPS,
                "evaluation": {"interval": N_TIMESTEPS, "n_episodes": 1},
                "hyperparameters": {
                    "n_steps": N_TIMESTEPS,
                    "batch_size": N_TIMESTEPS,
                    "policy_kwargs": {"net_arch": [8]},
                },
            },
            "rounds": [
                {
                    "n_trials": N_TRIALS,
                    "space": {
                        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                        "ent_coef": {"low": 0.0, "high": 0.1},
                    },
                }
            ],
            "search_seed": search_seed,
            "retraining": {"n_best": 1, "n_seeds": N_FRESH},
        }
    )


def expected_maximum(n):
    """Of n unit normals."""
    return quad(lambda x: x * n * norm.pdf(x) * norm.cdf(x) ** (n - 1), -8, 8)[0]


@pytest.mark.slow
def test_a_search_over_noise_finds_a_lead_that_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    in_the_search, again, intervals, values = [], [], [], []
    for search_seed in SEARCH_SEEDS:
        round_ = rounds.tune(
            a_search(search_seed),
            root=tmp_path,
            name=f"seed-{search_seed}",
            reproducible=True,
            display=Display(quiet=True),
        )
        results = json.loads(round_.results_file.read_text())
        winner, defaults = results["trained_again"]
        assert defaults["name"] == "defaults"
        values += [trial["value"] for trial in results["trials"]]
        in_the_search.append((winner["in_the_search"] - defaults["in_the_search"]) / SIGMA)
        again.append(winner["gain_over_defaults"] / SIGMA)
        intervals.append(winner["gain_interval"])
    print(in_the_search, again, intervals, np.std(values) / SIGMA)  # shown where it fails
    # Every training ends with a return of its own; of 72, sigma is off by a quarter once in 300.
    assert len(set(values)) == len(SEARCH_SEEDS) * N_TRIALS
    assert np.std(values) == pytest.approx(SIGMA, rel=0.25)
    # In the search: the maximum of 24 less one of the 24, 1.95 standard deviations on average. The
    # mean of three has a standard deviation of 0.63, so it is below 0.7 once in 40 times.
    assert expected_maximum(N_TRIALS) == pytest.approx(1.95, abs=0.01)
    assert np.mean(in_the_search) > 0.7
    # Trained again: 0 on average; the IQM over 6 seeds of a difference of two has a standard
    # deviation of about 0.65, the mean of three of 0.37: beyond 0.8 once in 30 times. A 95 %
    # bootstrap interval over 6 seeds holds 0 nine times in ten, all three of them 7 times in 10.
    # The seeds are fixed, so what comes out here comes out always.
    assert abs(np.mean(again)) < 0.8
    for low, high in intervals:
        assert low <= 0 <= high
