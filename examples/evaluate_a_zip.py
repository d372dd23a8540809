"""Score an SB3 zip of anybody's, without running any code that is in it.

python examples/evaluate_a_zip.py POLICY.zip HalfCheetah-v5
"""

import sys

import numpy as np

import gallop
from gallop.evaluation.statistics import summarise

path, task = sys.argv[1:3]
episodes = gallop.evaluate(path, env=task)
summary = summarise(episodes.returns, np.random.default_rng(0))
low, high = summary.mean_interval
print(f"{path} on {task}: mean return {summary.mean:,.1f} [{low:,.1f}, {high:,.1f}]")
for seed, episode_return in zip(episodes.seeds, episodes.returns, strict=True):
    print(f"seed {seed}: {episode_return:,.1f}")
