"""Where the bootstrap intervals of every report draw from."""

from __future__ import annotations

import numpy as np


def interval_generator() -> np.random.Generator:
    """A fresh generator: the same returns always have the same interval.

    >>> bool(interval_generator().integers(100) == interval_generator().integers(100))
    True
    """
    return np.random.default_rng(0)
