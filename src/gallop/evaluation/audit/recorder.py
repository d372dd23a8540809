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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import first_joints
from gallop.evaluation.audit.trajectory import Contacts, Floats, Trajectory

RK4_WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


BLOCK = 4096  # rows that are allocated at once


class _Touch(NamedTuple):
    """Copies of the contacts at one instant, and what is needed to make sense of them."""

    row: int
    """Of the instant in `_Rows`."""
    pos: Floats
    frame: Floats
    geom: NDArray[np.int32]
    dist: Floats
    address: NDArray[np.int32]
    """Of the first force of each contact in `forces`; -1 if the contact has none."""
    dim: NDArray[np.int32]
    friction: Floats
    forces: Floats
    bodies: Floats
    """Positions, rotations, velocities and centres of mass of all bodies, one after the other."""


class _Rows:
    """One row per instant, with what MuJoCo's `data` then holds."""

    NAMES = (
        "qpos", "qvel", "ctrl", "energy", "actuator_force", "actuator_velocity",
        "qfrc_passive", "qfrc_spring", "qfrc_constraint", "mocap_pos", "mocap_quat",
    )  # fmt: skip

    def __init__(self, data: Any) -> None:
        self._shapes = {name: getattr(data, name).shape for name in self.NAMES}
        self._width = sum(getattr(data, name).size for name in self.NAMES)
        self._full: list[Floats] = []
        self._block, self._used = np.empty((BLOCK, self._width)), 0

    def views(self, data: Any) -> list[Floats]:
        """The arrays that `add` copies; they stay those of `data`."""
        return [getattr(data, name).reshape(-1) for name in self.NAMES if getattr(data, name).size]

    def add(self, views: list[Floats]) -> int:
        """Copy them, and return the row's index."""
        if self._used == BLOCK:
            self._full.append(self._block)
            self._block, self._used = np.empty((BLOCK, self._width)), 0
        np.concatenate(views, out=self._block[self._used])
        self._used += 1
        return len(self._full) * BLOCK + self._used - 1

    def columns(self) -> dict[str, Floats]:
        """Name -> what it was at each instant, shape [rows, ...]."""
        rows = np.concatenate([*self._full, self._block[: self._used]])
        found, first = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            found[name] = rows[:, first : first + size].reshape(len(rows), *shape)
            first += size
        return found


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
        self._rows = _Rows(self.data)
        self._views = self._rows.views(self.data)
        self._bodies = _body_views(self.data)
        if self._is_rk4:
            self._trial_views = self._rows.views(self._trial)
            self._trial_bodies = _body_views(self._trial)
        self._first: tuple[Floats, Floats, Floats] | None = None
        self._touches: list[_Touch] = []
        self._n_per_timestep = 1

    def step(self, mj_step: Any, nstep: int) -> None:
        """Take physics steps one by one, and record each."""
        self._n_per_timestep = max(self._n_per_timestep, nstep)
        if self._first is None:
            self._first = _state(self.data)
        if self._is_rk4:
            for _ in range(nstep):
                self._rk4_step()
            return
        model, data, views, add = self.model, self.data, self._views, self._rows.add
        for _ in range(nstep):
            mj_step(model, data)
            row = add(views)
            if data.ncon:
                self._look(data, row, self._bodies)

    def _rk4_step(self) -> None:
        """Take a step in the two halves of mj_step, and read all four stages."""
        import mujoco

        model, data, trial = self.model, self.data, self._trial
        half = float(model.opt.timestep) / 2
        mujoco.mj_checkPos(model, data)
        mujoco.mj_checkVel(model, data)
        mujoco.mj_forward(model, data)
        mujoco.mj_checkAcc(model, data)
        self._look(data, self._rows.add(self._views), self._bodies)
        mujoco.mj_copyData(trial, model, data)
        qpos, qvel = data.qpos, data.qvel  # unchanged until the second half
        for _ in (1, 2):
            speed, acceleration = trial.qvel.copy(), trial.qacc
            trial.qvel[:] = qvel + half * acceleration
            trial.qpos[:] = qpos
            mujoco.mj_integratePos(model, trial.qpos, speed, half)
            mujoco.mj_forwardSkip(model, trial, 0, 1)
            self._look(trial, self._rows.add(self._trial_views), self._trial_bodies)
        mujoco.mj_RungeKutta(model, data, 4)
        self._look(data, self._rows.add(self._views), self._bodies)

    def _look(self, data: Any, row: int, bodies: list[Floats]) -> None:
        """Copy the contacts of an instant, if there are any."""
        if not data.ncon:
            return
        found = data.contact
        self._touches.append(
            _Touch(
                row,
                found.pos.copy(),
                found.frame.copy(),
                found.geom.copy(),
                found.dist.copy(),
                found.efc_address.copy(),
                found.dim.copy(),
                found.friction.copy(),
                data.efc_force.copy(),
                np.concatenate(bodies),
            )
        )

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        data, model = self.data, self.model
        n_stages = len(RK4_WEIGHTS) if self._is_rk4 else 1
        columns = self._rows.columns()
        by_step = {name: rows.reshape(len(rows) // n_stages, n_stages, *rows.shape[1:])
                   for name, rows in columns.items()}  # fmt: skip
        first = self._first or _state(data)
        after = (by_step[name][:, -1] for name in ("qpos", "qvel"))
        qpos, qvel = (np.concatenate([start[None], rows])
                      for start, rows in zip(first[:2], after, strict=True))  # fmt: skip
        poses = np.concatenate([by_step["mocap_pos"], by_step["mocap_quat"]], axis=-1)[:, -1]
        powers = self._powers(by_step, qvel)
        weights = np.array(RK4_WEIGHTS if self._is_rk4 else (1.0,))
        return Trajectory(
            dt=float(model.opt.timestep),
            n_per_timestep=self._n_per_timestep,
            qpos=qpos,
            qvel=qvel,
            ctrl=by_step["ctrl"][:, 0],
            actuator_power=powers[0],
            other_power=powers[1],
            energy=by_step["energy"][:, 0].sum(axis=1),
            contacts=_contacts(model, self._touches, weights),
            warnings=data.warning.number.astype(np.int32),
            mocap=np.concatenate([first[2][None], poses]) if model.nmocap else None,
        )

    def _powers(self, rows: Mapping[str, Floats], qvel: Floats) -> tuple[Floats, Floats]:
        """Power of each actuator, shape [n, nu], and of dampers and constraints, shape [n, 2].

        Args:
            rows: what was recorded, each of shape [n, stages, ...].
            qvel: velocities before and after each step, shape [n + 1, nv].
        """
        # A force's work in a step is its product with the mean of the velocities before and after:
        # so the kinetic energy changes by the work exactly, but for changes of inertia.
        weights = np.array(RK4_WEIGHTS if self._is_rk4 else (1.0,))
        speeds = (qvel[1:] + qvel[:-1]) / 2
        velocity = rows["actuator_velocity"][:, 0].copy()  # before each step
        velocity[:-1] = (velocity[:-1] + velocity[1:]) / 2

        def mean(force: Floats) -> Floats:
            """Over the stages of each step."""
            average: Floats = np.einsum("s,nsv->nv", weights, force)
            return average

        # What springs do is in the potential energy.
        passive = mean(rows["qfrc_passive"] - rows["qfrc_spring"])
        if not self._is_rk4:
            passive -= self._implicit_damping() * np.diff(qvel, axis=0)
        constraint = mean(rows["qfrc_constraint"])
        others = [np.einsum("nv,nv->n", force, speeds) for force in (passive, constraint)]
        return mean(rows["actuator_force"]) * velocity, np.stack(others, axis=1)

    def _implicit_damping(self) -> Floats:
        """Damping of each velocity, where it acts on the velocity after the step; else 0."""
        import mujoco

        option, damping = self.model.opt, self.model.dof_damping.copy()
        is_euler = int(option.integrator) == int(mujoco.mjtIntegrator.mjINT_EULER)
        is_off = bool(option.disableflags & int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP))
        return np.zeros_like(damping) if is_euler and is_off else damping


def _state(data: Any) -> tuple[Floats, Floats, Floats]:
    """Copies of positions, velocities, and poses of mocap bodies."""
    return data.qpos.copy(), data.qvel.copy(), np.hstack([data.mocap_pos, data.mocap_quat])


def _body_views(data: Any) -> list[Floats]:
    """What `_Touch.bodies` copies."""
    return [getattr(data, name).reshape(-1) for name in ("xpos", "xmat", "cvel", "subtree_com")]


def _contacts(model: Any, touches: Sequence[_Touch], stage_weights: Floats) -> Contacts:
    """Compute the contacts with a force, one row for each body that is pushed.

    Args:
        model: a `mujoco.MjModel`.
        touches: all contacts.
        stage_weights: share of each instant in its step, shape [stages].
    """
    if not touches:
        return _nothing()
    columns = list(zip(*touches, strict=True))
    steps, stages = np.divmod(np.array(columns[0]), len(stage_weights))
    weights = stage_weights[stages]
    pos, frame, geom, dist, address, dim, friction, forces = map(np.concatenate, columns[1:9])
    bodies = np.stack(columns[9]).reshape(len(touches), -1)
    ends = np.cumsum([3 * model.nbody, 9 * model.nbody, 6 * model.nbody])
    xpos, xmat, cvel, centre = (
        part.reshape(len(touches), model.nbody, -1) for part in np.split(bodies, ends, axis=1)
    )
    touch = np.repeat(np.arange(len(touches)), [len(each.dist) for each in touches])
    lengths = [len(each.forces) for each in touches]
    first = address + np.concatenate([[0], np.cumsum(lengths)[:-1]])[touch]
    local = _local_forces(model, forces, np.where(address < 0, -1, first), dim, friction)
    kept = np.flatnonzero((local[:, 0] > 0) & (geom >= 0).all(axis=1))
    touch, pos, dist, local, geom = touch[kept], pos[kept], dist[kept], local[kept], geom[kept]
    axes = frame[kept].reshape(-1, 3, 3)
    push = weights[touch, None] * np.einsum("ki,kij->kj", local, axes)  # on the second geom
    pushed = model.geom_bodyid[geom]
    speeds = [_velocity(model, body, touch, pos, cvel, centre) for body in pushed.T]
    between = speeds[1] - speeds[0]
    along = np.einsum("ki,ki->k", between, axes[:, 0])
    slip = np.linalg.norm(between - along[:, None] * axes[:, 0], axis=1)
    is_world = model.body_weldid[pushed] == 0
    joints = first_joints(model)
    down = model.opt.gravity / max(float(np.linalg.norm(model.opt.gravity)), 1e-9)
    rows = []
    for mine, sign in ((0, -1.0), (1, 1.0)):  # MuJoCo's normal points to the second geom
        body, other = pushed[:, mine], np.where(is_world[:, 1 - mine], 0, pushed[:, 1 - mine])
        rotation = xmat[touch, body].reshape(-1, 3, 3)
        point = np.einsum("ki,kij->kj", pos - xpos[touch, body], rotation)
        normal = weights[touch] * local[:, 0]
        joint = np.einsum("ki,kji->kj", joints[body], rotation)  # from the body's origin
        rise = (pos - xpos[touch, body] - joint) @ down
        row = (steps[touch], body, geom[:, mine], other, sign * push, normal, point, slip, -dist,
               rise)  # fmt: skip
        rows.append([column[~is_world[:, mine]] for column in row])
    joined = [np.concatenate(pair) for pair in zip(*rows, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    kinds = (np.int32,) * 4 + (np.float64,) * 6
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
    return Contacts(whole, whole, whole, whole, vectors, real, vectors, real, real, real)


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
        if data is recorder.data:
            recorder.step(mj_step, nstep)
        else:
            mj_step(model, data, nstep)

    mujoco.mj_step = step
    try:
        yield recorder
    finally:
        mujoco.mj_step = mj_step
        simulator.model.opt.enableflags = flags
