"""Energy: what moving costs, and whether the simulator creates any."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory
from gallop.evaluation.audit.travel import way

Floats = NDArray[np.float64]


class Energy(NamedTuple):
    """Of one episode."""

    power: float
    """Mean mechanical power of the actuators, braking counted as work, in W."""
    transport: float | None
    """Cost of transport: work over weight and way; None if the robot goes less than its height."""
    work: float
    """Net work of the actuators, in J."""
    residual: float
    """Energy that no force accounts for, in J: the change of the robot's energy less the work of
    actuators, dampers and springs, contacts and joint limits. Positive: created by the simulator.
    """
    residual_share: float
    """Its size over the work of the actuators, braking counted."""


def energy(trajectory: Trajectory, anatomy: Anatomy) -> Energy:
    """Measure power and the balance of energy."""
    dt, powers = trajectory.dt, trajectory.actuator_power
    travelled = way(trajectory, anatomy)
    work = float(np.abs(powers).sum()) * dt
    residual = float(created(trajectory).sum())
    return Energy(
        power=work / (trajectory.n * dt) if trajectory.n else 0.0,
        transport=work / (anatomy.weight * travelled) if travelled > anatomy.height else None,
        work=float(powers.sum()) * dt,
        residual=residual,
        residual_share=abs(residual) / work if work > 0 else 0.0,
    )


def created(trajectory: Trajectory) -> Floats:
    """Energy that no force accounts for during each physics step, in J, shape [n].

    That of the last step is not known, as energies are those before a step: 0.
    """
    powers = trajectory.actuator_power.sum(axis=1) + trajectory.other_power.sum(axis=1)
    found = np.zeros(trajectory.n)
    found[:-1] = np.diff(trajectory.energy) - powers[:-1] * trajectory.dt
    return found
