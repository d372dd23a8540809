"""Posture: how a body turns. Positive pitch means that its front is down."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory

Floats = NDArray[np.float64]

TURN = 2 * np.pi


class Posture(NamedTuple):
    """Of one episode."""

    upside_down: float
    """Share of time beyond ±90 degrees, in a somersault or not."""
    net_turns: float
    """Turns from the first to the last state, forward ones positive."""
    somersaults: tuple[tuple[float, float], ...]
    """Start and end, in seconds, of each full turn; forward and backward ones alike."""
    largest_pitch: float
    """Largest pitch away from the start's, in degrees, forward or backward."""


def pitch(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Unwrapped pitch in radians, relative to the initial pose of the model, shape [n + 1].

    A planar robot's is the angle of its hinge. That of a free body is its tilt, whatever its
    heading, with the number of full turns from the turning rate about its own lateral axis: rolling
    over sideways is no turn, and neither is walking in circles.
    """
    if anatomy.pitch is not None:
        return anatomy.pitch_sign * trajectory.qpos[:, anatomy.pitch]
    if anatomy.rotation is None or anatomy.spin is None:
        return np.zeros(trajectory.n + 1)
    spins = trajectory.qvel[:, anatomy.spin : anatomy.spin + 3]
    rate = spins @ _lateral(anatomy)
    turned = np.concatenate([[0.0], np.cumsum(rate[1:]) * trajectory.dt])
    tilt = _tilt_forward(_turned(trajectory, anatomy, anatomy.rotation))
    upright = np.flatnonzero(uprightness(trajectory, anatomy) > np.cos(np.pi / 4))
    known = np.concatenate([[0], upright])  # the tilt is exact there, and the rate in between
    between = np.diff(turned[known]) - np.diff(tilt[known])
    turns = np.concatenate([[0.0], np.cumsum(np.round(between / TURN))])
    last = np.searchsorted(upright, np.arange(len(tilt)), side="right")
    angles: Floats = tilt[known][last] + TURN * turns[last] + turned - turned[known][last]
    return angles


def uprightness(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Cosine of the angle between the body's upward axis and the vertical, shape [n + 1]."""
    if anatomy.rotation is None:
        return np.cos(pitch(trajectory, anatomy))
    _, x, y, _ = _turned(trajectory, anatomy, anatomy.rotation).T
    upward: Floats = 1 - 2 * (x**2 + y**2)
    return upward


def posture(trajectory: Trajectory, anatomy: Anatomy) -> Posture:
    """Measure how the body turns."""
    angles = pitch(trajectory, anatomy)
    times = trajectory.times
    return Posture(
        upside_down=float(np.mean(uprightness(trajectory, anatomy) < 0)),
        net_turns=float((angles[-1] - angles[0]) / TURN),
        somersaults=tuple((float(times[i]), float(times[j])) for i, j in full_turns(angles)),
        largest_pitch=float(np.degrees(np.abs(angles - angles[0]).max())),
    )


def full_turns(angles: Floats) -> list[tuple[int, int]]:
    """Find the full turns of an unwrapped angle: for each, the last index before it and its end.

    A turn is complete when the angle has passed upright on the far side, that is a multiple of a
    full turn, with 45 degrees to spare; rocking to and fro counts for nothing.
    """
    found, level, start = [], 0, 0
    for index, angle in enumerate(angles):
        if abs(angle - level * TURN) < np.pi / 4:
            start = index
        new = round(angle / TURN)
        if new != level and abs(angle - new * TURN) < np.pi / 4:
            found.append((start, index))
            level, start = new, index
    return found


def _turned(trajectory: Trajectory, anatomy: Anatomy, rotation: int) -> Floats:
    """Quaternions from the upright torso to that at each step, shape [n + 1, 4]."""
    w, x, y, z = trajectory.qpos[:, rotation : rotation + 4].T
    a, b, c, d = anatomy.upright[0], *(-part for part in anatomy.upright[1:])
    return np.stack(
        [
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ],
        axis=1,
    )


def _lateral(anatomy: Anatomy) -> Floats:
    """The lateral axis, that is y of the upright torso, in the torso's own axes, shape [3]."""
    w, x, y, z = anatomy.upright
    return np.array([2 * (x * y + w * z), 1 - 2 * (x**2 + z**2), 2 * (y * z - w * x)])


def _tilt_forward(quaternions: Floats) -> Floats:
    """Pitch of orientations, from -pi to pi."""
    w, x, y, z = quaternions.T
    forward_z = 2 * (x * z - w * y)  # of the body's x axis
    up_z = 1 - 2 * (x**2 + y**2)
    pitch: Floats = np.arctan2(-forward_z, up_z)
    return pitch
