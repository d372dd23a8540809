"""Travel: how far and how fast a robot goes, whatever its heading."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory

Floats = NDArray[np.float64]

WINDOW = 1.0
"""Seconds over which speed is averaged: more than a stride, so that rocking to and fro is none."""


def place(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Position on the ground: x of a planar robot, x and y of a free one, shape [n + 1, 1 or 2]."""
    size = 1 if anatomy.rotation is None else 2
    return trajectory.qpos[:, anatomy.forward : anatomy.forward + size]


def speeds(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Speed over the ground during each physics step, in m/s, shape [n].

    It is the straight way during the window around the step over the window's time; a window ends
    where the episode does.
    """
    where, n = place(trajectory, anatomy), trajectory.n
    half = max(1, round(WINDOW / trajectory.dt / 2))
    start = np.maximum(np.arange(n) - half, 0)
    end = np.minimum(np.arange(n) + half, n)
    ways: Floats = np.linalg.norm(where[end] - where[start], axis=1)
    return ways / ((end - start) * trajectory.dt)


def way(trajectory: Trajectory, anatomy: Anatomy) -> float:
    """Length of the way on the ground in m; what the body rocks to and fro does not count."""
    return float(speeds(trajectory, anatomy).sum()) * trajectory.dt
