#!/usr/bin/env bash
# skrl 2.1.1: RunningStandardScaler returns NaN once it was trained on a single observation.
#
# It uses the unbiased variance of a batch, which divides by the number of rows minus one. A batch of
# one row, as a single environment gives, makes the running variance NaN, and it stays NaN whatever
# follows. Other libraries' normalisers use the biased variance.
#
# Output:
#   variance after 4 rows: finite; after 1 row: nan; after 1 row and then 1000: nan
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 skrl==2.1.1
cat > "$folder/look.py" <<'PY'
import torch
from skrl.resources.preprocessors.torch import RunningStandardScaler


def variance(*sizes):
    torch.manual_seed(0)
    scaler = RunningStandardScaler(3, device="cpu")
    for size in sizes:
        scaler(torch.randn(size, 3), train=True)
    return "nan" if scaler.running_variance.isnan().any() else "finite"


print(
    f"variance after 4 rows: {variance(4)}; after 1 row: {variance(1)}; "
    f"after 1 row and then 1000: {variance(1, 1000)}"
)
PY
seen=$("$folder/venv/bin/python" -W ignore "$folder/look.py" 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "variance after 4 rows: finite; after 1 row: nan; after 1 row and then 1000: nan" ]
