"""Energy: what moving costs, and whether the simulator creates any."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.trajectory import Trajectory


class Energy(NamedTuple):
    """Of one episode."""

    power: float
    """Mean mechanical power of the actuators, braking counted as work, in W."""
    transport: float | None
    """Cost of transport: work over weight and distance; None if the robot goes nowhere."""
    work: float
    """Net work of the actuators, in J."""
    residual: float
    """Energy that no force accounts for, in J: the change of the robot's energy less the work of
    actuators, dampers and springs, contacts and joint limits. Positive: created by the simulator.
    """
    residual_share: float
    """Its size over the work of all forces."""


def energy(trajectory: Trajectory, anatomy: Anatomy) -> Energy:
    """Measure power and the balance of energy."""
    dt, powers = trajectory.dt, trajectory.actuator_power
    distance = float(
        abs(trajectory.qpos[-1, anatomy.forward] - trajectory.qpos[0, anatomy.forward])
    )
    work = float(np.abs(powers).sum()) * dt
    steps = slice(0, -1)  # energies are known before each step
    given = (powers[steps].sum() + trajectory.other_power[steps].sum()) * dt
    gained = float(trajectory.energy[-1] - trajectory.energy[0]) if trajectory.n else 0.0
    moved = (np.abs(powers).sum() + np.abs(trajectory.other_power).sum()) * dt
    return Energy(
        power=work / (trajectory.n * dt) if trajectory.n else 0.0,
        transport=work / (anatomy.weight * distance) if distance > anatomy.height else None,
        work=float(powers.sum()) * dt,
        residual=gained - float(given),
        residual_share=abs(gained - float(given)) / float(moved) if moved > 0 else 0.0,
    )
