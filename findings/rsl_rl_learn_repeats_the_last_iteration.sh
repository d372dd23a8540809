#!/usr/bin/env bash
# rsl-rl-lib 5.5.1: two calls learn(10) are 20 iterations of training, but count as 19.
#
# The runner keeps the index of the last iteration, not the number of iterations, and the next call
# begins with that index. So iteration 9 is trained and logged twice, and the checkpoint model_9.pt
# is written again, with other weights. The same holds after save and load, as the checkpoint holds
# the index. Checkpoints of a run that was stopped and continued are named one lower at each resume
# than those of a run that was not, at the same amount of training.
#
# Output:
#   learn(10) twice: 20 iterations, logged as 0 to 18, [9] twice; model_9.pt now has other weights
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rsl-rl-lib==5.5.1 torch==2.13.0 tensordict==0.15.3 \
    tensorboard==2.21.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
cat > "$folder/look.py" <<'PY'
import sys

import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

torch.set_num_threads(1)


class Point(VecEnv):
    """A point that is pushed along a line; four of them, in episodes of 20 timesteps."""

    num_envs, num_actions, max_episode_length, device, cfg = 4, 1, 20, "cpu", {}

    def __init__(self):
        self.position = torch.zeros(4, 1)
        self.episode_length_buf = torch.zeros(4, dtype=torch.long)

    def get_observations(self):
        return TensorDict({"policy": self.position.clone()}, batch_size=4)

    def step(self, actions):
        self.position += actions.clamp(-1, 1)
        self.episode_length_buf += 1
        done = self.episode_length_buf >= self.max_episode_length
        self.episode_length_buf[done] = 0
        self.position[done] = 0
        reward = -self.position.abs().squeeze(1)
        return self.get_observations(), reward, done, {"time_outs": done}


network = {"class_name": "MLPModel", "hidden_dims": [8], "activation": "elu"}
actor = network | {"distribution_cfg": {"class_name": "GaussianDistribution"}}
settings = {
    "num_steps_per_env": 5,
    "save_interval": 1,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "actor": actor,
    "critic": network,
    "algorithm": {"class_name": "PPO", "rnd_cfg": None, "symmetry_cfg": None},
}
torch.manual_seed(0)
runner = OnPolicyRunner(Point(), settings, log_dir=sys.argv[1], device="cpu")
logged = []
log = runner.logger.log
runner.logger.log = lambda **now: (logged.append(now["it"]), log(**now))


def weights():
    """Weights of the actor in the checkpoint of iteration 9."""
    state = torch.load(f"{sys.argv[1]}/model_9.pt", weights_only=True)["actor_state_dict"]
    return torch.cat([tensor.flatten() for tensor in state.values()])


runner.learn(10)
first = weights()
runner.learn(10)
twice = [i for i in set(logged) if logged.count(i) == 2]
change = "the same" if torch.equal(first, weights()) else "other"
print(
    f"learn(10) twice: {len(logged)} iterations, logged as {logged[0]} to {logged[-1]}, "
    f"{twice} twice; model_9.pt now has {change} weights"
)
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" "$folder/run" | tail -1)
echo "$seen"
[ "$seen" = "learn(10) twice: 20 iterations, logged as 0 to 18, [9] twice; model_9.pt now has other\
 weights" ]
