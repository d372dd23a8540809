"""Reward: what it pays for, and whether the robot gets where the reward says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory

Floats = NDArray[np.float64]

STANDING = 0.1
"""Below this share of its height per second, a robot stands still."""
SPEED_WINDOW = 0.25
"""Seconds over which speed is averaged."""


class Rewards(NamedTuple):
    """Of one episode."""

    terms: Mapping[str, float]
    """Name of each term -> its sum over the episode."""
    shares: Mapping[str, float]
    """Each term's size over the sum of all sizes."""
    distance: float
    """Of the torso along the world's x axis, in m."""
    speed: float
    """That distance over the time, in m/s."""
    standing: float
    """Share of time in which the robot stands still."""


def rewards(trajectory: Trajectory, anatomy: Anatomy, terms: Mapping[str, float]) -> Rewards:
    """Measure what was rewarded.

    Args:
        trajectory: of the episode.
        anatomy: the robot's parts.
        terms: sums of the reward's terms over the episode.
    """
    along = trajectory.qpos[:, anatomy.forward]
    seconds = trajectory.n * trajectory.dt
    size = sum(abs(value) for value in terms.values())
    distance = float(along[-1] - along[0])
    window = min(trajectory.n, max(1, round(SPEED_WINDOW / trajectory.dt)))
    speeds = np.abs(along[window:] - along[:-window]) / (window * trajectory.dt)
    return Rewards(
        terms=dict(terms),
        shares={name: abs(value) / size for name, value in terms.items()} if size > 0 else {},
        distance=distance,
        speed=distance / seconds if seconds else 0.0,
        standing=float(np.mean(speeds < STANDING * anatomy.height)) if trajectory.n else 0.0,
    )
