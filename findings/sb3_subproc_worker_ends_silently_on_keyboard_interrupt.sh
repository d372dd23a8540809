#!/usr/bin/env bash
# stable-baselines3 2.9.2: when a task raises KeyboardInterrupt inside a SubprocVecEnv worker (as an
# environment does whose viewer or keyboard listener turns Ctrl-C or a closed window into one), the
# worker prints nothing and ends with exit code 0.
#
# The worker's loop catches KeyboardInterrupt as it catches the end of its pipe. The training process
# gets an EOFError without any text, so neither the task nor the reason can be found from it. With a
# DummyVecEnv the same task ends the training with its KeyboardInterrupt and a traceback.
#
# Seen: "EOFError '' | exit codes [0, None] | printed: nothing" (None: the other worker still runs)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 stable-baselines3==2.9.2 gymnasium==1.3.0
cd "$folder"
cat > look.py <<'PY'
import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv


class Viewed(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, closes):
        self.closes = closes

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.closes:
            raise KeyboardInterrupt("the viewer's window was closed")
        return np.zeros(1, np.float32), 0.0, False, False, {}


if __name__ == "__main__":
    venv = SubprocVecEnv([lambda: Viewed(True), lambda: Viewed(False)], start_method="fork")
    venv.reset()
    try:
        venv.step(np.zeros((2, 1)))
    except EOFError as error:
        venv.processes[0].join()
        codes = [process.exitcode for process in venv.processes]
        print(f"{type(error).__name__} {str(error)!r} | exit codes {codes}", flush=True)
    venv.processes[1].terminate()
PY
seen=$("$folder/venv/bin/python" -W ignore look.py 2> errors)
seen="$seen | printed: $([ -s errors ] && head -c 200 errors || echo nothing)"
echo "$seen"
[ "$seen" = "EOFError '' | exit codes [0, None] | printed: nothing" ]
