"""The guard around a task: which observations and actions it accepts, without a warning."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from gallop.environments.guard import LARGEST, Guard, _is_finite
from gallop.errors import TaskError

FLOATS = (np.float16, np.float32, np.float64, np.longdouble)
BAD = (np.inf, -np.inf, np.nan, 1e200, -1e200)


def of(dtype, value, shape):
    """Ones, and the value in the last place; infinity if it overflows the type."""
    array = np.ones(shape, dtype)
    with np.errstate(over="ignore"):
        array[(-1,) * len(shape)] = np.array(value).astype(dtype)
    return array


@pytest.mark.parametrize("shape", [(1,), (17,), (3, 4, 2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_non_finite_values_are_found_without_a_warning(dtype, shape):
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        assert not any(_is_finite(of(dtype, value, shape)) for value in BAD)
        assert _is_finite(np.ones(shape, dtype))
        assert _is_finite(of(dtype, 1e30, shape)) == (dtype is not np.float16)
        assert _is_finite(of(dtype, LARGEST, shape)) == (dtype is not np.float16)


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_empty_array_is_finite(dtype):
    assert _is_finite(np.ones(0, dtype))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (np.full(2, np.nan, np.float32), "returned NaN in an observation"),
        (np.array([1e200, 0]), "overflows float32"),
        (np.zeros(3, np.float32), r"shape \(3,\)"),
        (np.array(["a", "b"]), "as the observation"),
    ],
)
def test_a_part_of_a_dictionary_is_checked_as_an_array_is(part, words):
    space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (4, 4, 3), np.uint8), "x": spaces.Box(-9, 9, (2,))}
    )

    class Sees(gymnasium.Env):
        observation_space = space
        action_space = spaces.Box(-1, 1, (1,))
        x = np.zeros(2, np.float32)

        def step(self, action):
            return {"camera": self.camera, "x": self.x, "more": None}, 0.0, False, False, {}

    task = Sees()
    task.camera = np.zeros((4, 4, 3), np.uint8)
    guard = Guard(task, "Sees-v0")
    seen = guard.step(np.zeros(1))[0]
    assert seen["camera"] is task.camera and seen["x"] is task.x and len(seen) == 2
    task.x = part
    with pytest.raises(TaskError, match=words):
        guard.step(np.zeros(1))
