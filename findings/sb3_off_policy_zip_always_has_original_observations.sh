#!/usr/bin/env bash
# stable-baselines3 2.9.2: `_last_original_obs` in a zip, "the observation before normalisation",
# does not tell whether an off-policy policy was trained on normalised observations.
#
# PPO sets it only if the environment is a VecNormalize. SAC sets it after the first timestep in any
# case. So a program that looks for the missing vecnormalize.pkl of a zip by this entry is right about
# PPO and wrong about SAC.
#
# Seen: "PPO raw: None, PPO normalised: array, SAC raw: array, SAC normalised: array"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 stable-baselines3==2.9.2 gymnasium==1.3.0
cd "$folder"
cat > look.py <<'PY'
import gymnasium
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

seen = []
for algorithm, settings in ((PPO, {"n_steps": 8, "batch_size": 8}), (SAC, {"learning_starts": 4})):
    for normalised in (False, True):
        venv = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")])
        venv = VecNormalize(venv) if normalised else venv
        algorithm("MlpPolicy", venv, seed=0, **settings).learn(16).save("policy")
        kept = algorithm.load("policy")._last_original_obs
        how = "normalised" if normalised else "raw"
        seen.append(f"{algorithm.__name__} {how}: {'None' if kept is None else 'array'}")
print(", ".join(seen))
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "PPO raw: None, PPO normalised: array, SAC raw: array, SAC normalised: array" ]
