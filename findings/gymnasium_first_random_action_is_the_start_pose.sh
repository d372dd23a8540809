#!/usr/bin/env bash
# gymnasium 1.4.0, stable-baselines3 2.9.2: with one seed for both, the first random action in a
# MuJoCo task is the noise of the initial pose, scaled.
#
# reset(seed=s) and action_space.seed(s) create equal generators, and both sample uniform numbers
# first: the noise of the pose (in qpos order) and the action. So actuator i pushes in proportion to
# the initial displacement of coordinate i. SB3's seed= sets both seeds, so this is true of the
# first timestep of the warm-up of SAC and TD3.
#
# Output:
#   action / noise: HalfCheetah 10, Walker2d 200, Humanoid 40; SAC's first action / pose 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 mujoco==3.15.0 \
  imageio==2.37.2 packaging==26.4 stable-baselines3==2.9.2
cd "$folder"
cat > look.py <<'PY'
import gymnasium
import numpy as np
from stable_baselines3 import SAC


def ratio(action, noise):
    ratios = np.asarray(action, dtype=float) / noise
    assert np.ptp(ratios) < 1e-3 * ratios.mean(), ratios  # one factor for all; actions are float32
    return f"{ratios.mean():.0f}"


seen = []
for name in ("HalfCheetah", "Walker2d", "Humanoid"):
    task = gymnasium.make(f"{name}-v5")
    task.reset(seed=3)
    task.action_space.seed(3)
    action = task.action_space.sample()
    start = task.unwrapped.data.qpos - task.unwrapped.init_qpos
    seen.append(f"{name} {ratio(action, start[: len(action)])}")
model = SAC("MlpPolicy", "HalfCheetah-v5", seed=3, buffer_size=10, policy_kwargs={"net_arch": [8]})
model.learn(1)
# Observations omit the first coordinate, the distance travelled.
action, pose = model.replay_buffer.actions[0, 0], model.replay_buffer.observations[0, 0]
print(f"action / noise: {', '.join(seen)}; SAC's first action / pose {ratio(action[1:], pose[:5])}")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "action / noise: HalfCheetah 10, Walker2d 200, Humanoid 40; SAC's first action / pose 10" ]
