"""What MuJoCo's `data` holds at every physics step, copied while an episode is played.

It does not change a bit of the episode. What a step leaves in `data` does not belong to one
instant:

- With semi-implicit Euler and the implicit integrators, contacts, their forces and the positions of
  bodies are those of the state *before* the step, and the forces are the ones that acted.
- With RK4, they are of the last of four trial states inside the step. So all four are read. The
  forces add up with RK4's weights to an average over the step, whose product with the time step is
  the impulse that acted.

The kernels (native/physics_log.hpp) copy in C++. Where they cannot, because they are missing or
the model has states that they do not integrate, `PythonLog` does the same, more slowly.

Sources: mj_step and mj_RungeKutta in MuJoCo's engine_forward.c (classic RK4).
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.trajectory import Floats

RK4_WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
"""Share of each of its four stages in a step."""
ROW = (
    "qpos", "qvel", "ctrl", "energy", "actuator_force", "actuator_velocity",
    "qfrc_passive", "qfrc_spring", "qfrc_constraint", "mocap_pos", "mocap_quat",
)  # fmt: skip
"""What is copied at every instant."""
BODY = (3, 9, 6, 3)
"""Numbers of a pushed body: its `xpos`, `xmat` and `cvel`, and the `subtree_com` of its tree."""
CONTACT = (3, 9, 1, 3)
"""Numbers of a contact: its position, axes, distance, and force along each axis."""


class Copied(NamedTuple):
    """All that was copied. With RK4 a step has four rows, one per stage; else one."""

    rows: Floats
    """The arrays of `ROW`, one after the other, shape [rows, ...]."""
    contact_rows: NDArray[np.int32]
    """The row of each contact that pushes, shape [k]."""
    geoms: NDArray[np.int32]
    """Its two geoms, shape [k, 2]."""
    contacts: Floats
    """The numbers of `CONTACT`, shape [k, 16]."""
    bodies: Floats
    """The numbers of `BODY` for the body of each geom, shape [k, 42]."""


class PhysicsLog(Protocol):
    """Steps a simulator, and copies."""

    def __init__(self, model: Any, data: Any) -> None:
        """
        Args:
            model: a `mujoco.MjModel`.
            data: its `mujoco.MjData`.
        """

    def step(self, n: int) -> None:
        """Take physics steps one by one, and copy after each."""

    def copied(self) -> Copied:
        """Return all that was copied."""


def log_for(model: Any) -> type[PhysicsLog]:
    """Choose a log for a model: the kernels', if they can keep one. Both have the same bits."""
    return KernelLog if _kernels_can(model) else PythonLog


def is_rk4(model: Any) -> bool:
    """Whether a `mujoco.MjModel` is integrated with RK4."""
    import mujoco

    return int(model.opt.integrator) == int(mujoco.mjtIntegrator.mjINT_RK4)


# --- the kernels ---------------------------------------------------------------------------------


class KernelLog:
    """Kept by the kernels."""

    def __init__(self, model: Any, data: Any) -> None:
        from gallop import _kernels
        from gallop.environments import mujoco_library as mujoco

        fields: Any = mujoco.struct("mjData")
        contact: Any = mujoco.struct("mjContact")
        self._owners = model, data  # the kernels have their addresses
        self._log = _kernels.PhysicsLog(
            mj_step=mujoco.function("mj_step"),
            mj_forward=mujoco.function("mj_forward"),
            mj_forward_skip=mujoco.function("mj_forwardSkip"),
            mj_check_pos=mujoco.function("mj_checkPos"),
            mj_check_vel=mujoco.function("mj_checkVel"),
            mj_check_acc=mujoco.function("mj_checkAcc"),
            mj_contact_force=mujoco.function("mj_contactForce"),
            mj_integrate_pos=mujoco.function("mj_integratePos"),
            mju_add_to_scl=mujoco.function("mju_addToScl"),
            mju_user_error=mujoco.variable("mju_user_error"),
            time=fields.time.offset,
            ncon=fields.ncon.offset,
            contact=fields.contact.offset,
            contact_size=ctypes.sizeof(contact),
            pos=contact.pos.offset,
            frame=contact.frame.offset,
            dist=contact.dist.offset,
            geom=contact.geom.offset,
            model=model._address,
            data=data._address,
            qpos=data.qpos,
            qvel=data.qvel,
            qacc=data.qacc,
            qacc_warmstart=data.qacc_warmstart,
            row=_views(data, ROW),
            geom_bodyid=model.geom_bodyid,
            body_rootid=model.body_rootid,
            xpos=data.xpos,
            xmat=data.xmat,
            cvel=data.cvel,
            subtree_com=data.subtree_com,
            timestep=model.opt.timestep,
            is_rk4=is_rk4(model),
        )

    def step(self, n: int) -> None:  # noqa: D102  (see PhysicsLog)
        self._log.step(n)

    def copied(self) -> Copied:  # noqa: D102
        return Copied(**self._log.arrays())


def _kernels_can(model: Any) -> bool:
    """Whether the kernels can keep a log of this model."""
    try:
        from gallop import _kernels  # noqa: F401  (they may be missing)

        return _layout_is_right() and (not is_rk4(model) or _rk4_is_right(model))
    except (ImportError, LookupError):
        return False


TOUCHING = """
<mujoco><worldbody><geom type="plane" size="1 1 1"/>
  <body><freejoint/><geom size="0.1"/></body></worldbody></mujoco>
"""


@functools.cache
def _layout_is_right() -> bool:
    """Whether fields of MuJoCo's structs are where its package says they are."""
    import mujoco

    from gallop.environments.mujoco_library import struct

    model = mujoco.MjModel.from_xml_string(TOUCHING)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    fields: Any = struct("mjData").from_address(data._address)
    arrays = all(
        getattr(fields, name) == getattr(data, name).ctypes.data for name in ("qpos", "cvel")
    )
    if not arrays or (fields.time, fields.ncon) != (data.time, data.ncon) or not data.ncon:
        return False
    contact: Any = struct("mjContact").from_address(fields.contact)
    found = data.contact[0]
    return all(
        np.array_equal(np.array(getattr(contact, name)), np.array(getattr(found, name)))
        for name in ("pos", "frame", "dist", "geom")
    )


def _rk4_is_right(model: Any) -> bool:
    """Whether the kernels' RK4 has MuJoCo's bits, and integrates all states of the model."""
    import mujoco

    # Not every version has all of these.
    if any(getattr(model, name, 0) for name in ("na", "nplugin", "nhistory")):
        return False
    ours, theirs = mujoco.MjData(model), mujoco.MjData(model)
    for data in ours, theirs:
        data.qvel[:] = np.linspace(-1, 1, model.nv)
    KernelLog(model, ours).step(2)
    mujoco.mj_step(model, theirs, 2)
    return ours.time == theirs.time and all(
        np.array_equal(getattr(ours, name), getattr(theirs, name), equal_nan=True)
        for name in ("qpos", "qvel", "qacc", "qacc_warmstart")
    )


# --- Python --------------------------------------------------------------------------------------


class PythonLog:
    """Kept by Python, which reads the two trial states in the middle of an RK4 step from a copy
    that takes them again."""

    def __init__(self, model: Any, data: Any) -> None:
        import mujoco

        self._model, self._data = model, data
        self._trial: Any = mujoco.MjData(model) if is_rk4(model) else None
        self._rows: list[Floats] = []
        self._contact_rows: list[NDArray[np.int32]] = []
        self._geoms: list[NDArray[np.int32]] = []
        self._contacts: list[Floats] = []
        self._bodies: list[Floats] = []

    def step(self, n: int) -> None:  # noqa: D102  (see PhysicsLog)
        from mujoco._functions import mj_step  # `recording` replaces mujoco.mj_step

        for _ in range(n):
            if self._trial is not None:
                self._rk4_step()
            else:
                mj_step(self._model, self._data)
                self._add(self._data)

    def _rk4_step(self) -> None:
        """Take a step in the two halves of mj_step, and read all four stages."""
        import mujoco

        model, data, trial = self._model, self._data, self._trial
        half = float(model.opt.timestep) / 2
        mujoco.mj_checkPos(model, data)
        mujoco.mj_checkVel(model, data)
        mujoco.mj_forward(model, data)
        mujoco.mj_checkAcc(model, data)
        self._add(data)
        mujoco.mj_copyData(trial, model, data)
        qpos, qvel = data.qpos, data.qvel  # unchanged until the second half
        for _ in (1, 2):
            speed, acceleration = trial.qvel.copy(), trial.qacc
            trial.qvel[:] = qvel + half * acceleration
            trial.qpos[:] = qpos
            mujoco.mj_integratePos(model, trial.qpos, speed, half)
            mujoco.mj_forwardSkip(model, trial, 0, 1)
            self._add(trial)
        mujoco.mj_RungeKutta(model, data, 4)
        self._add(data)

    def _add(self, data: Any) -> None:
        """Copy an instant."""
        import mujoco

        self._rows.append(np.concatenate(_views(data, ROW)))
        if not data.ncon:
            return
        found, model = data.contact, self._model
        forces = np.zeros((data.ncon, 6))
        for number, force in enumerate(forces):
            mujoco.mj_contactForce(model, data, number, force)
        # A geom of -1 is that of a flexible body.
        kept = (forces[:, 0] > 0) & (found.geom >= 0).all(axis=1)
        numbers = np.column_stack([found.pos, found.frame, found.dist, forces[:, :3]])
        body = model.geom_bodyid[found.geom[kept]]
        root = model.body_rootid[body]
        pushed = [data.xpos[body], data.xmat[body], data.cvel[body], data.subtree_com[root]]
        self._contact_rows.append(np.full(kept.sum(), len(self._rows) - 1, np.int32))
        self._geoms.append(found.geom[kept])
        self._contacts.append(numbers[kept])
        self._bodies.append(np.concatenate(pushed, axis=-1).reshape(-1, 2 * sum(BODY)))

    def copied(self) -> Copied:  # noqa: D102
        def joined(parts: list[Any], kind: type, *width: int) -> Any:
            return np.concatenate([np.zeros((0, *width), kind), *parts])

        return Copied(
            rows=np.array(self._rows),
            contact_rows=joined(self._contact_rows, np.int32),
            geoms=joined(self._geoms, np.int32, 2),
            contacts=joined(self._contacts, float, sum(CONTACT)),
            bodies=joined(self._bodies, float, 2 * sum(BODY)),
        )


def _views(data: Any, names: tuple[str, ...]) -> list[Floats]:
    """Arrays of `data` in one dimension; they stay those of `data`."""
    found = (getattr(data, name) for name in names)
    return [array.reshape(-1) for array in found if array.size]
