#!/usr/bin/env bash
# stable-baselines3 2.9.2: a coordinate of the action space with equal bounds (a joint that is held
# fixed) makes TD3 train on NaN to the end, without an error.
#
# Off-policy algorithms scale actions to [-1, 1] by dividing by the width of the bounds, which is 0
# here. The task receives NaN instead of the only allowed value, the replay buffer stores it, and
# the first update spreads it through both networks. SB3's check_env accepts the task. PPO, which
# clips actions, trains.
#
# Output:
#   TD3: task got nan where 0.5 is the only action, learnt policy [nan, nan]; PPO: task got 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 gymnasium==1.4.0 \
  stable-baselines3==2.9.2
cd "$folder"
cat > look.py <<'PY'
import gymnasium
import numpy as np
from stable_baselines3 import PPO, TD3
from stable_baselines3.common.env_checker import check_env


class Task(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(np.float32([-1, 0.5]), np.float32([1, 0.5]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.got = action[1]
        return np.zeros(2, np.float32), 0.0, False, False, {}


check_env(Task())
task = Task()
model = TD3("MlpPolicy", task, policy_kwargs={"net_arch": [8]}, learning_starts=10, batch_size=8)
model.learn(10)
got = task.got
model.learn(10, reset_num_timesteps=False)
assert all(parameter.isnan().any() for parameter in model.critic.parameters())
policy = model.predict(np.zeros(2, np.float32))[0].tolist()
other = Task()
PPO("MlpPolicy", other, n_steps=16, batch_size=16).learn(16)
print(
    f"TD3: task got {got} where 0.5 is the only action, learnt policy {policy}; "
    f"PPO: task got {other.got}"
)
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "TD3: task got nan where 0.5 is the only action, learnt policy [nan, nan]; PPO: task got 0.5" ]
