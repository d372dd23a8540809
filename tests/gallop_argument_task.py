"""A task that records its arguments, and terminates when x leaves `limits`."""

from __future__ import annotations

from typing import ClassVar

import gymnasium
import numpy as np

GIVEN = []


class Range(gymnasium.Env):
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, limits=(-1.0, 1.0), weights=None, start=None, render_mode=None):
        GIVEN.append({"limits": list(limits), "weights": weights, "start": start})
        if isinstance(limits, list):
            limits.reverse()  # a task may modify its arguments
            limits.reverse()
        self.limits, self.render_mode = limits, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.zeros(1, np.float32)
        return self.x.copy(), {}

    def step(self, action):
        self.x += 0.1 * float(action[0])
        low, high = self.limits
        outside = bool(self.x[0] < low or self.x[0] > high)
        return self.x.copy(), 1.0, outside, False, {}

    def render(self):
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[:, int(self.np_random.integers(64)) :] = 200
        return frame


class Changes(Range):
    """A wrapper that modifies the list that it is given."""

    def __init__(self, limits, **others):
        super().__init__(list(limits), **others)
        limits.append("changed")


gymnasium.register("Range-v0", entry_point=Range, max_episode_steps=40)
gymnasium.register("Changes-v0", entry_point=Changes, max_episode_steps=40)
