"""A trajectory: what MuJoCo computed at every physics step of an episode.

`recording` reads it while an environment is stepped, whatever its class, without changing a bit of
the episode. What a step leaves in MuJoCo's `data` does not belong to one instant:

- With semi-implicit Euler and the implicit integrators, contacts, their forces and the positions of
  bodies are those of the state *before* the step, and the forces are the ones that acted.
- With RK4, they are of the last of four trial states inside the step. So the recorder takes the
  four stages again on a copy, and adds up their forces with RK4's weights: an average over the step
  whose product with the time step is the impulse that acted.

Source of the stages: mj_RungeKutta in MuJoCo's engine_forward.c (classic RK4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

RK4_WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
RK4_SHIFTS = (0.5, 0.5, 1.0)  # of the time step, by the derivatives of the stage before


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
    """Mechanical power of each actuator before each step, in W, shape [n, nu]."""
    other_power: Floats
    """Power of dampers and springs, and of contacts and joint limits, in W, shape [n, 2]."""
    energy: Floats
    """Kinetic plus potential energy before each step, in J, shape [n]."""
    contacts: Contacts
    warnings: Integers
    """Number of MuJoCo's warnings of each kind, at the end of the episode."""

    @property
    def n(self) -> int:
        """Number of physics steps."""
        return len(self.ctrl)

    @property
    def times(self) -> Floats:
        """Seconds since the start before each step and after the last one, shape [n + 1]."""
        times: Floats = np.arange(self.n + 1) * self.dt
        return times


class Recorder:
    """Collects a trajectory while `recording` is active."""

    def __init__(self, model: Any, data: Any) -> None:
        """
        Args:
            model: the `mujoco.MjModel` of the environment.
            data: its `mujoco.MjData`.
        """
        import mujoco

        self.model, self.data = model, data
        self._is_rk4 = int(model.opt.integrator) == int(mujoco.mjtIntegrator.mjINT_RK4)
        self._trial: Any = mujoco.MjData(model) if self._is_rk4 else None
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded: the next step begins an episode."""
        self._states: list[tuple[Floats, Floats]] = []
        self._steps: list[tuple[Floats, Floats, float, float, float]] = []
        self._contacts: list[tuple[Any, ...]] = []
        self._n_per_timestep = 1

    def step(self, mj_step: Any, nstep: int) -> None:
        """Take physics steps one by one, and record each."""
        self._n_per_timestep = max(self._n_per_timestep, nstep)
        for _ in range(nstep):
            data = self.data
            self._states.append((data.qpos.copy(), data.qvel.copy()))
            if self._is_rk4:
                self._before_rk4()
                mj_step(self.model, data)
            else:
                velocity = data.qvel.copy()
                mj_step(self.model, data)
                self._read(data, velocity)

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        data, model = self.data, self.model
        states = [*self._states, (data.qpos.copy(), data.qvel.copy())]
        steps = self._steps
        return Trajectory(
            dt=float(model.opt.timestep),
            n_per_timestep=self._n_per_timestep,
            qpos=np.array([qpos for qpos, _ in states]),
            qvel=np.array([qvel for _, qvel in states]),
            ctrl=np.array([step[0] for step in steps]).reshape(len(steps), model.nu),
            actuator_power=np.array([step[1] for step in steps]).reshape(len(steps), model.nu),
            other_power=np.array([step[2:4] for step in steps]).reshape(len(steps), 2),
            energy=np.array([step[4] for step in steps]),
            contacts=_as_contacts(self._contacts),
            warnings=data.warning.number.astype(np.int32),
        )

    def _before_rk4(self) -> None:
        """Take the four stages of the next step on a copy, and record their weighted sum."""
        import mujoco

        model, trial = self.model, self._trial
        mujoco.mj_copyData(trial, model, self.data)
        dt = float(model.opt.timestep)
        qpos, qvel = self.data.qpos.copy(), self.data.qvel.copy()
        parts = []
        for stage, weight in enumerate(RK4_WEIGHTS):
            mujoco.mj_forward(model, trial)
            parts.append(self._measured(trial, trial.qvel.copy(), weight))
            if stage < len(RK4_SHIFTS):
                shift = RK4_SHIFTS[stage] * dt
                speed, acceleration = trial.qvel.copy(), trial.qacc.copy()
                moved = qpos.copy()
                mujoco.mj_integratePos(model, moved, speed, shift)
                trial.qpos[:], trial.qvel[:] = moved, qvel + shift * acceleration
        ctrl, *_, energy = parts[0]
        powers = [sum(w * part[i] for w, part in zip(RK4_WEIGHTS, parts, strict=True))
                  for i in (1, 2, 3)]  # fmt: skip
        self._steps.append((ctrl, *powers, energy))

    def _read(self, data: Any, velocity: Floats) -> None:
        """Record what acted in the step that has just been taken."""
        self._steps.append(self._measured(data, velocity, 1.0))

    def _measured(self, data: Any, qvel: Floats, weight: float) -> Any:
        """Read forces and powers; record the contacts with this share of their forces.

        Args:
            data: in which positions, contacts and forces are of one state.
            qvel: the velocities of that state.
            weight: of this state in the step.
        """
        import mujoco

        model, force = self.model, np.empty(6)
        for index in range(data.ncon):
            mujoco.mj_contactForce(model, data, index, force)
            if force[0] > 0:
                self._note(data, data.contact[index], force, weight)
        momentum = np.empty(model.nv)
        mujoco.mj_mulM(model, data, momentum, qvel)
        potential = -float(model.body_mass @ (data.xipos @ model.opt.gravity))
        return (
            data.ctrl.copy(),
            data.actuator_force * data.actuator_velocity,
            float(data.qfrc_passive @ qvel),
            float(data.qfrc_constraint @ qvel),
            0.5 * float(momentum @ qvel) + potential,
        )

    def _note(self, data: Any, contact: Any, force: Floats, weight: float) -> None:
        """Record one contact, once for each body that it pushes."""
        model, step = self.model, len(self._steps)
        axes = np.reshape(contact.frame, (3, 3))
        push = weight * (force[:3] @ axes)  # on the second geom; MuJoCo's normal points to it
        geoms = [int(geom) for geom in contact.geom]
        bodies = [int(model.geom_bodyid[geom]) for geom in geoms]
        speeds = [_velocity(model, data, body, contact.pos) for body in bodies]
        between = speeds[1] - speeds[0]
        slip = float(np.linalg.norm(between - (between @ axes[0]) * axes[0]))
        for mine, sign in ((0, -1.0), (1, 1.0)):
            body = bodies[mine]
            if model.body_weldid[body] == 0:
                continue  # a part of the world
            rotation = data.xmat[body].reshape(3, 3)
            point = (contact.pos - data.xpos[body]) @ rotation
            row = (step, body, geoms[mine], bodies[1 - mine], sign * push, weight * force[0])
            self._contacts.append((*row, point, slip, -contact.dist))


def _velocity(model: Any, data: Any, body: int, point: Floats) -> Floats:
    """Velocity of a point of a body, in world axes."""
    spin, speed = data.cvel[body, :3], data.cvel[body, 3:]
    centre = data.subtree_com[model.body_rootid[body]]
    velocity: Floats = speed + np.cross(spin, point - centre)
    return velocity


def _as_contacts(rows: list[tuple[Any, ...]]) -> Contacts:
    columns = list(zip(*rows, strict=True)) or [()] * len(Contacts._fields)
    kinds = (np.int32,) * 4 + (np.float64,) * 5
    shapes = ((-1,),) * 4 + ((-1, 3), (-1,), (-1, 3), (-1,), (-1,))
    arrays = [
        np.array(column, dtype=kind).reshape(shape)
        for column, kind, shape in zip(columns, kinds, shapes, strict=True)
    ]
    return Contacts(*arrays)


@contextlib.contextmanager
def recording(env: Any) -> Iterator[Recorder]:
    """Within the block, record each physics step of a MuJoCo environment.

    Every environment takes its steps through `mujoco.mj_step`, whatever its class. So that function
    is replaced meanwhile, for this environment's data alone; the steps have the same bits.

    Args:
        env: an environment whose `unwrapped` has MuJoCo's `model` and `data`.
    """
    import mujoco

    simulator = env.unwrapped
    recorder = Recorder(simulator.model, simulator.data)
    mj_step = mujoco.mj_step

    def step(model: Any, data: Any, nstep: int = 1) -> None:
        if data is simulator.data:
            recorder.step(mj_step, nstep)
        else:
            mj_step(model, data, nstep)

    mujoco.mj_step = step
    try:
        yield recorder
    finally:
        mujoco.mj_step = mj_step
