"""Actuation: how hard and how abruptly the actuators are driven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory

Floats = NDArray[np.float64]

SATURATED = 0.99
"""Share of an actuator's range, from which it is driven to its limit."""
OFTEN = 0.1
"""Share of time that an actuator spends at each of its limits to count as going back and forth."""
AT_LIMIT = 0.02
"""Share of a joint's range, within which it is at its limit."""


class Actuation(NamedTuple):
    """Of one episode."""

    saturated: float
    """Share of controls at a limit of their range."""
    change: float
    """Mean change of a control from one timestep to the next, as a share of its range."""
    reversals: float
    """Share of timesteps in which a saturated control goes to the opposite limit."""
    both_limits: float
    """Share of actuators that are often at the one limit and often at the other."""
    frequency: float | None
    """Frequency with the most power in the controls, in Hz; None if they do not change."""
    at_limits: Mapping[str, float]
    """Share of time at a limit of each joint that ever is."""


def actuation(trajectory: Trajectory, anatomy: Anatomy) -> Actuation:
    """Measure how the actuators are driven."""
    controls = trajectory.ctrl[:: trajectory.n_per_timestep]
    scaled = scaled_controls(trajectory, anatomy)
    at_limit = np.abs(scaled) >= SATURATED
    change = np.abs(np.diff(scaled, axis=0))
    reversed_ = at_limit[1:] & at_limit[:-1] & (np.sign(scaled[1:]) != np.sign(scaled[:-1]))
    at_each = [(scaled <= -SATURATED).mean(axis=0), (scaled >= SATURATED).mean(axis=0)]
    period = trajectory.dt * trajectory.n_per_timestep
    return Actuation(
        saturated=float(at_limit.mean()) if at_limit.size else 0.0,
        change=float(change.mean()) / 2 if change.size else 0.0,
        reversals=float(reversed_.mean()) if reversed_.size else 0.0,
        both_limits=float((np.min(at_each, axis=0) >= OFTEN).mean()) if scaled.size else 0.0,
        frequency=dominant_frequency(controls, period),
        at_limits=_at_limits(trajectory, anatomy),
    )


def scaled_controls(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Controls of each timestep from -1 to 1, shape [timesteps, actuators with a range]."""
    low, high = anatomy.control_low, anatomy.control_high
    limited = np.isfinite(low) & np.isfinite(high) & (high > low)
    middle, half = (high[limited] + low[limited]) / 2, (high[limited] - low[limited]) / 2
    scaled: Floats = (trajectory.ctrl[:: trajectory.n_per_timestep, limited] - middle) / half
    return scaled


def dominant_frequency(controls: Floats, period: float) -> float | None:
    """Find the frequency with the most power, over all controls.

    Args:
        controls: shape [n, nu].
        period: seconds between two rows.
    """
    if len(controls) < 4:
        return None
    centred = controls - controls.mean(axis=0)
    power = (np.abs(np.fft.rfft(centred * np.hanning(len(controls))[:, None], axis=0)) ** 2).sum(1)
    if power[1:].max(initial=0.0) < 1e-12:
        return None
    return float(np.fft.rfftfreq(len(controls), period)[1:][np.argmax(power[1:])])


def _at_limits(trajectory: Trajectory, anatomy: Anatomy) -> dict[str, float]:
    positions = trajectory.qpos[:-1, anatomy.limited]
    margin = AT_LIMIT * (anatomy.joint_high - anatomy.joint_low)
    inside = (positions > anatomy.joint_low + margin) & (positions < anatomy.joint_high - margin)
    shares = 1 - inside.mean(axis=0) if len(inside) else np.zeros(len(anatomy.joint_names))
    return {
        name: float(share)
        for name, share in zip(anatomy.joint_names, shares, strict=True)
        if share > 0
    }
