"""A custom task with images whose channel comes last: `gallop_image_task:Image-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)


class Image(gymnasium.Env):
    """The action 1 is right where the image is bright."""

    action_space = spaces.Discrete(2)

    def __init__(self, in_dict: bool = False) -> None:
        self.in_dict = in_dict
        self.observation_space = spaces.Dict({"image": IMAGE}) if in_dict else IMAGE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        right = int(action) == int(self._image.mean() > 127)
        return self._seen(), float(right), False, False, {}

    def _seen(self):
        brightest = self.np_random.integers(60, 256)
        self._image = self.np_random.integers(0, brightest, IMAGE.shape).astype(np.uint8)
        return {"image": self._image} if self.in_dict else self._image


if "Image-v0" not in gymnasium.registry:
    gymnasium.register("Image-v0", Image, max_episode_steps=20)
