"""The recorder: reads MuJoCo at every physics step of an environment, whatever its class.

It does not change a bit of the episode. What a step leaves in MuJoCo's `data` does not belong to
one instant:

- With semi-implicit Euler and the implicit integrators, contacts, their forces and the positions of
  bodies are those of the state *before* the step, and the forces are the ones that acted.
- With RK4, they are of the last of four trial states inside the step. So the recorder reads all
  four: the first between the two halves of the step, the last after it, and those in between from a
  copy that takes them again. The forces add up with RK4's weights to an average over the step,
  whose product with the time step is the impulse that acted.

During an episode arrays are only copied; `_contacts` computes from all of them at once.

Sources: mj_step and mj_RungeKutta in MuJoCo's engine_forward.c (classic RK4), and
mju_decodePyramid in engine_util_misc.c (forces of pyramidal friction cones).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.trajectory import Contacts, Floats, Trajectory

RK4_WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


class _Touch(NamedTuple):
    """Copies of the contacts at one instant, and what is needed to make sense of them."""

    step: int
    weight: float
    """Of this instant in its step."""
    pos: Floats
    frame: Floats
    geom: NDArray[np.int32]
    dist: Floats
    address: NDArray[np.int32]
    """Of the first force of each contact in `forces`; -1 if the contact has none."""
    dim: NDArray[np.int32]
    friction: Floats
    forces: Floats
    xpos: Floats
    xmat: Floats
    cvel: Floats
    centre: Floats


class _Instant(NamedTuple):
    """Copies of the generalised forces at one instant."""

    actuator_force: Floats
    actuator_velocity: Floats
    passive: Floats
    """Without springs, whose work is in the potential energy."""
    constraint: Floats


class Recorder:
    """Collects a trajectory while `recording` is active."""

    def __init__(self, model: Any, data: Any) -> None:
        """
        Args:
            model: the `mujoco.MjModel` of the environment; it is told to compute energies.
            data: its `mujoco.MjData`.
        """
        import mujoco

        self.model, self.data = model, data
        model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_ENERGY)
        self._is_rk4 = int(model.opt.integrator) == int(mujoco.mjtIntegrator.mjINT_RK4)
        self._trial: Any = mujoco.MjData(model) if self._is_rk4 else None
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded: the next step begins an episode."""
        self._qpos: list[Floats] = []
        self._qvel: list[Floats] = []
        self._ctrl: list[Floats] = []
        self._mocap: list[Floats] = []
        self._energy: list[Floats] = []
        self._instants: list[list[_Instant]] = []  # per step: one, or the four of RK4
        self._speeds: list[list[Floats]] = []  # their velocities, for RK4
        self._touches: list[_Touch] = []
        self._n_per_timestep = 1

    def step(self, mj_step: Any, nstep: int) -> None:
        """Take physics steps one by one, and record each."""
        self._n_per_timestep = max(self._n_per_timestep, nstep)
        take = self._rk4_step if self._is_rk4 else self._euler_step
        for _ in range(nstep):
            self._note_state()
            take(mj_step)

    def _note_state(self) -> None:
        data = self.data
        self._qpos.append(data.qpos.copy())
        self._qvel.append(data.qvel.copy())
        if self.model.nmocap:
            self._mocap.append(np.hstack([data.mocap_pos, data.mocap_quat]))

    def _euler_step(self, mj_step: Any) -> None:
        mj_step(self.model, self.data)
        self._ctrl.append(self.data.ctrl.copy())
        self._energy.append(self.data.energy.copy())
        self._instants.append([_instant(self.data)])
        self._look(self.data, 1.0)

    def _rk4_step(self, mj_step: Any) -> None:
        """Take a step in the two halves of mj_step, and read all four stages."""
        import mujoco

        model, data, trial = self.model, self.data, self._trial
        dt = float(model.opt.timestep)
        mujoco.mj_checkPos(model, data)
        mujoco.mj_checkVel(model, data)
        mujoco.mj_forward(model, data)
        mujoco.mj_checkAcc(model, data)
        self._ctrl.append(data.ctrl.copy())
        self._energy.append(data.energy.copy())
        qpos, qvel = data.qpos.copy(), data.qvel.copy()
        instants, speeds, speed, acceleration = [_instant(data)], [qvel], qvel, data.qacc.copy()
        self._look(data, RK4_WEIGHTS[0])
        mujoco.mj_copyData(trial, model, data)
        for stage in (1, 2):
            moved = qpos.copy()
            mujoco.mj_integratePos(model, moved, speed, dt / 2)
            speed = qvel + dt / 2 * acceleration
            trial.qpos[:], trial.qvel[:] = moved, speed
            mujoco.mj_forward(model, trial)
            self._look(trial, RK4_WEIGHTS[stage])
            instants.append(_instant(trial))
            speeds.append(speed)
            acceleration = trial.qacc.copy()
        mujoco.mj_RungeKutta(model, data, 4)
        self._look(data, RK4_WEIGHTS[3])
        self._instants.append([*instants, _instant(data)])
        self._speeds.append([*speeds, qvel + dt * acceleration])

    def _look(self, data: Any, weight: float) -> None:
        """Copy the contacts of an instant, if there are any."""
        if not data.ncon:
            return
        found = data.contact
        self._touches.append(
            _Touch(
                len(self._qpos) - 1,
                weight,
                found.pos.copy(),
                found.frame.copy(),
                found.geom.copy(),
                found.dist.copy(),
                found.efc_address.copy(),
                found.dim.copy(),
                found.friction.copy(),
                data.efc_force.copy(),
                data.xpos.copy(),
                data.xmat.copy(),
                data.cvel.copy(),
                data.subtree_com.copy(),
            )
        )

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        data, model, n = self.data, self.model, len(self._qpos)
        qvel = np.array([*self._qvel, data.qvel.copy()])
        actuator_power, other_power = self._powers(qvel)
        if model.nmocap:
            self._mocap.append(np.hstack([data.mocap_pos, data.mocap_quat]))
        found = Trajectory(
            dt=float(model.opt.timestep),
            n_per_timestep=self._n_per_timestep,
            qpos=np.array([*self._qpos, data.qpos.copy()]),
            qvel=qvel,
            ctrl=np.array(self._ctrl).reshape(n, model.nu),
            actuator_power=actuator_power,
            other_power=other_power,
            energy=np.array(self._energy).reshape(n, 2).sum(axis=1),
            contacts=_contacts(model, self._touches),
            warnings=data.warning.number.astype(np.int32),
            mocap=np.array(self._mocap) if model.nmocap else None,
        )
        if model.nmocap:
            self._mocap.pop()
        return found

    def _powers(self, qvel: Floats) -> tuple[Floats, Floats]:
        """Power of each actuator, shape [n, nu], and of dampers and constraints, shape [n, 2]."""
        model, n = self.model, len(self._qpos)
        if not n:
            return np.zeros((0, model.nu)), np.zeros((0, 2))
        force, velocity, passive, constraint = (
            np.array([[each[i] for each in step] for step in self._instants]) for i in range(4)
        )  # each of shape [n, stages, ...]
        if self._is_rk4:
            weights, speeds = np.array(RK4_WEIGHTS), np.array(self._speeds)
        else:
            # A force's work on the way is its product with the mean of the velocities before and
            # after: so kinetic energy changes by the work exactly, but for changes of inertia.
            weights, speeds = np.ones(1), ((qvel[1:] + qvel[:-1]) / 2)[:, None]
            passive = passive - self._implicit_damping() * np.diff(qvel, axis=0)[:, None]
            velocity[:-1] = (velocity[:-1] + velocity[1:]) / 2
        actuators = np.einsum("s,nsa->na", weights, force * velocity)
        others = [np.einsum("s,nsv,nsv->n", weights, each, speeds)
                  for each in (passive, constraint)]  # fmt: skip
        return actuators, np.stack(others, axis=1)

    def _implicit_damping(self) -> Floats:
        """Damping of each velocity that acts on the velocity after the step, not before it."""
        import mujoco

        option, damping = self.model.opt, self.model.dof_damping.copy()
        is_euler = int(option.integrator) == int(mujoco.mjtIntegrator.mjINT_EULER)
        is_off = bool(option.disableflags & int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP))
        return np.zeros_like(damping) if is_euler and is_off else damping


def _instant(data: Any) -> _Instant:
    return _Instant(
        data.actuator_force.copy(),
        data.actuator_velocity.copy(),
        data.qfrc_passive - data.qfrc_spring,
        data.qfrc_constraint.copy(),
    )


def _contacts(model: Any, touches: Sequence[_Touch]) -> Contacts:
    """Compute the contacts with a force, one row for each body that is pushed."""
    if not touches:
        return _nothing()
    columns = list(zip(*touches, strict=True))
    steps, weights = np.array(columns[0]), np.array(columns[1])
    pos, frame, geom, dist, address, dim, friction, forces = map(np.concatenate, columns[2:10])
    xpos, xmat, cvel, centre = map(np.stack, columns[10:14])
    touch = np.repeat(np.arange(len(touches)), [len(each.dist) for each in touches])
    lengths = [len(each.forces) for each in touches]
    first = address + np.concatenate([[0], np.cumsum(lengths)[:-1]])[touch]
    local = _local_forces(model, forces, np.where(address < 0, -1, first), dim, friction)
    kept = np.flatnonzero((local[:, 0] > 0) & (geom >= 0).all(axis=1))
    touch, pos, dist, local, geom = touch[kept], pos[kept], dist[kept], local[kept], geom[kept]
    axes = frame[kept].reshape(-1, 3, 3)
    push = weights[touch, None] * np.einsum("ki,kij->kj", local, axes)  # on the second geom
    bodies = model.geom_bodyid[geom]
    speeds = [_velocity(model, body, touch, pos, cvel, centre) for body in bodies.T]
    between = speeds[1] - speeds[0]
    along = np.einsum("ki,ki->k", between, axes[:, 0])
    slip = np.linalg.norm(between - along[:, None] * axes[:, 0], axis=1)
    is_world = model.body_weldid[bodies] == 0
    rows = []
    for mine, sign in ((0, -1.0), (1, 1.0)):  # MuJoCo's normal points to the second geom
        body, other = bodies[:, mine], np.where(is_world[:, 1 - mine], 0, bodies[:, 1 - mine])
        rotation = xmat[touch, body].reshape(-1, 3, 3)
        point = np.einsum("ki,kij->kj", pos - xpos[touch, body], rotation)
        normal = weights[touch] * local[:, 0]
        row = (steps[touch], body, geom[:, mine], other, sign * push, normal, point, slip, -dist)
        rows.append([column[~is_world[:, mine]] for column in row])
    joined = [np.concatenate(pair) for pair in zip(*rows, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    kinds = (np.int32,) * 4 + (np.float64,) * 5
    return Contacts(*(column[order].astype(kind)
                      for column, kind in zip(joined, kinds, strict=True)))  # fmt: skip


def _local_forces(
    model: Any, forces: Floats, first: Any, dim: NDArray[np.int32], friction: Floats
) -> Floats:
    """Force of each contact along its normal and its two directions on the surface.

    Args:
        model: whose friction cones are pyramids or ellipses.
        forces: of all contacts.
        first: index of each contact's first force; -1 if it has none. Shape [k].
        dim: dimension of each contact, 1 to 6.
        friction: coefficients, shape [k, 5].

    Returns:
        In N, shape [k, 3].
    """
    import mujoco

    is_pyramid = int(model.opt.cone) == int(mujoco.mjtCone.mjCONE_PYRAMIDAL)
    local = np.zeros((len(dim), 3))
    for size in np.unique(dim).tolist():
        rows = np.flatnonzero((dim == size) & (first >= 0))
        if size == 1 or not is_pyramid:
            n = min(size, 3)
            local[rows, :n] = forces[first[rows, None] + np.arange(n)]
            continue
        edges = forces[first[rows, None] + np.arange(2 * (size - 1))].reshape(len(rows), -1, 2)
        local[rows, 0] = edges.sum(axis=(1, 2))
        along = (edges[..., 0] - edges[..., 1]) * friction[rows, : size - 1]
        local[rows, 1:3] = along[:, :2]
    return local


def _velocity(
    model: Any, body: NDArray[np.int32], touch: Any, point: Floats, cvel: Floats, centre: Floats
) -> Floats:
    """Velocity of points of bodies, in world axes, shape [k, 3]."""
    both, centres = cvel[touch, body], centre[touch, model.body_rootid[body]]
    velocity: Floats = both[:, 3:] + np.cross(both[:, :3], point - centres)
    return velocity


def _nothing() -> Contacts:
    whole, real = np.zeros(0, np.int32), np.zeros(0)
    vectors = np.zeros((0, 3))
    return Contacts(whole, whole, whole, whole, vectors, real, vectors, real, real)


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
    flags = int(simulator.model.opt.enableflags)
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
        simulator.model.opt.enableflags = flags
