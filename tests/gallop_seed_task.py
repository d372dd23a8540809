"""Tasks whose `reset(seed=…)` does not decide everything: `kind` says what it leaves open."""

from __future__ import annotations

import os

import gymnasium
import numpy as np

BOX = gymnasium.spaces.Box(-1, 1, (3,), np.float32)


class Seeds(gymnasium.Env):
    """Random observations; the reward is the action."""

    observation_space, action_space = BOX, gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, kind="whole", seed=None):
        self._kind, self._goal = kind, np.random.default_rng(seed).uniform(-1, 1)
        self._stream = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._stream = np.random.default_rng(seed)
        elif self._kind == "fresh":  # as panda-gym does
            self._stream = np.random.default_rng()
        return self._observation(), {}

    def step(self, action):
        reward = float(action[0])
        if self._kind == "rewards":
            reward += self._goal
        return self._observation(), reward, False, False, {}

    def _observation(self):
        drawn = self._stream.uniform(-1, 1, 3)
        if self._kind == "goal":  # as metaworld: chosen when the environment is made
            drawn[0] = self._goal
        elif self._kind == "process":
            drawn[0] = os.getpid() % 1000 / 1000
        elif self._kind == "outside":
            drawn[1] = 7.5
        return drawn if self._kind == "float64" else drawn.astype(np.float32)


class NoRange(Seeds):
    """Its second action can only be 0."""

    action_space = gymnasium.spaces.Box(
        np.array([-1, 0], np.float32), np.array([1, 0], np.float32), dtype=np.float32
    )


gymnasium.register("Seeds-v0", Seeds, max_episode_steps=20)
gymnasium.register("NoRange-v0", NoRange, max_episode_steps=20)
