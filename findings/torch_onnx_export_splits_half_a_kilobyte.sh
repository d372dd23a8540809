#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export writes a policy of 1 kB as two files, and an empty second file
# beside a network that needs none.
#
# External data is meant for models that exceed the 2 GB of a protobuf file. The exporter uses it by
# default (external_data=True): every weight above 256 bytes goes to NAME.onnx.data, the rest stays
# in NAME.onnx. Whoever copies or uploads the .onnx file alone has a policy without its larger
# layers, which ONNX Runtime refuses. external_data=False writes one file.
#
# Output:
#   2 hidden units: policy.onnx.data of 0 bytes; alone: loads
#   8 hidden units: policy.onnx.data of 544 bytes; alone: is refused
#   8 hidden units, external_data=False: no second file; alone: loads
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0
cd "$folder"
cat > look.py <<'PY'
import shutil
from pathlib import Path

import onnxruntime
import torch
from torch import nn


def look(units, **options):
    folder = Path(f"{units}-{len(options)}")
    alone = folder / "alone"
    alone.mkdir(parents=True)
    policy = nn.Sequential(nn.Linear(17, units), nn.ReLU(), nn.Linear(units, 6)).eval()
    exported = folder / "policy.onnx"
    options["verbose"] = False
    torch.onnx.export(policy, (torch.zeros(1, 17),), exported, dynamo=True, **options)
    second = folder / "policy.onnx.data"
    size = "no second file"
    if second.exists():
        size = f"{second.name} of {second.stat().st_size} bytes"
    shutil.copy(exported, alone)
    try:
        onnxruntime.InferenceSession(alone / "policy.onnx")
        says = "loads"
    except Exception:
        says = "is refused"
    named = ", external_data=False" if "external_data" in options else ""
    print(f"{units} hidden units{named}: {size}; alone: {says}")


look(2)
look(8)
look(8, external_data=False)
PY
seen=$("$folder/venv/bin/python" -W ignore look.py 2>/dev/null)
echo "$seen"
[ "$seen" = "2 hidden units: policy.onnx.data of 0 bytes; alone: loads
8 hidden units: policy.onnx.data of 544 bytes; alone: is refused
8 hidden units, external_data=False: no second file; alone: loads" ]
