#!/usr/bin/env bash
# sb3-contrib 2.9.2: any optimizer_kwargs given to CrossQ silently changes Adam's beta1 from 0.5 to
# 0.9.
#
# CrossQ's policy trains with betas (0.5, 0.999), as in the paper, but only if optimizer_kwargs is
# None. With anything else, such as a weight decay, it trains with PyTorch's (0.9, 0.999).
#
# Output:
#   default (0.5, 0.999), with weight_decay (0.9, 0.999)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2 sb3-contrib==2.9.2
cd "$folder"
cat > look.py <<'PY'
from sb3_contrib import CrossQ


def betas(**policy_kwargs):
    model = CrossQ("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8], **policy_kwargs})
    return model.actor.optimizer.param_groups[0]["betas"]


print(f"default {betas()}, with weight_decay {betas(optimizer_kwargs={'weight_decay': 1e-4})}")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "default (0.5, 0.999), with weight_decay (0.9, 0.999)" ]
