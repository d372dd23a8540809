"""A task that renders frames in every form that real tasks use."""

from __future__ import annotations

import gymnasium as gym
import numpy as np


class Drawn(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None, kind="plain", fps=25):
        self.render_mode, self.kind, self.t = render_mode, kind, 0
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        if fps == "missing":
            del self.metadata["render_fps"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), float(action[0]), False, False, {}

    def render(self):
        """A bright column on black that moves to the right."""
        height, width = {"odd": (77, 101), "tiny": (1, 1), "two": (2, 2)}.get(self.kind, (64, 80))
        if self.kind == "big":
            height, width = 2160, 3840
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, (self.t * 3) % width] = 255, 120, 0
        forms = {
            "grey": lambda: picture[..., 0],
            "grey_last": lambda: picture[..., :1],
            "rgba": lambda: np.concatenate([picture, picture[..., :1]], -1),
            "float": lambda: picture / 255.0,
            "float255": lambda: picture.astype(float),
            "bool": lambda: picture[..., 0] > 0,
            "list": lambda: [picture * 0, picture],
            "nested": lambda: picture.tolist(),
            "chw": lambda: picture.transpose(2, 0, 1),
            "grows": lambda: np.full((64 + self.t, 64, 3), 200, np.uint8),
            "still": lambda: np.full_like(picture, 128),
            "black": lambda: picture * 0,
            "none": lambda: None,
            "text": lambda: "a robot",
            "empty": lambda: picture[:0],
            "flat": lambda: picture[0, :, 0],
        }
        if self.kind == "raises":
            raise RuntimeError("no screen\nat all")
        return forms.get(self.kind, lambda: picture)()


gym.register("Drawn-v0", entry_point=Drawn, max_episode_steps=30)
