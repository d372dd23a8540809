"""What a robot consists of, from its compiled model: feet, shins, torso, joints and actuators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

FOOT_HEIGHT = 0.1
"""A limb's last body is a foot if it ends this low in the start pose, as a share of the robot's
height there, and as far below the torso. The start pose is the model's initial one, with each joint
moved into its range: Ant's legs are straight otherwise."""
FLAT = 0.5
"""A foot has a heel and a toe if its ends differ in height by less than this share of its length in
the start pose. Those of HalfCheetah do not: it stands on their tips whatever it does."""


UPWARD = 0.9
"""Cosine of the angle to the vertical below which a torso's z axis does not point upward in the
start pose."""


class Foot(NamedTuple):
    """The last body of a leg."""

    body: int
    name: str
    heel: Floats
    """The foot's rear end in its own axes, shape [3]; equal to `toe` if the foot does not lie flat
    in the start pose: then it is the lower end."""
    toe: Floats
    """The foot's front end."""
    radius: float = 0.0
    """How far the foot reaches around the line from heel to toe, in m."""
    welded: Mapping[int, Floats] = MappingProxyType({})
    """Bodies that are one with it, such as a shin without an ankle -> matrix from their axes to the
    foot's, shape [3, 4]."""
    joint: Floats | None = None
    """Its ankle in its own axes; None if it is welded to the shin."""


class Anatomy(NamedTuple):
    """A robot's parts."""

    torso: int
    """Its main body: the root of the tree that moves freely."""
    mass: float
    """In kg, of the whole robot."""
    gravity: float
    """In m/s², positive."""
    height: float
    """Of the robot in the start pose, in m."""
    bodies: tuple[str, ...]
    """Name of each body."""
    parts: Mapping[int, str]
    """Body -> torso, foot, shin, thigh, or the body's name; not the world."""
    feet: tuple[Foot, ...]
    pitch: int | None
    """Index in qpos of the hinge about which a planar robot turns; None if it turns freely."""
    pitch_sign: float
    """1 if positive angles of that hinge turn the robot's front down, else -1."""
    rotation: int | None
    """Index in qpos of the torso's quaternion, if it turns freely."""
    spin: int | None
    """Index in qvel of its angular velocity, whose axes are the torso's own."""
    forward: int
    """Index in qpos of the position along the world's x axis."""
    control_low: Floats
    """Least control of each actuator, shape [nu]; -inf if it is not limited."""
    control_high: Floats
    """Largest control."""
    limited: NDArray[np.int64]
    """Index in qpos of each joint with a range, shape [j]."""
    joint_low: Floats
    """Lower end of these joints' ranges, shape [j]."""
    joint_high: Floats
    """Upper end."""
    joint_names: tuple[str, ...]
    """Of these joints."""
    actuators: tuple[str, ...]
    """Name of each actuator, or of the joint that it moves."""
    forward_sign: float = 1.0
    """1 if `forward` grows along the world's x axis, -1 if against it."""
    upright: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Quaternion of the upright torso, if it turns freely; see `_upright`."""

    @property
    def weight(self) -> float:
        """In N."""
        return self.mass * self.gravity


def anatomy(model: Any) -> Anatomy:
    """Find a robot's parts.

    Args:
        model: a `mujoco.MjModel`.

    Raises:
        ValueError: if no body of it moves relative to the world, its torso cannot travel, it weighs
            nothing, or it has no geoms.
    """
    torso = _torso(model)
    mass, gravity = float(model.body_subtreemass[torso]), float(np.linalg.norm(model.opt.gravity))
    if not mass * gravity > 0:
        raise ValueError("the robot weighs nothing, and forces are measured in its weight")
    data = _in_start_pose(model)
    lowest = {body: _lowest(model, data, body) for body in _subtree(model, torso)}
    bottom = min(lowest.values())
    top = max(_highest(model, data, body) for body in lowest)
    if not np.isfinite(top - bottom) or top <= bottom:
        raise ValueError("the robot has no geoms, and so no height")
    low_enough = FOOT_HEIGHT * (top - bottom)
    feet = [body for body in lowest if _is_leaf(model, body)
            and lowest[body] - bottom <= low_enough <= lowest[torso] - lowest[body]]  # fmt: skip
    root = _root_joints(model, data, torso)
    simple = [joint for joint in _simple_joints(model) if model.jnt_limited[joint]]
    is_limited = model.actuator_ctrllimited.astype(bool)
    low, high = model.actuator_ctrlrange.T
    return Anatomy(
        torso=torso,
        mass=mass,
        gravity=gravity,
        height=top - bottom,
        bodies=tuple(model.body(body).name or f"body {body}" for body in range(model.nbody)),
        parts=_parts(model, torso, feet),
        feet=tuple(_foot(model, data, body) for body in feet),
        **root,
        control_low=np.where(is_limited, low, -np.inf),
        control_high=np.where(is_limited, high, np.inf),
        limited=model.jnt_qposadr[simple].astype(np.int64),
        joint_low=model.jnt_range[simple, 0].copy(),
        joint_high=model.jnt_range[simple, 1].copy(),
        joint_names=tuple(model.joint(joint).name or f"joint {joint}" for joint in simple),
        actuators=tuple(_actuator(model, number) for number in range(model.nu)),
    )


def _in_start_pose(model: Any) -> Any:
    """Where all bodies are in the initial pose, with each joint moved into its range."""
    import mujoco

    data = mujoco.MjData(model)
    for joint in _simple_joints(model):
        if model.jnt_limited[joint]:
            address = int(model.jnt_qposadr[joint])
            data.qpos[address] = np.clip(data.qpos[address], *model.jnt_range[joint])
    mujoco.mj_kinematics(model, data)
    return data


def _simple_joints(model: Any) -> list[int]:
    """Joints with one position."""
    import mujoco

    kinds = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))
    return [joint for joint in range(model.njnt) if int(model.jnt_type[joint]) in kinds]


def _torso(model: Any) -> int:
    """The first body of the heaviest tree with actuators; without any, of the heaviest that moves.

    What a robot pushes about may be heavier than the robot.
    """
    roots = [body for body in range(1, model.nbody)
             if model.body_parentid[body] == 0 and _moves(model, body)]  # fmt: skip
    if not roots:
        raise ValueError("no body of the model moves")
    driven = {int(model.body_rootid[body]) for body in _driven(model)}
    return max(roots, key=lambda body: (body in driven, float(model.body_subtreemass[body])))


def _driven(model: Any) -> list[int]:
    """Bodies that actuators push, but for those with tendons."""
    import mujoco

    kinds = mujoco.mjtTrn
    of_kind = {
        int(kinds.mjTRN_JOINT): model.jnt_bodyid,
        int(kinds.mjTRN_JOINTINPARENT): model.jnt_bodyid,
        int(kinds.mjTRN_SITE): model.site_bodyid,
        int(kinds.mjTRN_BODY): np.arange(model.nbody),
    }
    pushed = zip(model.actuator_trntype.tolist(), model.actuator_trnid[:, 0].tolist(), strict=True)
    return [int(of_kind[kind][number]) for kind, number in pushed if kind in of_kind]


def _moves(model: Any, root: int) -> bool:
    return any(model.body_dofnum[body] > 0 for body in _subtree(model, root))


def _subtree(model: Any, root: int) -> list[int]:
    """The body and all that hang on it, in the order of their numbers."""
    found = [root]
    for body in range(root + 1, model.nbody):
        if int(model.body_parentid[body]) in found:
            found.append(body)
    return found


def _is_leaf(model: Any, body: int) -> bool:
    return body not in model.body_parentid.tolist() and model.body_geomnum[body] > 0


def _geoms(model: Any, body: int) -> range:
    first = int(model.body_geomadr[body])
    return range(first, first + int(model.body_geomnum[body]))


def _ends(model: Any, geom: int) -> Floats:
    """The two ends of a geom along its longest axis, in its own axes, shape [2, 3]."""
    import mujoco

    size, kind = model.geom_size[geom], int(model.geom_type[geom])
    along_z = (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_CYLINDER))
    axis = 2 if kind in along_z else int(np.argmax(size))
    half = float(size[1]) if kind in along_z else float(size[axis])
    if kind == int(mujoco.mjtGeom.mjGEOM_SPHERE):
        half = 0.0
    ends = np.zeros((2, 3))
    ends[:, axis] = -half, half
    return ends


def _radius(model: Any, geom: int) -> float:
    """How far a geom reaches beyond the line between its ends."""
    size = model.geom_size[geom]
    return float(size[0]) if size[0] > 0 else float(model.geom_rbound[geom])


def _corners(model: Any, data: Any, body: int) -> Floats:
    """The ends of a body's geoms, in world axes, and their radii, shape [2 g, 4]."""
    rows = [
        (*(data.geom_xpos[geom] + data.geom_xmat[geom].reshape(3, 3) @ end), _radius(model, geom))
        for geom in _geoms(model, body)
        for end in _ends(model, geom)
    ]
    return np.array(rows).reshape(-1, 4)


def _lowest(model: Any, data: Any, body: int) -> float:
    corners = _corners(model, data, body)
    return float((corners[:, 2] - corners[:, 3]).min()) if len(corners) else np.inf


def _highest(model: Any, data: Any, body: int) -> float:
    corners = _corners(model, data, body)
    return float((corners[:, 2] + corners[:, 3]).max()) if len(corners) else -np.inf


def _parts(model: Any, torso: int, feet: list[int]) -> dict[int, str]:
    names = {body: model.body(body).name or f"body {body}" for body in _subtree(model, torso)}
    names[torso] = "torso"
    for foot in feet:
        names[foot] = "foot"
        body = int(model.body_parentid[foot])
        for part in ("shin", "thigh"):
            while body not in (0, torso) and not model.body_jntnum[body]:
                body = int(model.body_parentid[body])
            if body in (0, torso):
                break
            names[body] = part
            body = int(model.body_parentid[body])
    return names


def _foot(model: Any, data: Any, body: int) -> Foot:
    """Heel and toe are the ends of its geoms that lie furthest back and forward."""
    corners = _corners(model, data, body)
    own = (corners[:, :3] - data.xpos[body]) @ data.xmat[body].reshape(3, 3)
    order = np.argsort(corners[:, 0], kind="stable")
    heel, toe = int(order[0]), int(order[-1])
    if abs(corners[toe, 2] - corners[heel, 2]) > FLAT * np.linalg.norm(own[toe] - own[heel]):
        heel = toe = int(np.argmin(corners[:, 2]))
    joined = [other for other in range(1, model.nbody) if other != body
              and model.body_weldid[other] == model.body_weldid[body]]  # fmt: skip
    return Foot(
        body=body,
        name=model.body(body).name or f"body {body}",
        heel=own[heel],
        toe=own[toe],
        radius=float(corners[:, 3].max()),
        welded={other: _between(data, other, body) for other in joined},
        joint=first_joints(model)[body] if model.body_jntnum[body] else None,
    )


def first_joints(model: Any) -> Floats:
    """Position of each body's first joint in its own axes, 0 without one, shape [bodies, 3]."""
    found = np.zeros((model.nbody, 3))
    has_joint = model.body_jntnum > 0
    found[has_joint] = model.jnt_pos[model.body_jntadr[has_joint]]
    return found


def _between(data: Any, body: int, other: int) -> Floats:
    """Matrix from a body's axes to another's, shape [3, 4]."""
    axes, rotation = (data.xmat[each].reshape(3, 3) for each in (other, body))
    shift = axes.T @ (data.xpos[body] - data.xpos[other])
    return np.hstack([axes.T @ rotation, shift[:, None]])


def _root_joints(model: Any, data: Any, torso: int) -> dict[str, Any]:
    """The fields that say where the torso's rotation and position are."""
    import mujoco

    found: dict[str, Any] = {"pitch": None, "pitch_sign": 1.0, "rotation": None, "spin": None}
    first = int(model.body_jntadr[torso])
    for joint in range(first, first + int(model.body_jntnum[torso])):
        kind, address = int(model.jnt_type[joint]), int(model.jnt_qposadr[joint])
        axis = data.xaxis[joint]
        if kind == int(mujoco.mjtJoint.mjJNT_FREE):
            spin = int(model.jnt_dofadr[joint]) + 3
            upright = _upright(model.qpos0[address + 3 : address + 7])
            found |= {"rotation": address + 3, "spin": spin, "forward": address}
            return found | {"upright": upright}
        if kind == int(mujoco.mjtJoint.mjJNT_HINGE) and abs(axis[1]) > 0.9:
            found |= {"pitch": address, "pitch_sign": float(np.sign(axis[1]))}
        if kind == int(mujoco.mjtJoint.mjJNT_SLIDE) and abs(axis[0]) > 0.9:
            found |= {"forward": address, "forward_sign": float(np.sign(axis[0]))}
    if "forward" not in found:
        raise ValueError("the torso cannot travel along the world's x axis")
    return found


def _upright(start: Floats) -> tuple[float, float, float, float]:
    """The orientation in which a free torso is upright and its front points along x.

    Most torsos have their own z axis upward: upright they are not turned. In others, such as those
    of motion capture, another axis points upward: upright they are as in the start pose.
    """
    w, x, y, z = (float(part) for part in start)
    return (1.0, 0.0, 0.0, 0.0) if 1 - 2 * (x**2 + y**2) > UPWARD else (w, x, y, z)


def _actuator(model: Any, number: int) -> str:
    import mujoco

    name = model.actuator(number).name
    kinds = mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT
    if not name and int(model.actuator_trntype[number]) in map(int, kinds):
        name = model.joint(int(model.actuator_trnid[number, 0])).name
    return name or f"actuator {number}"
