"""The random generator of the bootstrap intervals in reports."""

from __future__ import annotations

import numpy as np


def interval_generator() -> np.random.Generator:
    """Return a generator with a fixed seed, so that equal returns have equal intervals.

    >>> bool(interval_generator().integers(100) == interval_generator().integers(100))
    True
    """
    return np.random.default_rng(0)
