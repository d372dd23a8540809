#!/usr/bin/env bash
# gymnasium 1.4.0: NormalizeReward carries the return of an episode over into the next one, and its
# vector version does so or not depending on the autoreset mode.
#
# The wrapper scales rewards by the standard deviation of a running discounted return. A time limit
# does not reset that return. With episodes of 10 timesteps of reward 1 it grows to 95 over the
# episodes, although it should never exceed 9.6, so rewards become 9 times too small. The vector
# version resets it in SAME_STEP, but not in NEXT_STEP, which is the default. Stable-Baselines3's
# VecNormalize always resets it, so settings do not transfer.
#
# Output:
#   last reward: single 0.04, NEXT_STEP 0.04, SAME_STEP 0.37
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
cat > look.py <<'PY'
import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeReward, TimeLimit
from gymnasium.wrappers.vector import NormalizeReward as VectorNormalizeReward


class One(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


def make():
    return TimeLimit(One(), 10)


def single():
    task = NormalizeReward(make())
    for _ in range(30):
        task.reset()
        truncated = False
        while not truncated:
            _, reward, _, truncated, _ = task.step(np.zeros(1, np.float32))
    return reward


def vector(mode):
    task = VectorNormalizeReward(SyncVectorEnv([make], autoreset_mode=mode))
    task.reset()
    episodes = 0
    while episodes < 30:
        _, reward, _, truncated, _ = task.step(np.zeros((1, 1), np.float32))
        episodes += truncated[0]
    return reward[0]


print(
    f"last reward: single {single():.2f}, NEXT_STEP {vector(AutoresetMode.NEXT_STEP):.2f}, "
    f"SAME_STEP {vector(AutoresetMode.SAME_STEP):.2f}"
)
PY
seen=$("$folder/venv/bin/python" look.py)
echo "$seen"
[ "$seen" = "last reward: single 0.04, NEXT_STEP 0.04, SAME_STEP 0.37" ]
