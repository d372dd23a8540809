"""A trajectory: what MuJoCo computed at every physics step of an episode.

recorder.py makes it; the measures and the figures read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


class Contacts(NamedTuple):
    """Contacts with a force, of all physics steps, one row per contact and body that it pushes."""

    step: Integers
    """Index of the physics step, shape [k]."""
    body: Integers
    """The body that is pushed, shape [k]."""
    geom: Integers
    """Its geom, shape [k]."""
    other: Integers
    """The body that pushes it; 0: the world, such as the floor. Shape [k]."""
    force: Floats
    """On the body, in world axes, in N, shape [k, 3]: the average over the step."""
    normal: Floats
    """Part of the force along the contact's normal, in N, shape [k]."""
    point: Floats
    """Where, in the body's axes and relative to its origin, in m, shape [k, 3]."""
    velocity: Floats
    """Of the body's point along the contact's surface, in m/s, shape [k]."""
    depth: Floats
    """Penetration in m, negative within a contact margin, shape [k]."""
    rise: Floats
    """Height of the body's first joint above the point, in m, shape [k]; NaN if it is not known."""


class Trajectory(NamedTuple):
    """An episode of n physics steps, of a model with nq positions, nv velocities, nu actuators."""

    dt: float
    """Seconds per physics step."""
    n_per_timestep: int
    """Physics steps per timestep."""
    qpos: Floats
    """State before each step and after the last one, shape [n + 1, nq]."""
    qvel: Floats
    """Shape [n + 1, nv]."""
    ctrl: Floats
    """Controls, shape [n, nu]."""
    actuator_power: Floats
    """Mechanical power of each actuator during each step, in W, shape [n, nu]."""
    other_power: Floats
    """Power of dampers, and of contacts and joint limits, in W, shape [n, 2]."""
    energy: Floats
    """Kinetic and potential energy, springs included, before each step, in J, shape [n]."""
    contacts: Contacts
    warnings: Integers
    """Number of MuJoCo's warnings of each kind, at the end of the episode."""
    mocap: Floats | None = None
    """Position and quaternion of each mocap body, shape [n + 1, m, 7]; None if there is none."""

    @property
    def n(self) -> int:
        """Number of physics steps."""
        return len(self.ctrl)

    @property
    def times(self) -> Floats:
        """Seconds since the start before each step and after the last one, shape [n + 1]."""
        times: Floats = np.arange(self.n + 1, dtype=np.float64) * self.dt
        return times


def as_arrays(trajectory: Trajectory) -> dict[str, NDArray[Any]]:
    """The arrays of trajectory.npz: about 1 MB for 5,000 physics steps.

    Positions and velocities keep their bits: they are the states of the episode. What is only
    measured is in single precision.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in trajectory._asdict().items():
        if name != "contacts" and value is not None:
            arrays[name] = np.asarray(value)
    for name in ("ctrl", "actuator_power", "other_power"):
        arrays[name] = arrays[name].astype(np.float32)
    for name, value in trajectory.contacts._asdict().items():
        is_real = value.dtype == np.float64
        arrays[f"contact_{name}"] = value.astype(np.float32 if is_real else np.int32)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Trajectory:
    """Read the arrays of trajectory.npz.

    Raises:
        KeyError, ValueError: if they are not those of a trajectory.
    """
    contacts = Contacts(*(_widened(arrays[f"contact_{name}"]) for name in Contacts._fields))
    named = [name for name in Trajectory._fields if name not in ("contacts", "mocap")]
    values: dict[str, Any] = {name: _widened(arrays[name]) for name in named}
    per_timestep = int(values["n_per_timestep"])
    values |= {"dt": float(values["dt"]), "n_per_timestep": per_timestep}
    trajectory = Trajectory(contacts=contacts, mocap=arrays.get("mocap"), **values)
    n = trajectory.n
    if len(trajectory.qpos) != n + 1 or len(trajectory.qvel) != n + 1 or per_timestep < 1:
        raise ValueError("its arrays have different lengths")
    return trajectory


def _widened(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64) if values.dtype == np.float32 else values
