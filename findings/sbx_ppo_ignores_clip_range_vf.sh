#!/usr/bin/env bash
# sbx-rl 0.28.0: PPO takes clip_range_vf and does nothing with it; vf_coef has no effect either.
#
# SBX has the signature of SB3's PPO, and nothing warns. clip_range_vf is stored and never read: the
# weights after two updates are the same bits with and without it. vf_coef scales the loss of a
# critic with its own Adam and its own clipping of the gradient, and where the gradient is clipped,
# as here, or Adam divides by its size, the factor cancels: the weights differ by rounding. With SB3
# both change the weights.
#
# A search over these two finds only noise, and tuned values from SB3 do not carry over.
#
# Output:
#   sbx: clip_range_vf changes weights by 0, vf_coef by less than 1e-06
#   stable_baselines3: clip_range_vf changes weights by more than 1e-04, vf_coef by more than 1e-04
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

torch.set_num_threads(1)


def weights(library, **settings):
    """All weights of actor and critic after two rollouts of Pendulum with five updates each."""
    model = library.PPO(
        "MlpPolicy", "Pendulum-v1", n_steps=64, n_epochs=5, seed=0, device="cpu", **settings
    ).learn(128)
    if library is sbx:
        params = model.policy.actor_state.params, model.policy.vf_state.params
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    return torch.cat([tensor.detach().flatten() for tensor in model.policy.parameters()]).numpy()


def size(change):
    """0, or a bound that the largest change keeps from."""
    largest = np.abs(change).max()
    if largest == 0:
        return "0"
    return "less than 1e-06" if largest < 1e-6 else "more than 1e-04" if largest > 1e-4 else largest


for library in (sbx, stable_baselines3):
    as_is = weights(library)
    clipped = size(weights(library, clip_range_vf=0.01) - as_is)
    scaled = size(weights(library, vf_coef=5.0) - as_is)
    print(f"{library.__name__}: clip_range_vf changes weights by {clipped}, vf_coef by {scaled}")
PY
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -2)
echo "$seen"
[ "$seen" = "sbx: clip_range_vf changes weights by 0, vf_coef by less than 1e-06
stable_baselines3: clip_range_vf changes weights by more than 1e-04, vf_coef by more than 1e-04" ]
