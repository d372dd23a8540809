"""Measure what an audit costs: recording against playing, and the audit of ten episodes.

    python benchmarks/audit_cost.py [--repeats 5] [--output FILE.csv]

For each task, ten episodes of 1,000 timesteps of random actions are played by stepping the
environment, without a policy, and again with every physics step recorded, in turn. Reports the
ratio of the two (medians), the seconds to record and measure all ten, and the size of one
trajectory. Every measurement is added to the CSV; runs are added and never replaced.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from measurements import Measurements

from gallop.environments.make import Task
from gallop.evaluation.audit.audit import audit_episodes, replayed
from gallop.evaluation.audit.trajectory import as_arrays
from gallop.evaluation.episodes import Episodes, RandomPolicy, evaluate
from gallop.experiments.seeding import EVALUATION_SEEDS

LONG = {"terminate_when_unhealthy": False}  # episodes of 1,000 timesteps, as of a trained policy
TASKS: dict[str, dict[str, bool]] = {
    "HalfCheetah-v5": {},
    "Hopper-v5": LONG,
    "Walker2d-v5": LONG,
    "Ant-v5": LONG,
    "Humanoid-v5": LONG,
}
COLUMNS = ["task", "timesteps", "recorded_over_played", "audit_seconds", "trajectory_bytes"]


def seconds(function: Callable[[Task, Episodes], object], task: Task, episodes: Episodes) -> float:
    """Processor time of a call: the machine may be shared."""
    start = time.process_time()
    function(task, episodes)
    return time.process_time() - start


def play(task: Task, episodes: Episodes) -> None:
    """Step an environment through the episodes."""
    env = task.make()
    for seed, actions in zip(episodes.seeds.tolist(), episodes.actions, strict=True):
        env.reset(seed=seed)
        for action in actions:
            env.step(action)
    env.close()


def record(task: Task, episodes: Episodes) -> list[int]:
    """The same, recorded; returns the bytes of each trajectory."""
    env = task.make()
    sizes = []
    episodes_ = zip(episodes.seeds.tolist(), episodes.actions, episodes.returns, strict=True)
    for seed, actions, expected in episodes_:
        trajectory = replayed(env, seed, actions, float(expected))
        sizes.append(sum(array.nbytes for array in as_arrays(trajectory).values()))
    env.close()
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    measurements = Measurements(options.output, COLUMNS)
    for name, kwargs in TASKS.items():
        task = Task(name, kwargs)
        policy = RandomPolicy(task.closed().action_space, EVALUATION_SEEDS)
        episodes = evaluate(policy, task.make, EVALUATION_SEEDS)
        played, recorded, audits = [], [], []
        for _ in range(options.repeats):
            played.append(seconds(play, task, episodes))
            recorded.append(seconds(record, task, episodes))
            audits.append(seconds(audit_episodes, task, episodes))
        ratio = statistics.median(recorded) / statistics.median(played)
        audit, size = statistics.median(audits), max(record(task, episodes))
        n = int(episodes.lengths.sum())
        print(f"{name}: {n:,} timesteps, recorded / played {ratio:.2f}, audit {audit:.2f} s, "
              f"{size / 1e6:.2f} MB an episode")  # fmt: skip
        measurements.add(name, n, ratio, audit, size)


if __name__ == "__main__":
    main()
