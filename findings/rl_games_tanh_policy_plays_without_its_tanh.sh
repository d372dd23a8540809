#!/usr/bin/env bash
# rl-games 1.6.5: a policy trained with model continuous_a2c_tanh is played without the tanh.
#
# In training the model squashes its Gaussian by tanh. The player, whose default is deterministic,
# takes the Gaussian's mean and clips it to [-1, 1]. So a policy whose squashed mean is 0.66 acts
# with 0.80, and one that pushes with 0.76 goes to the limit: what is evaluated, filmed or put on a
# robot is not the policy that was trained. Stochastic play squashes as it should.
#
# Output:
#   mean 0.80: trained to act with 0.66, played with 0.80; stochastic play at 0.66 on average
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rl-games==1.6.5 torch==2.13.0 gymnasium==1.4.0 \
    numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import numpy as np
import torch
from gymnasium.spaces import Box
from rl_games.torch_runner import Runner

MEAN = 0.8
layer = {"name": "default"}
runner = Runner()
runner.load({
    "params": {
        "seed": 0,
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_tanh"},
        "network": {
            "name": "actor_critic",
            "separate": False,
            "space": {
                "continuous": {
                    "mu_activation": "None",
                    "sigma_activation": "None",
                    "mu_init": layer,
                    "sigma_init": {"name": "const_initializer", "val": -20},
                    "fixed_sigma": True,
                }
            },
            "mlp": {"units": [8], "activation": "elu", "initializer": layer},
        },
        "config": {
            "name": "look",
            "env_name": "none",
            "device_name": "cpu",
            "device": "cpu",
            "normalize_input": False,
            "reward_shaper": {},
            "env_info": {
                "observation_space": Box(-1, 1, (3,), np.float32),
                "action_space": Box(-1, 1, (1,), np.float32),
            },
        },
    }
})
player = runner.create_player()
with torch.no_grad():
    player.model.a2c_network.mu.weight.zero_()
    player.model.a2c_network.mu.bias.fill_(MEAN)
observation = torch.zeros(3)
played = player.get_action(observation, is_deterministic=True).item()
sampled = np.mean([player.get_action(observation).item() for _ in range(100)])
print(
    f"mean {MEAN:.2f}: trained to act with {np.tanh(MEAN):.2f}, played with {played:.2f}; "
    f"stochastic play at {sampled:.2f} on average"
)
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "mean 0.80: trained to act with 0.66, played with 0.80; stochastic play at 0.66 on\
 average" ]
