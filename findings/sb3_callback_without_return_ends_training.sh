#!/usr/bin/env bash
# stable-baselines3 2.9.2: a callback that returns nothing ends training at its first timestep, and
# learn() returns as if training were complete.
#
# The docstring says that training is aborted if a callback returns False. Any false value aborts
# it, including the None of a function without a return statement, such as one that only prints.
# There is no error and no warning; the returned model is untrained.
#
# Output:
#   asked for 64 timesteps: SAC trained 1, PPO trained 1; returning True: 64, 64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2
cd "$folder"
cat > look.py <<'PY'
from stable_baselines3 import PPO, SAC


def timesteps(algorithm, callback, **settings):
    model = algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, **settings)
    return model.learn(64, callback=callback).num_timesteps


def both(callback):
    sac = timesteps(SAC, callback, learning_starts=10, batch_size=8)
    return sac, timesteps(PPO, callback, n_steps=32, batch_size=32)


sac, ppo = both(lambda local, _: None)
go_on = both(lambda local, _: True)
print(
    f"asked for 64 timesteps: SAC trained {sac}, PPO trained {ppo}; "
    f"returning True: {go_on[0]}, {go_on[1]}"
)
PY
seen=$("$folder/venv/bin/python" -W error::UserWarning look.py)
echo "$seen"
[ "$seen" = "asked for 64 timesteps: SAC trained 1, PPO trained 1; returning True: 64, 64" ]
