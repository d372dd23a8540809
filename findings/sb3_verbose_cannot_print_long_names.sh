#!/usr/bin/env bash
# stable-baselines3 2.9.2: with verbose=1, a training run fails that works with verbose=0, if two
# logged names start alike.
#
# The printed table truncates names to 36 characters and raises ValueError if two of them are then
# equal. TensorBoard, CSV and JSON accept them. The error comes with the first table, after a whole
# rollout; one more contact force or joint torque in the log is enough.
#
# Output:
#   verbose=0: trained 32 timesteps; verbose=1: ValueError after 32
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2
cd "$folder"
cat > look.py <<'PY'
import contextlib
import io

from stable_baselines3 import PPO


def train(verbose):
    def record(local, _):
        for side in ("left", "right"):
            model.logger.record(f"gait/mean_ground_reaction_force_of_{side}_foot", 1.0)
        return True

    with contextlib.redirect_stdout(io.StringIO()):
        model = PPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=32, verbose=verbose)
        try:
            model.learn(32, callback=record)
        except ValueError as error:
            assert "truncated" in str(error)
            return f"ValueError after {model.num_timesteps}"
    return f"trained {model.num_timesteps} timesteps"


print(f"verbose=0: {train(0)}; verbose=1: {train(1)}")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "verbose=0: trained 32 timesteps; verbose=1: ValueError after 32" ]
