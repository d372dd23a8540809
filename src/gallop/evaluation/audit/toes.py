"""Toe use: which end of the foot carries the load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gallop.evaluation.audit.anatomy import Anatomy, Foot
from gallop.evaluation.audit.contact import floor_forces
from gallop.evaluation.audit.trajectory import Trajectory

LEAST_LENGTH = 0.02
"""Of a foot with two ends, in m."""


class Toes(NamedTuple):
    """Of one episode."""

    toe_share: Mapping[str, float]
    """Share of each foot's normal impulse on its front half; feet without a length are left out."""
    centre: Mapping[str, float]
    """Where the impulse acts on average: 0 at the heel, 1 at the toe."""


def toes(trajectory: Trajectory, anatomy: Anatomy) -> Toes:
    """Measure on which end the feet stand."""
    floor = floor_forces(trajectory)
    share, centre = {}, {}
    for foot in anatomy.feet:
        rows = floor.body == foot.body
        if not rows.any() or _length(foot) < LEAST_LENGTH:
            continue
        axis = (foot.toe - foot.heel) / _length(foot) ** 2
        along = np.clip((floor.point[rows] - foot.heel) @ axis, 0, 1)
        weights = floor.normal[rows]
        share[foot.name] = float(weights[along > 0.5].sum() / weights.sum())
        centre[foot.name] = float(np.average(along, weights=weights))
    return Toes(share, centre)


def _length(foot: Foot) -> float:
    return float(np.linalg.norm(foot.toe - foot.heel))
