#!/usr/bin/env bash
# rliable 1.2.0: the interquartile mean of three runs is their plain mean, including outliers.
#
# aggregate_iqm removes whole scores, a quarter of their number rounded down, from each end: none of
# three, one of four to seven. With one task and three seeds, the reported figure is not robust;
# with seven seeds it is the mean of the inner 71 %, not 50 %.
#
# Output:
#   one outlier among 3 runs: IQM 34, mean 34; among 4: IQM 1, mean 26
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rliable==1.2.0 arch==7.2.0 pandas==2.3.3 numpy==2.4.6 scipy==1.17.1
cd "$folder"
cat > look.py <<'PY'
import numpy as np
from rliable.metrics import aggregate_iqm

three, four = np.array([[1.0], [1.0], [100.0]]), np.array([[1.0], [1.0], [1.0], [101.0]])
print(
    f"one outlier among 3 runs: IQM {aggregate_iqm(three):.0f}, mean {three.mean():.0f}; "
    f"among 4: IQM {aggregate_iqm(four):.0f}, mean {four.mean():.0f}"
)
seven = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [60.0]])
assert aggregate_iqm(seven) == np.mean([1, 2, 3, 4, 5])
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "one outlier among 3 runs: IQM 34, mean 34; among 4: IQM 1, mean 26" ]
