#!/usr/bin/env bash
# stable-baselines3 2.9.2: SAC with gSDE resamples its exploration noise at every timestep,
# regardless of sde_sample_freq, if train_freq has its default of 1.
#
# The noise is sampled at the start of each "rollout", which for SAC is train_freq timesteps, and
# the counter that sde_sample_freq is compared with restarts at 0 with each. State-dependent
# exploration, which should be smooth over a stretch of motion, is then as jittery as the noise that
# it replaces. A long train_freq (with as many gradient_steps) makes it smooth.
#
# Output:
#   640 timesteps, sde_sample_freq=64: 640 noise matrices; with train_freq=64: 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2
cd "$folder"
cat > look.py <<'PY'
from stable_baselines3 import SAC


def matrices(**settings):
    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        policy_kwargs={"net_arch": [8]},
        use_sde=True,
        sde_sample_freq=64,
        learning_starts=0,
        batch_size=8,
        **settings,
    )
    used = set()

    def look(local, _):
        used.add(model.actor.action_dist.exploration_mat.detach().numpy().tobytes())
        return True

    model.learn(640, callback=look)
    return len(used)


print(
    f"640 timesteps, sde_sample_freq=64: {matrices()} noise matrices; "
    f"with train_freq=64: {matrices(train_freq=64, gradient_steps=64)}"
)
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "640 timesteps, sde_sample_freq=64: 640 noise matrices; with train_freq=64: 10" ]
