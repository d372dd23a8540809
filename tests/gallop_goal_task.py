"""A custom task with goals: move a point to a place, `gallop_goal_task:Place-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

NEAR = 0.1


class Place(gymnasium.Env):
    def __init__(self) -> None:
        point = spaces.Box(-2, 2, (2,))
        self.observation_space = spaces.Dict(
            {"observation": point, "achieved_goal": point, "desired_goal": point}
        )
        self.action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._point = np.zeros(2, np.float32)
        self._goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._seen(), {}

    def step(self, action):
        self._point = np.clip(self._point + 0.2 * np.asarray(action, np.float32), -2, 2)
        reward = self.compute_reward(self._point, self._goal, {})
        return self._seen(), float(reward), False, False, {"is_success": reward > -NEAR}

    def compute_reward(self, achieved_goal, desired_goal, info):
        """The distance, negative; one number per row."""
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1).astype(np.float32)

    def _seen(self):
        return {
            "observation": self._point,
            "achieved_goal": self._point,
            "desired_goal": self._goal,
        }


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


if "Place-v0" not in gymnasium.registry:
    gymnasium.register("Place-v0", Place, max_episode_steps=50)
