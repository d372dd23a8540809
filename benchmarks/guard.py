"""Measure the cost per timestep of the guard around a task: python benchmarks/guard.py"""

from __future__ import annotations

import timeit
from typing import Any

import gymnasium
import numpy as np

from gallop.environments.guard import Guard

N = 20_000


class Null(gymnasium.Env[Any, Any]):
    """HalfCheetah's shapes without physics."""

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.observation_space: Any = gymnasium.spaces.Box(-np.inf, np.inf, (17,), dtype)
        self.action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)
        self.observation: Any = np.ones(17, dtype)
        self.info: dict[str, Any] = {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation, -1.0, False, False, self.info


class Image(Null):
    """A dictionary of a camera's image and joint angles."""

    def __init__(self) -> None:
        super().__init__(np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "camera": gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8),
                "joints": gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32),
            }
        )
        self.observation = {
            "camera": np.ones((64, 64, 3), np.uint8),
            "joints": np.ones(17, np.float32),
        }


def main() -> None:
    tasks = {"float32": Null(np.float32), "float64": Null(np.float64), "dictionary": Image()}
    for name, env in tasks.items():
        action = np.zeros(6, np.float32)
        guard = Guard(env, "Null-v0", training=True)
        seconds = [
            min(timeit.repeat(lambda e=e, a=action: e.step(a), number=N, repeat=5)) / N
            for e in (env, guard)
        ]
        print(f"{name}: {(seconds[1] - seconds[0]) * 1e9:,.0f} ns per timestep")


if __name__ == "__main__":
    main()
