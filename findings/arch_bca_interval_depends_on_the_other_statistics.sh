#!/usr/bin/env bash
# arch 8.0.0: the BCa interval of a statistic depends on the statistics computed beside it.
#
# A function given to conf_int may return several statistics. The acceleration of each is computed
# from its jackknife values, but about the mean of all statistics' values instead of its own. If the
# statistics differ in size, it becomes 1 / (6 sqrt(n)) whatever the data, with a minus for those
# above the mean: here 0.037 and -0.038, instead of 0.062 for both. Percentile and BC intervals are
# not affected. rliable's method="bca" of median, IQM and mean in one call is.
#
# Output:
#   BCa interval of the mean, alone: 0.844 to 2.221; beside the sum: 0.826 to 2.157
#   percentile interval of the mean, alone: 0.768 to 2.054; beside the sum: 0.768 to 2.054
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet arch==8.0.0 pandas==3.1.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
cat > look.py <<'PY'
import numpy as np
from arch.bootstrap import IIDBootstrap

values = np.random.default_rng(0).exponential(size=20)


def alone(x):
    return np.array([x.mean()])


def beside_the_sum(x):
    return np.array([x.mean(), x.sum()])


def interval_of_the_mean(function, method):
    ends = IIDBootstrap(values, seed=0).conf_int(function, 10_000, method=method)[:, 0]
    return "{:.3f} to {:.3f}".format(*ends)


for name, method in (("BCa", "bca"), ("percentile", "percentile")):
    print(
        f"{name} interval of the mean, alone: {interval_of_the_mean(alone, method)}; "
        f"beside the sum: {interval_of_the_mean(beside_the_sum, method)}"
    )
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "BCa interval of the mean, alone: 0.844 to 2.221; beside the sum: 0.826 to 2.157
percentile interval of the mean, alone: 0.768 to 2.054; beside the sum: 0.768 to 2.054" ]
