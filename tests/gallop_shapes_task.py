"""A task with spaces of any size, to compare learners on sizes that no real task has."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Shapes(gymnasium.Env):
    """Random observations and rewards, independent of the actions."""

    def __init__(self, n_observations=3, n_actions=2, discrete=False, render_mode=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (n_observations,), np.float32)
        self.action_space = (
            spaces.Discrete(n_actions) if discrete else spaces.Box(-1.0, 1.0, (n_actions,))
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        return self._observation(), float(self.np_random.normal()), False, False, {}

    def _observation(self):
        return self.np_random.normal(size=self.observation_space.shape).astype(np.float32)


gymnasium.register("Shapes-v0", Shapes, max_episode_steps=50)
