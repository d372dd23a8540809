"""Which part of a MuJoCo model a camera follows, for films and for Gymnasium's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gallop.environments.spaces import Env

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv


def tracking_camera(model: Any) -> int | None:
    """Return the model's camera "track", else its first one that tracks a body; None without one.

    Args:
        model: a `mujoco.MjModel`.
    """
    import mujoco

    named = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if named >= 0:
        return int(named)
    modes = (mujoco.mjtCamLight.mjCAMLIGHT_TRACK, mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)
    for camera, mode in enumerate(model.cam_mode.tolist()):
        if mode in map(int, modes):
            return camera
    return None


def main_body(model: Any) -> int | None:
    """Return the heaviest body that moves freely, with all that hangs on it; None without one.

    Args:
        model: a `mujoco.MjModel`.
    """
    import mujoco

    free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
    bodies = model.jnt_bodyid[free].tolist()
    return max(bodies, key=lambda body: float(model.body_subtreemass[body]), default=None)


def follow(env: Env) -> None:
    """Make Gymnasium's cameras (film and window) follow the robot."""
    import mujoco

    simulator = cast("MujocoEnv", env.unwrapped)
    renderer, model = simulator.mujoco_renderer, simulator.model
    camera, body = tracking_camera(model), main_body(model)
    if camera is not None:
        renderer.camera_id = camera
        body = int(model.cam_bodyid[camera])
    if body is not None:
        renderer.default_cam_config = {
            **(renderer.default_cam_config or {}),
            "type": int(mujoco.mjtCamera.mjCAMERA_TRACKING),
            "trackbodyid": body,
        }
