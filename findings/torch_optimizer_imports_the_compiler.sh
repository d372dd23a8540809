#!/usr/bin/env bash
# torch 2.13.0: the first optimizer of a process imports PyTorch's compiler.
#
# `import torch` does not. But Optimizer.add_param_group is decorated with _disable_dynamo, which
# imports torch._dynamo at its first call, and that imports torch._inductor: 822 further modules,
# 1.7 s of processor time here, even for SGD on one parameter that is never trained. So a program
# that loads a policy only to act pays it if the policy's class makes its optimizer, as
# Stable-Baselines3's do in their constructors. `optimizer_class` of such a policy may be a class
# that does nothing.
#
# Output:
#   after import torch: compiler not imported
#   after SGD of one parameter: compiler imported, more than 500 further modules
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat > look.py <<'PY'
import sys

import torch

NAMES = ("torch._dynamo", "torch._inductor")


def seen():
    return "imported" if all(name in sys.modules for name in NAMES) else "not imported"


parameter = torch.nn.Parameter(torch.zeros(1))
before = len(sys.modules)
print(f"after import torch: compiler {seen()}")
torch.optim.SGD([parameter], lr=0.1)
many = "more" if len(sys.modules) - before > 500 else "not more"
print(f"after SGD of one parameter: compiler {seen()}, {many} than 500 further modules")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "after import torch: compiler not imported
after SGD of one parameter: compiler imported, more than 500 further modules" ]
