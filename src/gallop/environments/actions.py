"""Conversion of a policy's actions to those that a task takes, where the two differ.

The policies of SB3 and of Gallop support only Discrete spaces that start at 0, only flat
MultiDiscrete and MultiBinary spaces, and only floats in Box spaces. A task with any other action
space is wrapped, always and everywhere: in training, evaluation and films. Its policy files contain
the action space of this wrapper, and plain SB3 returns such actions, too. To use them elsewhere,
convert them with the expression that `task_action_in_python` returns.

Importing this module imports Gymnasium; make.py does so when it makes an environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from gallop.environments.spaces import Action, Env, Observation, Space

Array: TypeAlias = NDArray[Any]
MOST = 2.0**62  # limit of integer actions, positive and negative
# Half the range of an action, for a policy that begins at 0 ± 1.
SMALL_RANGE, LARGE_RANGE = 0.2, 5.0
Convert: TypeAlias = Callable[[Action], Action]


class PolicyActions(gymnasium.ActionWrapper[Observation, Action, Action]):
    """An environment that takes actions as policies return them.

    Its `action_space` is the one that policies see.
    """

    def __init__(self, env: Env, action_space: Space, convert: Convert) -> None:
        super().__init__(env)
        self.action_space = action_space
        self._convert = convert

    def action(self, action: Action) -> Action:
        """Convert a policy's action to the task's."""
        return self._convert(action)


def for_policies(env: Env) -> Env:
    """Wrap the environment if policies do not support its action space; else return it."""
    found = _conversion(env.action_space)
    return env if found is None else PolicyActions(env, *found)


def task_action_in_python(env: Env) -> str:
    """Return a Python expression for the task's action, for use in programs without Gallop.

    In the expression, `action` is the policy's action, `env` the task and `np` NumPy. It is empty
    if the task takes the policy's actions as they are.
    """
    while not isinstance(env, PolicyActions):
        if env is env.unwrapped or not isinstance(env, gymnasium.Wrapper):
            return ""
        env = env.env
    space = env.env.action_space
    if isinstance(space, spaces.Discrete):
        return "int(action) + int(env.action_space.start)"
    if isinstance(space, spaces.MultiDiscrete):
        return "np.reshape(action, env.action_space.shape) + env.action_space.start"
    shaped = "np.reshape(action, env.action_space.shape)"
    if isinstance(space, spaces.MultiBinary):
        return f"{shaped}.astype(np.int8)"
    if np.dtype(space.dtype).kind in "iub":
        shaped = f"np.rint({shaped})"
    bounds = "env.action_space.low, env.action_space.high"
    return f"np.asarray(np.clip({shaped}, {bounds}), env.action_space.dtype)"


def far_from_one(space: Space) -> str:
    """Why a policy whose actions begin near 0, give or take 1, starts badly in this space.

    Empty if it does not. That is how PPO's Gaussian policy begins, whatever the bounds are.
    """
    if not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind != "f":
        return ""
    low, high = space.low.reshape(-1).astype(float), space.high.reshape(-1).astype(float)
    half, middle = (high - low) / 2, (high + low) / 2
    odd = np.flatnonzero((np.abs(middle) > half / 2) | (half > LARGE_RANGE) | (half < SMALL_RANGE))
    if not odd.size:
        return ""
    index = int(odd[0])
    others = f"{odd.size} actions have unusual bounds, as " if odd.size > 1 else ""
    return f"{others}action {index} goes from {low[index]:.3g} to {high[index]:.3g}"


def _conversion(space: Space) -> tuple[Space, Convert] | None:
    """Return the action space that policies see, and the conversion to the task's actions.

    None: no conversion is needed.
    """
    if isinstance(space, spaces.Discrete):
        n, start = int(space.n), int(space.start)
        return (spaces.Discrete(n), lambda a: np.int64(a) + start) if start else None
    if isinstance(space, spaces.MultiDiscrete):
        shape, first = space.nvec.shape, np.broadcast_to(space.start, space.nvec.shape)
        if len(shape) == 1 and not first.any():
            return None
        flat = spaces.MultiDiscrete(space.nvec.reshape(-1))
        return flat, lambda a: (np.reshape(a, shape) + first).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):  # policies return floats
        size, shape = int(np.prod(space.shape)), space.shape
        return spaces.MultiBinary(size), lambda a: np.reshape(a, shape).astype(np.int8)
    if isinstance(space, spaces.Box):
        return _of_box(space)
    return None


def _of_box(space: spaces.Box[Any]) -> tuple[Space, Convert] | None:
    low: Array = space.low
    high: Array = space.high
    dtype = np.dtype(space.dtype)
    is_exact = dtype in (np.float32, np.float64)
    if is_exact and space.shape and _rounds_well(low, high):
        return None
    shape = space.shape or (1,)
    kind: Any = dtype if is_exact else np.float32
    # float64 represents every integer up to 2⁵³ exactly, but not the largest ones of int64.
    wide = np.float64 if dtype.kind in "iub" else kind
    first, last = (bound.astype(wide) for bound in (low, high))
    if dtype.kind in "iub":
        first, last = np.clip(first, -MOST, MOST), np.clip(last, -MOST, MOST)

    def convert(action: Action) -> Action:
        values = np.reshape(action, space.shape)
        if dtype.kind in "iub":
            values = np.rint(values.astype(np.float64))
        return np.asarray(np.clip(values, first, last), dtype)

    lowest, highest = (bound.astype(kind).reshape(shape) for bound in (low, high))
    box: Space = spaces.Box(lowest, highest, dtype=kind)
    return box, convert


def _rounds_well(low: Array, high: Array) -> bool:
    """Whether a policy's largest action, scaled to these bounds, is `high` and not the next float
    above it."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
        return bool((~np.isfinite(width) | (low + width <= high)).all())
