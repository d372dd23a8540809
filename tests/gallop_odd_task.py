"""A custom task that no learner can train, in one of many ways: `gallop_odd_task:OddSpaces-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

UNIT = spaces.Box(-1, 1, (2,))
OBSERVATIONS = {
    "tuple": spaces.Tuple([UNIT, UNIT]),
    "text": spaces.Text(8),
    "text in a Dict": spaces.Dict({"a": UNIT, "mission": spaces.Text(8)}),
    "small image in a Dict": spaces.Dict({"image": spaces.Box(0, 255, (8, 8, 3), np.uint8)}),
    "small image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
}
ACTIONS = {
    "no range": spaces.Box(np.float32([0, 2]), np.float32([0, 2])),
    "knees": spaces.Box(-2.818, -0.888, (2,)),
}


class Odd(gymnasium.Env):
    def __init__(self, kind: str) -> None:
        assert kind != "silent"
        self.observation_space = OBSERVATIONS.get(kind, UNIT)
        self.action_space = ACTIONS.get(kind, UNIT)
        self.kind = kind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        reward = np.ones(2) if self.kind == "vector reward" else 1.0
        return self.observation_space.sample(), reward, False, False, {}


if "OddSpaces-v0" not in gymnasium.registry:
    gymnasium.register("OddSpaces-v0", Odd, max_episode_steps=50)
    gymnasium.register("Many-v0", vector_entry_point="gallop_odd_task:Odd")
