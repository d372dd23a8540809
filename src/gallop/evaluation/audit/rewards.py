"""Reward: what it pays for, and whether the robot gets where the reward says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory
from gallop.evaluation.audit.travel import speeds, way

STANDING = 0.1
"""Below this share of its height per second, a robot stands still; for a person: 0.18 m/s."""


class Rewards(NamedTuple):
    """Of one episode."""

    terms: Mapping[str, float]
    """Name of each term -> its sum over the episode."""
    shares: Mapping[str, float]
    """Each term's size over the sum of all sizes."""
    distance: float
    """Of the torso along the world's x axis, in m."""
    way: float
    """Length of the way over the ground in m, whatever the heading."""
    speed: float
    """That way over the time, in m/s."""
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
    distance = anatomy.forward_sign * float(along[-1] - along[0])
    travelled = way(trajectory, anatomy)
    return Rewards(
        terms=dict(terms),
        shares={name: abs(value) / size for name, value in terms.items()} if size > 0 else {},
        distance=distance,
        way=travelled,
        speed=travelled / seconds if seconds else 0.0,
        standing=float(standing(trajectory, anatomy).mean()) if trajectory.n else 0.0,
    )


def standing(trajectory: Trajectory, anatomy: Anatomy) -> NDArray[np.bool_]:
    """Whether the robot stands still during each physics step, shape [n]."""
    return np.asarray(speeds(trajectory, anatomy) < STANDING * anatomy.height)
