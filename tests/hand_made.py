"""Hand-made trajectories of a planar robot with two feet, and real ones driven by scripts."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from gallop.evaluation.audit.anatomy import Anatomy, Foot, anatomy
from gallop.evaluation.audit.recorder import Recorder
from gallop.evaluation.audit.trajectory import Contacts, Trajectory

DT = 0.01
WEIGHT = 100.0
TORSO, SHIN_A, FOOT_A, SHIN_B, FOOT_B = 1, 2, 3, 4, 5

ANATOMY = Anatomy(
    torso=TORSO,
    mass=10.0,
    gravity=10.0,
    height=0.6,
    bodies=("world", "torso", "ashin", "afoot", "bshin", "bfoot"),
    parts={1: "torso", 2: "shin", 3: "foot", 4: "shin", 5: "foot"},
    feet=(
        Foot(FOOT_A, "afoot", np.array([-0.1, 0, 0]), np.array([0.1, 0, 0])),
        Foot(FOOT_B, "bfoot", np.array([-0.1, 0, 0]), np.array([0.1, 0, 0])),
    ),
    pitch=2,
    pitch_sign=1.0,
    rotation=None,
    spin=None,
    forward=0,
    control_low=np.array([-1.0, -1.0]),
    control_high=np.array([1.0, 1.0]),
    limited=np.array([3]),
    joint_low=np.array([-1.0]),
    joint_high=np.array([1.0]),
    joint_names=("knee",),
    actuators=("hip", "knee"),
)


def pushes(rows: list[tuple[int, int, float, float, float]]) -> Contacts:
    """Contacts with the floor: (step, body, normal force, place along the foot, slip)."""
    step, body, normal, place, slip = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 5
    )
    n = len(rows)
    force, point = np.zeros((n, 3)), np.zeros((n, 3))
    force[:, 2], point[:, 0] = normal, place
    return Contacts(
        step.astype(np.int32), body.astype(np.int32), body.astype(np.int32),
        np.zeros(n, np.int32), force, normal.astype(float), point, slip.astype(float), np.zeros(n),
        np.zeros(n),
    )  # fmt: skip


def motion(
    pitch: Any = 0.0,
    x: Any = 0.0,
    rows: list[tuple[int, int, float, float, float]] | None = None,
    controls: Any = 0.0,
    knee: Any = 0.0,
    n: int = 500,
) -> Trajectory:
    """A trajectory of n physics steps; arguments are numbers or arrays of n + 1 (controls: n)."""
    qpos = np.zeros((n + 1, 4))
    qpos[:, 0], qpos[:, 2], qpos[:, 3] = x, pitch, knee
    ctrl = np.zeros((n, 2))
    ctrl[:] = np.reshape(controls, (-1, 1)) if np.ndim(controls) == 1 else controls
    return Trajectory(
        dt=DT,
        n_per_timestep=1,
        qpos=qpos,
        qvel=np.gradient(qpos, DT, axis=0),
        ctrl=ctrl,
        actuator_power=np.zeros((n, 2)),
        other_power=np.zeros((n, 2)),
        energy=np.zeros(n),
        contacts=pushes(rows or []),
        warnings=np.zeros(8, np.int32),
    )


def standing(n: int = 500, place: float = 0.0, slip: float = 0.0) -> list[Any]:
    """Both feet carry half the weight."""
    return [(i, foot, WEIGHT / 2, place, slip) for i in range(n) for foot in (FOOT_A, FOOT_B)]


def trot(n: int = 500, period: int = 40, duty: float = 0.5, shift: float = 0.5) -> list[Any]:
    """Foot A, then foot B half a period later, each for a share of the period."""
    rows = []
    for i in range(n):
        for foot, offset in ((FOOT_A, 0.0), (FOOT_B, shift)):
            if ((i / period) - offset) % 1 < duty:
                rows.append((i, foot, WEIGHT, 0.0, 0.0))
    return rows


BOX = """
<mujoco>
  <option timestep="0.002" integrator="{integrator}"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1" friction="{friction}"/>
    <body name="box" pos="0 0 {height}">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
      <joint type="hinge" axis="0 1 0"/>
      <geom type="box" size="0.1 0.1 0.05" mass="2" friction="{friction}"/>
    </body>
  </worldbody>
</mujoco>
"""


def box(
    integrator: str = "Euler", height: float = 0.05, friction: float = 1.0
) -> tuple[Any, Any, Recorder, Anatomy]:
    """A box that MuJoCo drops or lets slide: model, data, recorder, parts."""
    text = BOX.format(integrator=integrator, height=height, friction=friction)
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    return model, data, Recorder(model, data), anatomy(model)
