"""Score any SB3 policy without running code that its zip contains.

    python examples/evaluate_a_zip.py POLICY.zip HalfCheetah-v5

`SAC.load` unpickles part of the zip, so it would run any code that the author put there. Gallop
reads weights and plain text only, and checks that the policy belongs to the task.
"""

import sys

import numpy as np

import gallop
from gallop.evaluation.statistics import summarise

if len(sys.argv) != 3:
    sys.exit("usage: python evaluate_a_zip.py POLICY.zip TASK")
path, task = sys.argv[1:]

# One deterministic episode for each of the ten evaluation seeds.
episodes = gallop.evaluate(path, env=task)

# The mean with its 95 % bootstrap interval. The generator draws the bootstrap's samples.
summary = summarise(episodes.returns, np.random.default_rng(0))
low, high = summary.mean_interval
print(f"{path} on {task}: mean return {summary.mean:,.1f} [{low:,.1f}, {high:,.1f}]")

for seed, episode_return in zip(episodes.seeds, episodes.returns, strict=True):
    print(f"seed {seed}: {episode_return:,.1f}")
