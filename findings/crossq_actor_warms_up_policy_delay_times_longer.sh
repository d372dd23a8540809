#!/usr/bin/env bash
# sb3-contrib 2.9.2: renorm_warmup_steps of CrossQ means a different number of gradient steps for
# the actor than for the critics.
#
# Each batch-renormalisation layer counts its own updates. The actor is updated every
# policy_delay-th gradient step (default 3), so its warm-up of 100,000 steps takes 300,000 gradient
# steps, while the critics' takes 100,000. A run of 250,000 timesteps ends with an actor that never
# left its warm-up.
#
# Output:
#   90 gradient steps: critic counted 90, actor 30
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2 sb3-contrib==2.9.2
cd "$folder"
cat > look.py <<'PY'
from sb3_contrib import CrossQ

model = CrossQ(
    "MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, learning_starts=10, batch_size=8
)
model.learn(100)
state = model.policy.state_dict()
critic, actor = (int(state[f"{name}.0.steps"]) for name in ("critic.qf0", "actor.latent_pi"))
print(f"{model._n_updates} gradient steps: critic counted {critic}, actor {actor}")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "90 gradient steps: critic counted 90, actor 30" ]
