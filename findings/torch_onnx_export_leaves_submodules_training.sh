#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export(wrapper, …, dynamo=False) leaves a module inside that was in
# eval mode in training mode.
#
# Policies are exported in a small wrapper that adds normalisation or scaling. A new wrapper is in
# training mode, its parts may be in eval mode. The exporter puts everything into eval mode for the
# export and afterwards sets all of it to the wrapper's mode. A normaliser with running statistics
# then goes on learning from the observations that the policy is tested on. dynamo=True leaves the
# modes as they were.
#
# Output:
#   the normaliser is in training mode: False before, True after dynamo=False, False after dynamo=True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
cd "$folder"
cat > look.py <<'PY'
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, observation):
        return 2 * self.policy(observation)


def after(dynamo):
    normaliser = nn.BatchNorm1d(3)
    policy = nn.Sequential(normaliser, nn.Linear(3, 1)).eval()
    before = normaliser.training
    torch.onnx.export(Scaled(policy), (torch.zeros(1, 3),), "policy.onnx", dynamo=dynamo)
    return before, normaliser.training


(before, old), (_, new) = after(dynamo=False), after(dynamo=True)
print(
    f"the normaliser is in training mode: {before} before, {old} after dynamo=False, "
    f"{new} after dynamo=True"
)
PY
seen=$("$folder/venv/bin/python" -W ignore look.py 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "the normaliser is in training mode: False before, True after dynamo=False, False after \
dynamo=True" ]
