"""How the zips here were written: Stable-Baselines3 1.1.0, its contrib 1.1.0 and gym 0.26.2.

    python make.py FOLDER       (in an environment that holds those; 1.6.2 and 1.8.0 were tried too)

Untrained networks for three observations; expected.npz has what SB3 itself does with them.
"""

import pathlib
import sys

import gym
import numpy as np
from gym import spaces
from sb3_contrib import TQC
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

HIGH = np.array([1, 1, 8], np.float32)
TORQUE = spaces.Box(-2.0, 2.0, (1,), np.float32)
APART = {"pi": [4], "vf": [3]}
KINDS = {
    "sac": (SAC, TORQUE, {"net_arch": [4]}, {}),
    "sac_elu": (SAC, TORQUE, {"net_arch": {"pi": [5], "qf": [4]}, "activation_fn": nn.ELU}, {}),
    "sac_sde": (SAC, TORQUE, {"net_arch": [4]}, {"use_sde": True}),
    "td3": (TD3, TORQUE, {"net_arch": [4, 3], "activation_fn": nn.Tanh}, {}),
    "tqc": (TQC, TORQUE, {"net_arch": [4], "n_quantiles": 5}, {}),
    "dqn": (DQN, spaces.Discrete(2), {"net_arch": [4]}, {}),
    "a2c": (A2C, TORQUE, {"net_arch": [4]}, {}),
    "ppo": (PPO, TORQUE, {"net_arch": [APART], "activation_fn": nn.ReLU}, {}),
    "ppo_shared": (PPO, TORQUE, {"net_arch": [5, APART]}, {}),
    "ppo_sde": (PPO, TORQUE, {"net_arch": [APART], "log_std_init": -2}, {"use_sde": True}),
    "ppo_discrete": (PPO, spaces.Discrete(2), {"net_arch": [4]}, {}),
}


class Task(gym.Env):
    """A task of which only the spaces matter."""

    def __init__(self, action_space):
        self.observation_space = spaces.Box(-HIGH, HIGH)
        self.action_space = action_space

    def seed(self, seed=None):
        self.action_space.seed(seed)

    def reset(self):
        return self.observation_space.sample()

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, {}


def environment(action_space):
    return DummyVecEnv([lambda: Task(action_space)])


out = pathlib.Path(sys.argv[1])
out.mkdir(exist_ok=True)
uniform = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
expected = {"observations": uniform * HIGH}
for name, (algorithm, actions, networks, more) in KINDS.items():
    if algorithm in (SAC, TD3, TQC, DQN):
        more = {**more, "buffer_size": 10}
    model = algorithm(
        "MlpPolicy", environment(actions), policy_kwargs=networks, seed=3, device="cpu", **more
    )
    model.save(out / f"{name}.zip")
    expected[name] = model.predict(expected["observations"], deterministic=True)[0]
normalized = VecNormalize(environment(TORQUE), clip_obs=5.0)
normalized.obs_rms.update(np.random.default_rng(1).normal(2.0, 3.0, (50, 3)))
normalized.save(str(out / "vecnormalize.pkl"))
expected["normalized"] = normalized.normalize_obs(expected["observations"])
np.savez(out / "expected.npz", **expected)
