#!/usr/bin/env bash
# tianshou 2.0.1: a SAC policy with the default actor acts within 76 % of the action's bounds.
#
# ContinuousActorProbabilistic puts its mean through tanh unless it is made with unbounded=True, and
# SACPolicy puts the action through tanh once more. So the policy's own action, which is used for
# evaluation, never leaves ±tanh(1) = ±0.76 of the bounds, however far training pushes the weights.
# On tasks with torques at the limit, such as Pendulum, the optimum is out of reach. Nothing warns.
#
# Output:
#   largest torque on Pendulum, of 2.00: 1.52; with unbounded=True 2.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tianshou==2.0.1 torch==2.13.0 gymnasium==1.4.0 \
    numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import gymnasium
import numpy as np
import torch
from tianshou.algorithm.modelfree.sac import SACPolicy
from tianshou.data import Batch
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic

task = gymnasium.make("Pendulum-v1")


def largest_torque(**settings):
    """Torque of a policy whose mean is as large as can be."""
    net = Net(state_shape=3, action_shape=1, hidden_sizes=[8])
    actor = ContinuousActorProbabilistic(preprocess_net=net, action_shape=1, **settings)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.fill_(100.0)
    policy = SACPolicy(actor=actor, action_space=task.action_space)
    action = policy(Batch(obs=np.ones((1, 3), np.float32), info={})).act.detach().numpy()
    return policy.map_action(action).item()


print(
    f"largest torque on Pendulum, of {task.action_space.high[0]:.2f}: {largest_torque():.2f}; "
    f"with unbounded=True {largest_torque(unbounded=True):.2f}"
)
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "largest torque on Pendulum, of 2.00: 1.52; with unbounded=True 2.00" ]
