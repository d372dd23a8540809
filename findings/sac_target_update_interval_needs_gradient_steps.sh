#!/usr/bin/env bash
# stable-baselines3 2.9.2 and sb3-contrib 2.9.2: target_update_interval of SAC and TQC has no effect
# with their default of one gradient step per call of train().
#
# It is compared with the index of the gradient step within the call, which starts at 0 each time,
# not with the number of gradient steps since the start. With gradient_steps=1 the targets are
# updated at every step regardless of the interval; an interval longer than gradient_steps means
# once per call of train().
#
# Output:
#   SAC, TQC with an interval of 50, targets updated in 100 gradient steps: [100, 100]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2 sb3-contrib==2.9.2
cd "$folder"
cat > look.py <<'PY'
import torch
from sb3_contrib import TQC
from stable_baselines3 import SAC


def updates(algorithm):
    model = algorithm(
        "MlpPolicy",
        "Pendulum-v1",
        policy_kwargs={"net_arch": [8]},
        learning_starts=10,
        batch_size=8,
        target_update_interval=50,
    )
    model.learn(10)
    count, parameter = 0, next(model.critic_target.parameters())
    for _ in range(100):
        before = parameter.detach().clone()
        model.learn(1, reset_num_timesteps=False)
        count += not torch.equal(before, parameter)
    assert model._n_updates == 100
    return count


seen = [updates(algorithm) for algorithm in (SAC, TQC)]
print(f"SAC, TQC with an interval of 50, targets updated in 100 gradient steps: {seen}")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "SAC, TQC with an interval of 50, targets updated in 100 gradient steps: [100, 100]" ]
