"""A task that prints lines like the answers of Gallop's child processes."""

from __future__ import annotations

import atexit
import os
from typing import ClassVar

import gymnasium as gym
import numpy as np


class Talking(gym.Env):
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None, fails_at=None):
        self.render_mode, self.fails_at, self.t = render_mode, fails_at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        for line in ("frames per second low", '{"frames": "many"}', '{"reason": "of the task"}'):
            print(line, flush=True)
            os.write(1, f"{line}\n".encode())  # like a C library
        if self.t == self.fails_at:
            atexit.register(print, '{"reason": "goodbye"}')
            raise RuntimeError("the arm is stuck")
        return np.zeros(1, np.float32), 1.0, False, False, {}

    def render(self):
        print('{"reason": "no picture"}', flush=True)
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[:, self.t % 64] = 255
        return frame


gym.register("Talking-v0", entry_point=Talking, max_episode_steps=60)
