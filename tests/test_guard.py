"""The guard around a task: which observations and actions it lets pass, without a warning."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gallop.environments.guard import LARGEST, _is_finite

FLOATS = (np.float16, np.float32, np.float64, np.longdouble)
BAD = (np.inf, -np.inf, np.nan, 1e200, -1e200)


def of(dtype, value, shape):
    """Ones, and the value in the last place; infinity where the type cannot hold it."""
    array = np.ones(shape, dtype)
    with np.errstate(over="ignore"):
        array[(-1,) * len(shape)] = np.array(value).astype(dtype)
    return array


@pytest.mark.parametrize("shape", [(1,), (17,), (3, 4, 2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_finite_is_found_without_a_warning(dtype, shape):
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        assert not any(_is_finite(of(dtype, value, shape)) for value in BAD)
        assert _is_finite(np.ones(shape, dtype))
        assert _is_finite(of(dtype, 1e30, shape)) == (dtype is not np.float16)
        assert _is_finite(of(dtype, LARGEST, shape)) == (dtype is not np.float16)


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_numbers_at_all_are_finite(dtype):
    assert _is_finite(np.ones(0, dtype))
