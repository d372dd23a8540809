"""A locomotion task for any robot with a free body: walk forward, upright.

    gallop run --algo sac --env gallop.environments.robot:Robot-v0 --env-kwargs '{xml_file: …}' …

Gymnasium's Ant-v5 takes another robot's file, too, but starts it with straight legs in the floor,
takes any height for healthy, punishes the angles at which a position servo stands, and shows it
contact forces that are always 0. This task takes the start pose from a keyframe, measures height
and tilt, and takes actions relative to the pose.

Importing this module imports Gymnasium and MuJoCo; that registers the task.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from numpy.typing import NDArray

from gallop.environments.robot_models import model_path

Array = NDArray[np.float64]

SECONDS_PER_TIMESTEP = 0.02
"""Of control, if `frame_skip` is not given: 50 timesteps per second."""

SECONDS_TO_SETTLE = 1.0
"""In which the feet of the start pose reach the floor."""

FOOT_SIZE = 0.2
"""Reach of a foot around the point that touches the floor in the pose, as a share of the height."""


class _Contact(NamedTuple):
    """A point of the robot that touches the world."""

    body: int
    point: Array
    """In the body's axes."""


class _Joints(NamedTuple):
    """The joints that the actuators move, in the order of the actuators."""

    qpos: NDArray[np.int64]
    """Index of each angle in qpos."""
    qvel: NDArray[np.int64]
    """Index of each velocity in qvel."""


class Robot(MujocoEnv):
    """Walk forward, upright.

    Action: one number from -1 to 1 per actuator. For position servos, and for motors with
    `stiffness`, it moves the target angle away from the pose, by up to `action_scale` radians. For
    motors without, it is a share of their largest torque.

    Observation: direction of gravity and velocities of the body, in its own axes (3 + 3 + 3), then
    angle relative to the pose, velocity and last action of each joint. Nothing in it depends on
    where the robot is, or on its heading.

    Reward, per timestep: `reward_forward` = the velocity in m/s in the direction that the body
    faces, at most `top_speed`; `reward_healthy`; and costs, which are negative: `reward_ctrl`, the
    mean square of the action; `reward_turn`, the square of the angular velocity about the vertical;
    `reward_tilt`, the square of the sine of the tilt; `reward_height`, the square of the height
    relative to that in the pose, minus 1; `reward_contact`, 1 if anything touches the floor that
    does not touch it in the pose: a shin, for example.

    An episode ends when the body is lower than `healthy_height` times its height in the pose, or
    tilted by more than `max_tilt` degrees.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "depth_array"]}  # noqa: RUF012

    def __init__(
        self,
        xml_file: str,
        frame_skip: int | None = None,
        keyframe: str | int | None = None,
        action_scale: float = 0.3,
        stiffness: float | None = None,
        damping: float = 1.0,
        forward_reward_weight: float = 1.0,
        top_speed: float = 1.0,
        healthy_reward: float = 0.5,
        ctrl_cost_weight: float = 0.1,
        turn_cost_weight: float = 0.1,
        tilt_cost_weight: float = 2.0,
        height_cost_weight: float = 5.0,
        contact_cost_weight: float = 1.0,
        healthy_height: float = 0.7,
        max_tilt: float = 30.0,
        reset_noise_scale: float = 0.05,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            xml_file: path of an MJCF file with a body that moves freely; or gallop:NAME for one of
                Gallop's own, or menagerie:NAME[/ENTRY] for one of MuJoCo Menagerie.
            frame_skip: physics steps per timestep; default: as many as 0.02 s take.
            keyframe: name or number of the keyframe with the start pose; default: "home", else the
                first one, else MuJoCo's initial configuration.
            action_scale: radians by which an action of 1 moves a target angle.
            stiffness: torque per radian towards the target angle, in Nm; default: that of the
                model's servos, while motors follow no target.
            damping: with `stiffness`: torque per rad/s against the joint's velocity.
            forward_reward_weight: weight of the forward velocity.
            top_speed: m/s, above which the reward does not grow.
            healthy_reward: per timestep.
            ctrl_cost_weight: weight of the mean square of the action.
            turn_cost_weight: weight of the square of the angular velocity about the vertical.
            tilt_cost_weight: weight of the square of the sine of the tilt.
            height_cost_weight: weight of the square of the relative error of the height.
            contact_cost_weight: per timestep in which more than the feet touch the floor.
            healthy_height: least height of the body, as a share of that in the pose.
            max_tilt: degrees by which the body may be tilted.
            reset_noise_scale: radians, and rad/s, by which initial angles and velocities vary.
            **kwargs: of Gymnasium's MujocoEnv.
        """
        path = str(model_path(xml_file))
        model = mujoco.MjModel.from_xml_path(path)
        if frame_skip is None:
            frame_skip = max(1, round(SECONDS_PER_TIMESTEP / model.opt.timestep))
        super().__init__(path, frame_skip, observation_space=None, **kwargs)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.dt)}
        self._root = _free_joint(self.model)
        self._joints = _joints(self.model)
        self._is_servo = np.asarray(self.model.actuator_biastype != mujoco.mjtBias.mjBIAS_NONE)
        self._stiffness, self._damping = stiffness, damping
        if stiffness is not None:
            self._set_servo_gains(stiffness, damping)
        self._action_scale = action_scale
        self._weights = {
            "reward_forward": forward_reward_weight,
            "reward_healthy": healthy_reward,
            "reward_ctrl": -ctrl_cost_weight,
            "reward_turn": -turn_cost_weight,
            "reward_tilt": -tilt_cost_weight,
            "reward_height": -height_cost_weight,
            "reward_contact": -contact_cost_weight,
        }
        self._top_speed = top_speed
        self._least_uprightness = float(np.cos(np.radians(max_tilt)))
        self._noise = reset_noise_scale
        pose = _keyframe(self.model, keyframe)
        if pose is not None:
            self.init_qpos = self.model.key_qpos[pose].copy()
        self._pose = self.init_qpos[self._joints.qpos].copy()
        self._height = float(self.init_qpos[self._root.qpos + 2])
        self._least_height = healthy_height * self._height
        self._last_action = np.zeros(self.model.nu)
        self._feet = self._find_feet()
        n = self.model.nu
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (n,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (9 + 3 * n,), np.float64)

    def reset_model(self) -> Array:
        """Start in the pose, give or take the noise."""
        qpos, qvel = self.init_qpos.copy(), np.zeros(self.model.nv)
        n, noise = self.model.nu, self._noise
        qpos[self._joints.qpos] += self.np_random.uniform(-noise, noise, n)
        qvel[self._joints.qvel] += self.np_random.uniform(-noise, noise, n)
        self.set_state(qpos, qvel)  # type: ignore[no-untyped-call]
        self._last_action = np.zeros(n)
        return self._observation()

    def step(self, action: NDArray[np.float32]) -> Any:
        """One timestep, as in Gymnasium."""
        self._last_action = np.clip(np.asarray(action, np.float64), -1, 1)
        before = self._position()
        self._simulate()
        position, rotation = self._position(), self._rotation()
        velocity = (position - before) / self.dt
        forward = float(velocity[:2] @ _heading(rotation))
        healthy = self._is_healthy(rotation)
        values = {
            "reward_forward": min(forward, self._top_speed),
            "reward_healthy": float(healthy),
            "reward_ctrl": float(np.mean(self._last_action**2)),
            "reward_turn": float(self.data.qvel[self._root.qvel + 5]) ** 2,
            "reward_tilt": 1 - float(rotation[2, 2]) ** 2,
            "reward_height": (float(position[2]) / self._height - 1) ** 2,
            "reward_contact": float(self._touches_with_more_than_feet()),
        }
        terms = {name: weight * values[name] for name, weight in self._weights.items()}
        info = {"x_velocity": float(velocity[0]), "x_position": float(position[0]), **terms}
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._observation(), sum(terms.values()), not healthy, False, info

    def _set_servo_gains(self, stiffness: float, damping: float) -> None:
        """Give the servos a stiffness and a damping, which count at the joint, behind the gear."""
        model, servos = self.model, self._is_servo
        gear = model.actuator_gear[servos, 0]
        model.actuator_gainprm[servos, 0] = stiffness / gear**2
        model.actuator_biasprm[servos, 1] = -stiffness / gear**2
        model.actuator_biasprm[servos, 2] = -damping / gear**2

    def _simulate(self) -> None:
        """Take the physics steps of a timestep."""
        low, high = self.model.actuator_ctrlrange.T
        limited = self.model.actuator_ctrllimited.astype(bool)
        target = self._pose + self._action_scale * self._last_action
        gear = self.model.actuator_gear[:, 0]
        for _ in range(self.frame_skip):
            if self._stiffness is None:
                torque = self._last_action * np.where(limited, high, 1.0)
            else:
                error = target - self.data.qpos[self._joints.qpos]
                velocity = self.data.qvel[self._joints.qvel]
                torque = (self._stiffness * error - self._damping * velocity) / gear
            control = np.where(self._is_servo, gear * target, torque)
            self.data.ctrl[:] = np.where(limited, np.clip(control, low, high), control)
            mujoco.mj_step(self.model, self.data)

    def _find_feet(self) -> list[_Contact]:
        """Let the robot settle in its pose; return where it touches the floor meanwhile."""
        self.set_state(self.init_qpos, np.zeros(self.model.nv))  # type: ignore[no-untyped-call]
        feet = list[_Contact]()
        for _ in range(round(SECONDS_TO_SETTLE / self.dt)):
            self._simulate()
            feet += [found for found in self._on_the_floor() if not self._is_at(found, feet)]
        return feet

    def _touches_with_more_than_feet(self) -> bool:
        return not all(self._is_at(found, self._feet) for found in self._on_the_floor())

    def _on_the_floor(self) -> list[_Contact]:
        """Where the robot touches the world."""
        data, found = self.data, list[_Contact]()
        for geoms, point in zip(data.contact.geom, data.contact.pos, strict=True):
            bodies = self.model.geom_bodyid[geoms]
            moves = self.model.body_weldid[bodies] != 0  # not a part of the world
            if moves.sum() == 1:
                body = int(bodies[moves][0])
                axes = data.xmat[body].reshape(3, 3)
                found.append(_Contact(body, (point - data.xpos[body]) @ axes))
        return found

    def _is_at(self, found: _Contact, feet: list[_Contact]) -> bool:
        """Whether a contact is near one of these on the same body."""
        size = FOOT_SIZE * self._height
        return any(
            found.body == foot.body and float(np.linalg.norm(found.point - foot.point)) < size
            for foot in feet
        )

    def _position(self) -> Array:
        """Where the body is."""
        start = self._root.qpos
        position: Array = self.data.qpos[start : start + 3].copy()
        return position

    def _rotation(self) -> Array:
        """The body's axes in the world, as the columns of a matrix."""
        start, matrix = self._root.qpos + 3, np.zeros(9)
        mujoco.mju_quat2Mat(matrix, self.data.qpos[start : start + 4])
        return matrix.reshape(3, 3)

    def _is_healthy(self, rotation: Array) -> bool:
        """Whether the body is high and upright enough."""
        height, uprightness = float(self._position()[2]), float(rotation[2, 2])
        return height >= self._least_height and uprightness >= self._least_uprightness

    def _observation(self) -> Array:
        rotation, root = self._rotation(), self._root
        velocity = self.data.qvel[root.qvel : root.qvel + 3] @ rotation
        turning = self.data.qvel[root.qvel + 3 : root.qvel + 6]  # MuJoCo has it in the body's axes
        return np.concatenate(
            [
                *(-rotation[2], velocity, turning),
                self.data.qpos[self._joints.qpos] - self._pose,
                self.data.qvel[self._joints.qvel],
                self._last_action,
            ]
        )


def _heading(rotation: Array) -> Array:
    """Direction, on the ground, that the body faces: its x axis, seen from above."""
    axis = rotation[:2, 0]
    heading: Array = axis / max(float(np.hypot(*axis)), 1e-9)
    return heading


class _Root(NamedTuple):
    """The joint of the body that moves freely."""

    qpos: int
    qvel: int


def _free_joint(model: Any) -> _Root:
    """Find the free joint.

    Raises:
        ValueError: if there is none.
    """
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    if not free.size:
        raise ValueError("no body of the robot moves freely: its MJCF needs a <freejoint/>")
    return _Root(int(model.jnt_qposadr[free[0]]), int(model.jnt_dofadr[free[0]]))


def _joints(model: Any) -> _Joints:
    """Find the joints of the actuators.

    Raises:
        ValueError: if an actuator does not move a single hinge or slide.
    """
    simple = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    found = []
    for actuator in range(model.nu):
        joint = int(model.actuator_trnid[actuator, 0])
        is_joint = model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT
        if not is_joint or model.jnt_type[joint] not in map(int, simple):
            name = model.actuator(actuator).name or str(actuator)
            raise ValueError(f"the actuator {name} does not move a hinge or slide joint")
        found.append(joint)
    if not found:
        raise ValueError("the robot has no actuators")
    joints = np.array(found)
    return _Joints(
        model.jnt_qposadr[joints].astype(np.int64), model.jnt_dofadr[joints].astype(np.int64)
    )


def _keyframe(model: Any, wanted: str | int | None) -> int | None:
    """Return the number of the keyframe with the start pose; None if there is none.

    Raises:
        ValueError: if the model has no such keyframe.
    """
    names = [model.key(number).name for number in range(model.nkey)]
    if wanted is None:
        return names.index("home") if "home" in names else (0 if names else None)
    if isinstance(wanted, str) and wanted in names:
        return names.index(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    known = ", ".join(name or str(number) for number, name in enumerate(names)) or "none"
    raise ValueError(f"keyframe {wanted!r}: the model has {known}")


gymnasium.register("Robot-v0", "gallop.environments.robot:Robot", max_episode_steps=1_000)
