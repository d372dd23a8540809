"""SPS through Gallop against SB3's own `learn`, on the same work, evaluation excluded.

Both train the reference experiment (SAC on HalfCheetah-v5, batch 128) in one process, in turn:
Gallop a segment with all that a segment costs (simulators made anew, state saved and synced), SB3
as many timesteps of one long `learn`. Prints a table and writes a CSV beside this file.

    python benchmarks/sps_against_sb3.py [--rounds 24] [--timesteps 1000]
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import tempfile
import time
from pathlib import Path

import gymnasium
import torch
from stable_baselines3 import SAC

from gallop import checkpoint, seeding
from gallop.environments import training_environments
from gallop.experiment_file import load
from gallop.learners.choose import make_learner
from gallop.plan import make_plan
from gallop.training import train

REFERENCE = Path(__file__).parents[1] / "configs" / "halfcheetah_sac.yaml"


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
    }
    experiment = load(REFERENCE, {name: str(value) for name, value in overrides.items()})
    plan = make_plan(experiment, 308)
    environments = training_environments(experiment)
    learner = make_learner(experiment, environments, seeding.initialisation_seed(0))
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
    torch.set_num_threads(experiment.n_threads)

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)

        def gallop_segment() -> None:
            outcome = next(segments)
            checkpoint.save_boundary(state, learner, outcome.boundary.segment + 1)

        def sb3_segment() -> None:
            sb3.learn(size, reset_num_timesteps=False)

        gallop_segment(), sb3_segment()  # warm-up, and past learning_starts
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
    columns = list(zip(*rows, strict=True))
    medians = [statistics.median(column) for column in columns[1:]]
    print("median  gallop {:.1f} SPS, sb3 {:.1f} SPS, ratio {:.3f}".format(*medians))
    print(
        f"ratio from {min(columns[3]):.3f} to {max(columns[3]):.3f}, {n} pairs of {size} timesteps"
    )
    machine = f"{cpu()}, 1 thread, {platform.platform()}, torch {torch.__version__}"
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        file.write(f"# {machine}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["pair", "gallop_sps", "sb3_sps", "ratio"])
        writer.writerows([r[0], *(f"{value:.4g}" for value in r[1:])] for r in rows)


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    main()
