"""Compare SPS of Gallop on SB3 with SPS of SB3's own `learn`, without evaluations.

Both train the reference experiment (SAC on HalfCheetah-v5, batch 128) in one process, taking turns:
Gallop trains a segment, including all of its costs (new simulators, a state that is saved and
synced); SB3 trains as many timesteps of one long `learn`. Prints a table and adds the run to the
CSV next to this file.

    python benchmarks/sps_against_sb3.py [--rounds 24] [--timesteps 1000]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC

from gallop.environments.vectorised import training_environments
from gallop.evaluation.statistics import bootstrap_interval
from gallop.experiments import seeding
from gallop.experiments.plan import make_plan
from gallop.experiments.yaml_file import load
from gallop.learners.choose import choose_learner, make_learner
from gallop.run_folder import resume_state
from gallop.runs.training import train

REFERENCE = Path(__file__).parents[1] / "configs" / "halfcheetah_sac.yaml"
COLUMNS = ["run", "timesteps", "pair", "gallop_sps", "sb3_sps", "ratio"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--timesteps", type=int, default=1_000)
    options = parser.parse_args()
    n, size = options.rounds, options.timesteps
    overrides = {
        "total_timesteps": (n + 1) * size * 4,
        "evaluation.interval": size,
        "segment": size,
        "learner": "sb3",
    }
    experiment = load(REFERENCE, {name: str(value) for name, value in overrides.items()})
    plan = make_plan(experiment, 308)
    environments = training_environments(experiment)
    spaces = environments.observation_space, environments.action_space
    choice = choose_learner(experiment, *spaces)
    learner = make_learner(experiment, choice, environments, seeding.initialisation_seed(0))
    segments = train(plan, learner, environments, 0, 0, lambda timestep: None)
    settings = experiment.hyperparameters
    sb3 = SAC(
        "MlpPolicy",
        gymnasium.make("HalfCheetah-v5", **experiment.env_kwargs),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        gamma=settings.gamma,
        device="cpu",
        seed=0,
    )
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)

        def gallop_segment() -> None:
            outcome = next(segments)
            resume_state.save_boundary(state, learner, outcome.boundary.segment + 1)

        def sb3_segment() -> None:
            sb3.learn(size, reset_num_timesteps=False)

        gallop_segment(), sb3_segment()  # warm-up, beyond learning_starts
        rows = []
        for number in range(n):
            pair = [("gallop", gallop_segment), ("sb3", sb3_segment)]
            took = {}
            for name, work in pair if number % 2 == 0 else reversed(pair):
                started = time.perf_counter()
                work()
                took[name] = size / (time.perf_counter() - started)
            rows.append([number, took["gallop"], took["sb3"], took["gallop"] / took["sb3"]])
            print("{:3d}  gallop {:6.1f} SPS   sb3 {:6.1f} SPS   ratio {:.3f}".format(*rows[-1]))
    environments.close()
    ratios = [row[3] for row in rows]
    low, high = bootstrap_interval(
        ratios, np.random.default_rng(0), lambda resamples: np.median(resamples, axis=-1)
    )
    print(
        f"median ratio {statistics.median(ratios):.3f}, 95 % bootstrap interval of the median "
        f"{low:.3f} … {high:.3f}, pairs from {min(ratios):.3f} to {max(ratios):.3f}; "
        f"{n} pairs of {size} timesteps, {cpu()}, torch {torch.__version__}"
    )
    # Runs are added and never replaced, even if one came out badly.
    path = Path(__file__).with_suffix(".csv")
    earlier = path.read_text().splitlines() if path.exists() else [",".join(COLUMNS)]
    number = 1 + max((int(line.split(",")[0]) for line in earlier[1:]), default=0)
    new = [f"{number},{size},{r[0]},{r[1]:.4g},{r[2]:.4g},{r[3]:.4g}" for r in rows]
    path.write_text("\n".join([*earlier, *new]) + "\n")


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    main()
