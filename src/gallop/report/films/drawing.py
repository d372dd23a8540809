"""Drawing MuJoCo's states: what to draw, from where, and with which renderer.

A picture depends on the model and on a pose alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gallop.environments.camera import main_body, tracking_camera
from gallop.report.films.frames import Frame

SIZE = 480  # pixels, height and width
FLOOR_METRES = 2_000.0  # half the floor's length: good policies run 600 m per episode

Renderer = Literal["hardware", "software", "plain"]
"""OpenGL on a graphics card, OpenGL on the CPU, or without OpenGL."""


class Pose(NamedTuple):
    """All that moves in a MuJoCo model."""

    qpos: NDArray[np.float64]
    """Positions of the joints, shape [nq]."""
    mocap: NDArray[np.float64] | None = None
    """Position and quaternion of each body that is moved from outside, shape [nmocap, 7]; None: as
    in the model."""


class Drawer(Protocol):
    """Draws poses of one model."""

    def frame(self, data: Any) -> Frame:
        """Draw a state whose positions are up to date; returns uint8 [SIZE, SIZE, 3]."""

    def close(self) -> None:
        """Free the renderer; to be called before the environment is closed."""


class Studio:
    """A model with its own state, a camera and a renderer."""

    def __init__(
        self,
        model: Any,
        renderer: Renderer,
        view_settings: Mapping[str, Any] | None = None,
        start: Pose | None = None,
    ) -> None:
        """
        Args:
            model: the `mujoco.MjModel`. Its floor is extended for OpenGL, which changes no physics.
            renderer: what draws; effects are switched off for OpenGL in software.
            view_settings: Gymnasium's `default_cam_config`, used if the model has no camera that
                follows the robot.
            start: decides where a camera looks that does not move; default: the model's own pose.
        """
        import mujoco

        self._model, self.data = model, mujoco.MjData(model)
        self.is_plain = renderer == "plain"
        self._robot = robot_of(model)
        self._assume(start or Pose(self.data.qpos.copy()))
        view = view_of(model, self.data, view_settings)
        self._drawer: Drawer
        if renderer == "plain":
            from gallop.report.films.plain_renderer import PlainDrawer

            self._drawer = PlainDrawer(model, view, SIZE)
        else:
            self._drawer = OpenGLDrawer(model, view, renderer == "software")

    def frame(self, pose: Pose) -> Frame:
        """Draw a pose; returns uint8 [SIZE, SIZE, 3]."""
        self._assume(pose)
        return self._drawer.frame(self.data)

    @property
    def place(self) -> NDArray[np.float64] | None:
        """The robot's centre of mass in the latest frame, in m, shape [3]; None without a robot."""
        if self._robot is None:
            return None
        place: NDArray[np.float64] = self.data.subtree_com[self._robot].copy()
        return place

    def close(self) -> None:
        """Free the renderer; to be called before the environment is closed."""
        self._drawer.close()

    def _assume(self, pose: Pose) -> None:
        import mujoco

        self.data.qpos[:] = pose.qpos
        if pose.mocap is not None:
            self.data.mocap_pos[:], self.data.mocap_quat[:] = np.split(pose.mocap, [3], axis=1)
        mujoco.mj_fwdPosition(self._model, self.data)


class OpenGLDrawer:
    """MuJoCo's own renderer."""

    def __init__(self, model: Any, view: Any, software: bool) -> None:
        """
        Args:
            model: the `mujoco.MjModel`.
            view: number of a camera of the model, or a `mujoco.MjvCamera`.
            software: whether OpenGL runs on the CPU; effects are then switched off.
        """
        import mujoco

        extend_floor(model)
        if software:
            model.vis.quality.offsamples = 0  # takes effect only before the first render
        self._view = view
        self._renderer = mujoco.Renderer(model, SIZE, SIZE)
        if software:  # 10 frames per second with these and antialiasing, 84 without (llvmpipe)
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def frame(self, data: Any) -> Frame:
        """Draw a state; returns uint8 [SIZE, SIZE, 3]."""
        self._renderer.update_scene(data, self._view)
        frame: Frame = self._renderer.render()
        return frame

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


def pose_of(data: Any) -> Pose:
    """Return the present pose of a `mujoco.MjData`, as a copy."""
    return Pose(data.qpos.copy(), np.hstack([data.mocap_pos, data.mocap_quat]))


def robot_of(model: Any) -> int | None:
    """Return the heaviest body on the world that can move, with all that hangs on it."""
    on_world = np.flatnonzero((model.body_parentid == 0) & (model.body_weldid != 0))
    mass = model.body_subtreemass
    return max(map(int, on_world), key=lambda body: float(mass[body]), default=None)


def extend_floor(model: Any) -> None:
    """Extend the rendered floor as far as policies run, with tiles of the same size.

    MuJoCo's planes are infinite for collisions, regardless of their rendered size, so the physics
    does not change. A plane of size 0 is drawn without an end already.
    """
    import mujoco

    floor = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, "floor")
    if floor < 0 or model.geom_type[floor] != mujoco.mjtGeom.mjGEOM_PLANE:
        return
    size, material = float(model.geom_size[floor, 0]), model.geom_matid[floor]
    if not 0 < size < FLOOR_METRES or material < 0:
        return
    model.geom_size[floor, :2] = FLOOR_METRES
    model.mat_texrepeat[material] *= FLOOR_METRES / size


def view_of(model: Any, data: Any, settings: Mapping[str, Any] | None) -> Any:
    """Return the model's tracking camera if it has one, else a view that follows the robot.

    Args:
        model: the `mujoco.MjModel`.
        data: a state with positions that are up to date.
        settings: Gymnasium's `default_cam_config` of the task.
    """
    import mujoco

    camera = tracking_camera(model)
    if camera is not None:
        return camera
    view = mujoco.MjvCamera()
    view.distance = model.stat.extent
    view.lookat[:] = np.median(data.geom_xpos, axis=0)
    for name, value in (settings or {}).items():
        if isinstance(value, np.ndarray):
            getattr(view, name)[:] = value
        else:
            setattr(view, name, value)
    body = main_body(model)
    if body is not None:
        view.type, view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, body
    return view
