#!/usr/bin/env bash
# mujoco 3.15.0, gymnasium 1.4.0: HalfCheetah-v5's integrator creates momentum.
#
# At each physics step the floor's force is exactly the one that the equation of motion needs (to
# 1e-8 N of up to thousands). Added up, these forces and gravity still do not give the change of the
# body's momentum: semi-implicit Euler holds the inertia fixed during a step, while the legs swing
# it. The error is of first order: at a tenth of HalfCheetah's 0.01 s it is much smaller. So an
# audit of impulses balances step by step, in the inertia of that step, and not over an episode.
#
# Output:
#   0.010 s: each step balances, error over 3 s more than a tenth of the largest change
#   0.001 s: each step balances, error over 3 s less than a thirtieth of the largest change
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mujoco==3.15.0 gymnasium==1.4.0 numpy==2.4.6 \
  imageio==2.37.4 packaging==26.2
cd "$folder"
cat > look.py <<'PY'
import gymnasium
import mujoco
import numpy as np


def momentum(model, data, qpos, qvel):
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return model.body_subtreemass[1] * data.subtree_linvel[1][[0, 2]]


def look(timestep):
    env = gymnasium.make("HalfCheetah-v5").unwrapped
    model, data, other = env.model, env.data, mujoco.MjData(env.model)
    model.opt.timestep = timestep
    env.reset(seed=1)
    env.action_space.seed(0)
    inertia, force = np.zeros((model.nv, model.nv)), np.empty(6)
    start = momentum(model, other, data.qpos, data.qvel)
    impulse, worst, error, largest = np.zeros(2), 0.0, 0.0, 0.0
    for _ in range(60):
        data.ctrl[:] = env.action_space.sample()
        for _ in range(round(0.05 / timestep)):
            qpos, qvel = data.qpos.copy(), data.qvel.copy()
            mujoco.mj_step(model, data)
            floor = np.zeros(3)
            for number in range(data.ncon):
                contact = data.contact[number]
                if 0 in model.geom_bodyid[contact.geom]:
                    mujoco.mj_contactForce(model, data, number, force)
                    sign = 1 if model.geom_bodyid[contact.geom[0]] == 0 else -1
                    floor += sign * force[:3] @ contact.frame.reshape(3, 3)
            other.qpos[:], other.qvel[:] = qpos, qvel
            mujoco.mj_forward(model, other)
            mujoco.mj_fullM(model, other, inertia)
            needed = (inertia @ (data.qvel - qvel))[:2] / timestep + other.qfrc_bias[:2]
            worst = max(worst, np.abs(needed - floor[[0, 2]]).max())
            weight = model.body_subtreemass[1] * model.opt.gravity[[0, 2]]
            impulse += (floor[[0, 2]] + weight) * timestep
            change = momentum(model, other, data.qpos, data.qvel) - start
            error = max(error, np.abs(change - impulse).max())
            largest = max(largest, np.abs(change).max())
    return worst < 1e-8, error / largest


for timestep in (0.01, 0.001):
    balances, share = look(timestep)
    size = "more than a tenth" if share > 0.1 else "less than a thirtieth" if share < 1 / 30 else share
    steps = "each step balances" if balances else "steps do not balance"
    print(f"{timestep:.3f} s: {steps}, error over 3 s {size} of the largest change")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "0.010 s: each step balances, error over 3 s more than a tenth of the largest change
0.001 s: each step balances, error over 3 s less than a thirtieth of the largest change" ]
