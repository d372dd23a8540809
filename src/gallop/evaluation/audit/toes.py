"""Toe use: which end of the foot carries the load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy, Foot
from gallop.evaluation.audit.contact import floor_forces
from gallop.evaluation.audit.trajectory import Contacts, Trajectory

Floats = NDArray[np.float64]

LEAST_LENGTH = 0.03
"""Of a foot with two ends, as a share of the robot's height; a person's is 0.15. The ends of a foot
that does not lie flat are one: see `Foot`."""


class Toes(NamedTuple):
    """Of one episode."""

    toe_share: Mapping[str, float]
    """Share of each foot's normal impulse on its front half; feet without a length are left out."""
    centre: Mapping[str, float]
    """Where the impulse acts on average: 0 at the heel, 1 at the toe."""
    steepness: Mapping[str, float]
    """Of feet that stand on their tips: angle in degrees, on average of the impulse, between the
    floor and the line from the foot's joint to where it is pushed. 90: the joint is above."""


def toes(trajectory: Trajectory, anatomy: Anatomy) -> Toes:
    """Measure on which end the feet stand."""
    floor = floor_forces(trajectory)
    share, centre = {}, {}
    for foot in _long_feet(anatomy):
        rows = floor.body == foot.body
        weights = floor.normal[rows]
        if not weights.sum() > 0:
            continue
        along = _along(floor.point[rows], foot)
        share[foot.name] = float(weights[along > 0.5].sum() / weights.sum())
        centre[foot.name] = float(np.average(along, weights=weights))
    return Toes(share, centre, {
        foot.name: angle for foot in anatomy.feet if (angle := _steepness(floor, foot)) is not None
    })  # fmt: skip


def _steepness(floor: Contacts, foot: Foot) -> float | None:
    if foot.joint is None or not np.array_equal(foot.heel, foot.toe):
        return None
    rows = (floor.body == foot.body) & (floor.normal > 0) & np.isfinite(floor.rise)
    lengths = np.linalg.norm(floor.point[rows] - foot.joint, axis=1)
    if not rows.any() or lengths.min() < 1e-6:
        return None
    angles = np.degrees(np.arcsin(np.clip(floor.rise[rows] / lengths, -1, 1)))
    return float(np.average(angles, weights=floor.normal[rows]))


def on_toe(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Share of the load of all feet on their front halves at each physics step, shape [n]."""
    floor = floor_forces(trajectory)
    toe, all_ = np.zeros(trajectory.n), np.zeros(trajectory.n)
    for foot in _long_feet(anatomy):
        rows = floor.body == foot.body
        weights = floor.normal[rows]
        is_toe = _along(floor.point[rows], foot) > 0.5
        toe += np.bincount(floor.step[rows], weights * is_toe, trajectory.n)
        all_ += np.bincount(floor.step[rows], weights, trajectory.n)
    shares: Floats = toe / np.where(all_ > 0, all_, 1.0)
    return shares


def _long_feet(anatomy: Anatomy) -> list[Foot]:
    return [foot for foot in anatomy.feet if _length(foot) >= LEAST_LENGTH * anatomy.height]


def _along(points: Floats, foot: Foot) -> Floats:
    """Where points in the foot's axes lie: 0 at the heel, 1 at the toe; shape [k]."""
    axis = (foot.toe - foot.heel) / _length(foot) ** 2
    return np.clip((points - foot.heel) @ axis, 0, 1)


def _length(foot: Foot) -> float:
    return float(np.linalg.norm(foot.toe - foot.heel))
