"""Tasks with every kind of action space, which refuse actions outside of it."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

ACTIONS = {
    "discrete": spaces.Discrete(3),
    "start": spaces.Discrete(3, start=-1),
    "one": spaces.Discrete(1, start=5),
    "multi": spaces.MultiDiscrete([2, 3]),
    "multi start": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "multi 2d": spaces.MultiDiscrete([[2, 3], [2, 2]]),
    "binary": spaces.MultiBinary(3),
    "binary 2d": spaces.MultiBinary((2, 2)),
    "scalar": spaces.Box(-1, 1, ()),
    "bool": spaces.Box(0, 1, (2,), np.bool_),
    "uint8": spaces.Box(0, 255, (2,), np.uint8),
    "int64": spaces.Box(np.array([-3, 0]), np.array([2, 1]), dtype=np.int64),
    "int32, whole": spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32),
    "int64, whole": spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64),
    "float16": spaces.Box(-1, 1, (2,), np.float16),
    "float64": spaces.Box(np.array([-0.1, 0.3]), np.array([0.3, 0.7]), dtype=np.float64),
    "asymmetric": spaces.Box(np.float32([-0.1, 0.3, -7.3]), np.float32([0.3, 0.7, 0.1])),
    "frozen": spaces.Box(np.float32([-1, 0.5]), np.float32([1, 0.5])),
    "all frozen": spaces.Box(np.float32([2, 0.5]), np.float32([2, 0.5])),
    "2d": spaces.Box(-1, 1, (2, 2)),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,)),
    "half bounded": spaces.Box(0, np.inf, (2,)),
    "widest": spaces.Box(-3.4e38, 3.4e38, (2,)),
    "empty": spaces.Box(-1, 1, (0,)),
    "dict": spaces.Dict({"a": spaces.Discrete(2)}),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))),
}
TAKEN: dict[str, list[object]] = {name: [] for name in ACTIONS}


class Acts(gymnasium.Env):
    """Observations depend on actions, so that returns distinguish policies."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, kind):
        self.kind, self.action_space = kind, ACTIONS[kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        if isinstance(self.action_space, spaces.Box):
            assert action.dtype == self.action_space.dtype and isinstance(action, np.ndarray)
        TAKEN[self.kind].append(action)
        pushed = 0.0 if isinstance(action, dict) else np.clip(float(np.sum(action)), -1e6, 1e6)
        self.x = (0.9 * self.x + 0.01 * np.float32(pushed)).astype(np.float32)
        return self.x.copy(), float(self.x.sum()), False, False, {}


gymnasium.register("Acts-v0", entry_point=Acts, max_episode_steps=30)
