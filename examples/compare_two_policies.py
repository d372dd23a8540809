"""Are two policies different? The same starts for both, and what ten episodes can tell.

python examples/compare_two_policies.py A B [TASK]        (runs, milestones or SB3 zips)
"""

import sys

import numpy as np

import gallop
from gallop.evaluation.statistics import compare

first, second, *task = sys.argv[1:]
env = task[0] if task else None
ours = gallop.evaluate(first, env=env).returns
theirs = gallop.evaluate(second, env=env).returns
found = compare(ours, theirs, np.random.default_rng(0))
better = found.probability_of_improvement
low, high = found.difference.interval
print(f"difference of the mean return: {found.difference.mean:+,.1f} [{low:+,.1f}, {high:+,.1f}]")
print(
    f"probability that an episode of the first is better: {found.probability_of_improvement[0]:.2f}"
)
print(f"p of no difference: {found.p_sign_flip:.3f} (sign flip), {found.p_wilcoxon:.3f} (Wilcoxon)")
