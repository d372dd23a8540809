"""What the guard around a task costs a timestep: python benchmarks/guard.py"""

from __future__ import annotations

import timeit
from typing import Any

import gymnasium
import numpy as np

from gallop.environments.guard import Guard

N = 100_000


class Null(gymnasium.Env[Any, Any]):
    """HalfCheetah's shapes, and no physics."""

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), dtype)
        self.action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)
        self.observation = np.ones(17, dtype)
        self.info: dict[str, Any] = {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation, -1.0, False, False, self.info


for dtype in (np.float32, np.float64):
    env, action = Null(dtype), np.zeros(6, np.float32)
    guard = Guard(env, "Null-v0", training=True)
    seconds = [
        min(timeit.repeat(lambda e=e, a=action: e.step(a), number=N, repeat=5)) / N
        for e in (env, guard)
    ]
    print(f"{dtype.__name__}: {(seconds[1] - seconds[0]) * 1e9:,.0f} ns a timestep")
