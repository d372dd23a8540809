#!/usr/bin/env bash
# gymnasium 1.4.0: films of Pendulum-v1 run 1.5 times too fast.
#
# A timestep of Pendulum-v1 lasts `dt` = 0.05 s, so that 20 frames are a second. Its metadata says
# render_fps 30, which wrappers that record films take for their rate: ten simulated seconds last
# 6.7. CartPole-v1, whose `tau` is 0.02 s with render_fps 50, is right.
#
# Output:
#   Pendulum-v1: 20 timesteps per second, render_fps 30
#   CartPole-v1: 50 timesteps per second, render_fps 50
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 gymnasium==1.4.0
cat > "$folder/look.py" <<'PY'
import gymnasium

for task, name in (("Pendulum-v1", "dt"), ("CartPole-v1", "tau")):
    env = gymnasium.make(task)
    seconds, said = getattr(env.unwrapped, name), env.metadata["render_fps"]
    print(f"{task}: {1 / seconds:.0f} timesteps per second, render_fps {said}")
PY
seen=$("$folder/venv/bin/python" -W ignore "$folder/look.py")
echo "$seen"
[ "$seen" = "Pendulum-v1: 20 timesteps per second, render_fps 30
CartPole-v1: 50 timesteps per second, render_fps 50" ]
