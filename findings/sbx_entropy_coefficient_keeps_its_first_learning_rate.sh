#!/usr/bin/env bash
# sbx-rl 0.28.0: the learning rate of SAC's entropy coefficient does not follow the schedule.
#
# learning_rate may be a function of what is left of the training. SB3 sets it before each update in
# all three optimizers. SBX sets it in those of actor and critic; the one of the entropy coefficient
# is made with the rate at the start and keeps it. With a linear decay to zero the coefficient goes
# on at full speed to the last timestep.
#
# Seen on Pendulum, with a rate that is 0 in the second half of 400 timesteps: how far the logarithm
# of the coefficient moves in that half.
#
# Output:
#   at learning rate 0, log_ent_coef moves: stable_baselines3 by 0, sbx by more than 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sbx-rl==0.28.0 stable-baselines3==2.9.2 torch==2.13.0 \
    gymnasium==1.4.0 numpy==2.4.6 jax==0.10.2 flax==0.12.8 optax==0.2.8 \
    tfp-nightly==0.26.0.dev20261027
cat > "$folder/look.py" <<'PY'
import jax
import numpy as np
import sbx
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback

torch.set_num_threads(1)


def log_ent_coef(model):
    """Logarithm of the entropy coefficient, a float."""
    if hasattr(model, "ent_coef_state"):
        return float(np.ravel(jax.tree.leaves(model.ent_coef_state.params)[0])[0])
    return model.log_ent_coef.item()


class AtHalf(BaseCallback):
    """Keeps the coefficient at timestep 210, when the rate has been 0 for some updates."""

    def _on_step(self):
        if self.num_timesteps == 210:
            self.at_half = log_ent_coef(self.model)
        return True


moves = []
for library in (stable_baselines3, sbx):
    model = library.SAC(
        "MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs={"net_arch": [32, 32]},
        learning_rate=lambda left: 1e-2 if left > 0.5 else 0.0,
    )
    half = AtHalf()
    model.learn(400, callback=half)
    move = abs(log_ent_coef(model) - half.at_half)
    size = "0" if move == 0 else "more than 1" if move > 1 else move
    moves.append(f"{library.__name__} by {size}")
print("at learning rate 0, log_ent_coef moves:", ", ".join(moves))
PY
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "at learning rate 0, log_ent_coef moves: stable_baselines3 by 0, sbx by more than 1" ]
