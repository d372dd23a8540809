"""The recorder: a trajectory of every physics step of an environment, whatever its class.

During an episode `PhysicsLog` only copies. Forces, slip and powers are computed afterwards, from
all steps at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gallop.evaluation.audit.anatomy import first_joints
from gallop.evaluation.audit.physics_log import (
    BODY,
    CONTACT,
    RK4_WEIGHTS,
    ROW,
    Copied,
    is_rk4,
    log_for,
)
from gallop.evaluation.audit.trajectory import Contacts, Floats, Trajectory


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
        self._weights = np.array(RK4_WEIGHTS if is_rk4(model) else (1.0,))
        self._new_log = log_for(model)
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded: the next step begins an episode."""
        self._log = self._new_log(self.model, self.data)
        self._first: tuple[Floats, Floats, Floats] | None = None
        self._n_per_timestep = 1

    def step(self, nstep: int) -> None:
        """Take physics steps one by one, and record each."""
        self._n_per_timestep = max(self._n_per_timestep, nstep)
        if self._first is None:
            self._first = _state(self.data)
        self._log.step(nstep)

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        data, model = self.data, self.model
        copied = self._log.copied()
        by_step = self._by_step(copied.rows)
        first = self._first or _state(data)
        after = (by_step[name][:, -1] for name in ("qpos", "qvel"))
        qpos, qvel = (np.concatenate([start[None], rows])
                      for start, rows in zip(first[:2], after, strict=True))  # fmt: skip
        poses = np.concatenate([by_step["mocap_pos"], by_step["mocap_quat"]], axis=-1)[:, -1]
        powers = self._powers(by_step, qvel)
        return Trajectory(
            dt=float(model.opt.timestep),
            n_per_timestep=self._n_per_timestep,
            qpos=qpos,
            qvel=qvel,
            ctrl=by_step["ctrl"][:, 0],
            actuator_power=powers[0],
            other_power=powers[1],
            energy=by_step["energy"][:, 0].sum(axis=1),
            contacts=_contacts(model, copied, self._weights),
            warnings=data.warning.number.astype(np.int32),
            mocap=np.concatenate([first[2][None], poses]) if model.nmocap else None,
        )

    def _by_step(self, rows: Floats) -> dict[str, Floats]:
        """Name -> what it was at each stage of each step, shape [n, stages, ...]."""
        stages = len(self._weights)
        found, first = {}, 0
        for name in ROW:
            shape, size = getattr(self.data, name).shape, getattr(self.data, name).size
            columns = rows[:, first : first + size]
            found[name] = columns.reshape(len(rows) // stages, stages, *shape)
            first += size
        return found

    def _powers(self, rows: Mapping[str, Floats], qvel: Floats) -> tuple[Floats, Floats]:
        """Power of each actuator, shape [n, nu], and of dampers and constraints, shape [n, 2].

        Args:
            rows: what was recorded, each of shape [n, stages, ...].
            qvel: velocities before and after each step, shape [n + 1, nv].
        """
        # A force's work in a step is its product with the mean of the velocities before and after:
        # so the kinetic energy changes by the work exactly, but for changes of inertia.
        speeds = (qvel[1:] + qvel[:-1]) / 2
        velocity = rows["actuator_velocity"][:, 0].copy()  # before each step
        velocity[:-1] = (velocity[:-1] + velocity[1:]) / 2

        def mean(force: Floats) -> Floats:
            """Over the stages of each step."""
            average: Floats = np.einsum("s,nsv->nv", self._weights, force)
            return average

        # What springs do is in the potential energy.
        passive = mean(rows["qfrc_passive"] - rows["qfrc_spring"])
        if len(self._weights) == 1:  # not RK4
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


def _contacts(model: Any, copied: Copied, stage_weights: Floats) -> Contacts:
    """Compute the contacts with a force, one row for each body that is pushed.

    Args:
        model: a `mujoco.MjModel`.
        copied: the contacts that push.
        stage_weights: share of each instant in its step, shape [stages].
    """
    if not len(copied.contact_rows):
        return _nothing()
    steps, stages = np.divmod(copied.contact_rows, len(stage_weights))
    weights = stage_weights[stages]
    pos, frame, dist, local = np.split(copied.contacts, np.cumsum(CONTACT)[:-1], axis=1)
    axes, geom = frame.reshape(-1, 3, 3), copied.geoms
    push = weights[:, None] * np.einsum("ki,kij->kj", local, axes)  # on the second geom
    pushed = model.geom_bodyid[geom]
    poses = [np.split(body, np.cumsum(BODY)[:-1], axis=1) for body in np.hsplit(copied.bodies, 2)]
    speeds = [_velocity(pos, cvel, centre) for _, _, cvel, centre in poses]
    between = speeds[1] - speeds[0]
    along = np.einsum("ki,ki->k", between, axes[:, 0])
    slip = np.linalg.norm(between - along[:, None] * axes[:, 0], axis=1)
    is_world = model.body_weldid[pushed] == 0
    joints = first_joints(model)
    down = model.opt.gravity / max(float(np.linalg.norm(model.opt.gravity)), 1e-9)
    rows = []
    for mine, sign in ((0, -1.0), (1, 1.0)):  # MuJoCo's normal points to the second geom
        body, other = pushed[:, mine], np.where(is_world[:, 1 - mine], 0, pushed[:, 1 - mine])
        xpos, xmat = poses[mine][:2]
        rotation = xmat.reshape(-1, 3, 3)
        point = np.einsum("ki,kij->kj", pos - xpos, rotation)
        normal = weights * local[:, 0]
        joint = np.einsum("ki,kji->kj", joints[body], rotation)  # from the body's origin
        rise = (pos - xpos - joint) @ down
        row = (steps, body, geom[:, mine], other, sign * push, normal, point, slip, -dist[:, 0],
               rise)  # fmt: skip
        rows.append([column[~is_world[:, mine]] for column in row])
    joined = [np.concatenate(pair) for pair in zip(*rows, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    kinds = (np.int32,) * 4 + (np.float64,) * 6
    return Contacts(*(column[order].astype(kind)
                      for column, kind in zip(joined, kinds, strict=True)))  # fmt: skip


def _velocity(point: Floats, cvel: Floats, centre: Floats) -> Floats:
    """Velocity of points of bodies, in world axes, shape [k, 3]; see MuJoCo's `cvel`."""
    velocity: Floats = cvel[:, 3:] + np.cross(cvel[:, :3], point - centre)
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
            recorder.step(nstep)
        else:
            mj_step(model, data, nstep)

    mujoco.mj_step = step
    try:
        yield recorder
    finally:
        mujoco.mj_step = mj_step
        simulator.model.opt.enableflags = flags
