#!/usr/bin/env bash
# tianshou 2.0.1: SAC and TD3 made with one critic have two that never differ.
#
# critic2 may be left out, and is then a deep copy of the first critic, weights included. Both are
# trained on the same batches towards the same target, so they stay equal to the bit, and the
# minimum of the two, which SAC and TD3 take against overestimation, is just the one. A second
# critic that is made like the first but passed as critic2 differs from it, as intended. Nothing
# warns.
#
# Output:
#   SAC: critics equal after 500 updates: True; with critic2 of its own: False
#   TD3: critics equal after 500 updates: True; with critic2 of its own: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tianshou==2.0.1 torch==2.13.0 gymnasium==1.4.0 \
    numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import gymnasium
import numpy as np
import torch
from tianshou.algorithm import SAC, TD3
from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
from tianshou.algorithm.modelfree.sac import SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import (
    ContinuousActorDeterministic,
    ContinuousActorProbabilistic,
    ContinuousCritic,
)

torch.set_num_threads(1)
adam = AdamOptimizerFactory(lr=1e-3)
space = gymnasium.make("Pendulum-v1").action_space


def net(concat):
    return Net(state_shape=3, action_shape=1, hidden_sizes=[32, 32], concat=concat)


def critic():
    return ContinuousCritic(preprocess_net=net(concat=True))


def sac(critic2):
    actor = ContinuousActorProbabilistic(
        preprocess_net=net(concat=False), action_shape=1, unbounded=True, conditioned_sigma=True
    )
    policy = SACPolicy(actor=actor, action_space=space)
    return SAC(
        policy=policy, policy_optim=adam, critic=critic(), critic_optim=adam, critic2=critic2
    )


def td3(critic2):
    actor = ContinuousActorDeterministic(preprocess_net=net(concat=False), action_shape=1)
    policy = ContinuousDeterministicPolicy(actor=actor, action_space=space)
    return TD3(
        policy=policy, policy_optim=adam, critic=critic(), critic_optim=adam, critic2=critic2
    )


def are_equal(algorithm):
    """Whether both critics have the same weights after 500 updates on Pendulum."""
    tasks = DummyVectorEnv([lambda: gymnasium.make("Pendulum-v1")])
    collector = Collector(algorithm, tasks, VectorReplayBuffer(10_000, 1))
    collector.reset()
    collector.collect(n_step=500, random=True)
    algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector, test_collector=None, max_epochs=1, epoch_num_steps=500,
            collection_step_num_env_steps=1, batch_size=64, show_progress=False, verbose=False,
        )
    )
    pairs = zip(algorithm.critic.parameters(), algorithm.critic2.parameters(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


for name, make in (("SAC", sac), ("TD3", td3)):
    torch.manual_seed(0)
    np.random.seed(0)
    print(
        f"{name}: critics equal after 500 updates: {are_equal(make(None))}; "
        f"with critic2 of its own: {are_equal(make(critic()))}"
    )
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -2)
echo "$seen"
[ "$seen" = "SAC: critics equal after 500 updates: True; with critic2 of its own: False
TD3: critics equal after 500 updates: True; with critic2 of its own: False" ]
