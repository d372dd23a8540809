"""Compare two policies on the same seeds: is one better, and how sure can we be after ten episodes?

    python examples/compare_two_policies.py A B [TASK]

A and B are runs, milestones or SB3 zips. TASK is necessary for zips outside a run folder.
"""

import sys

import numpy as np

import gallop
from gallop.evaluation.statistics import compare

if len(sys.argv) not in (3, 4):
    sys.exit("usage: python compare_two_policies.py A B [TASK]")
first, second = sys.argv[1:3]
task = sys.argv[3] if len(sys.argv) == 4 else None

# Both policies start from the same ten initial states, so their returns can be paired.
returns_of_first = gallop.evaluate(first, env=task).returns
returns_of_second = gallop.evaluate(second, env=task).returns

found = compare(returns_of_first, returns_of_second, np.random.default_rng(0))

low, high = found.difference.interval
print(f"difference of the mean return: {found.difference.mean:+,.1f} [{low:+,.1f}, {high:+,.1f}]")

# How often an episode of the first policy has a higher return than one of the second.
print(f"probability that the first is better: {found.probability_of_improvement[0]:.2f}")

# Two tests of the hypothesis that there is no difference.
print(f"p of no difference: {found.p_sign_flip:.3f} (sign flip), {found.p_wilcoxon:.3f} (Wilcoxon)")
