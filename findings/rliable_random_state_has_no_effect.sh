#!/usr/bin/env bash
# rliable 1.2.0: random_state, documented to make intervals reproducible, has no effect.
#
# get_interval_estimates and both bootstrap classes take a random_state and hand it to arch, but
# draw the indices from NumPy's global generator. The same random_state gives another interval each
# time. Only np.random.seed fixes it, and with it every other draw of the process.
#
# Output:
#   twice the same: with random_state=RandomState(0) False, after np.random.seed(0) True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rliable==1.2.0 arch==7.2.0 pandas==2.3.3 \
  numpy==2.4.6 scipy==1.17.1
cd "$folder"
cat > look.py <<'PY'
import numpy as np
from rliable.library import get_interval_estimates

scores = np.random.default_rng(0).normal(size=(5, 3))


def mean(x):
    return np.array([x.mean()])


def with_random_state():
    state = np.random.RandomState(0)
    return get_interval_estimates({"x": scores}, mean, reps=100, random_state=state)[1]["x"]


def after_global_seed():
    np.random.seed(0)
    return get_interval_estimates({"x": scores}, mean, reps=100)[1]["x"]


by_state = np.array_equal(with_random_state(), with_random_state())
by_seed = np.array_equal(after_global_seed(), after_global_seed())
print(
    f"twice the same: with random_state=RandomState(0) {by_state}, "
    f"after np.random.seed(0) {by_seed}"
)
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "twice the same: with random_state=RandomState(0) False, after np.random.seed(0) True" ]
