"""Wrappers: the time that is left, an end where physics blows up, a camera that follows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gallop.environments.spaces import Env

# mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC: MuJoCo has found NaN or infinity and has silently
# put the simulator back to its first state.
_UNSTABLE = slice(3, 6)


def time_feature(env: Env, n_timesteps: int = 1000) -> Any:
    """A wrapper: one more observation, 1 − t / n_timesteps, the time that is left of an episode.

    Older policies of the Zoo were trained with it: 18 inputs on Walker2d, 112 on Ant.
    Source: Pardo et al. 2018 (arXiv:1712.00378); the Zoo's TimeFeatureWrapper.
    """
    import gymnasium

    inner: Any = env.observation_space
    low, high = (
        np.append(bound, end).astype(inner.dtype)
        for bound, end in ((inner.low, 0.0), (inner.high, 1.0))
    )
    space = gymnasium.spaces.Box(low, high, dtype=inner.dtype)

    class TimeFeature(gymnasium.Wrapper[Any, Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(env)
            self.observation_space = space
            self._timestep = 0

        def reset(self, **kwargs: Any) -> Any:
            observation, info = self.env.reset(**kwargs)
            self._timestep = 0
            return self._with_time(observation), info

        def step(self, action: Any) -> Any:
            observation, *rest = self.env.step(action)
            self._timestep += 1
            return self._with_time(observation), *rest

        def _with_time(self, observation: Any) -> Any:
            return np.append(observation, 1 - self._timestep / n_timesteps).astype(space.dtype)

    return TimeFeature()


def _stop_at_unstable_physics(env: Env) -> Env:
    """Truncate the episode in which MuJoCo's physics blows up, and say so in `info`."""
    import gymnasium
    import mujoco

    simulator: Any = env.unwrapped

    class StopAtUnstablePhysics(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = self.env.step(action)
            if simulator.data.warning.number[_UNSTABLE].any():
                truncated, info["unstable_physics"] = True, True
            return observation, reward, terminated, truncated, info

    mujoco.set_mju_user_warning(lambda message: None)  # else it writes MUJOCO_LOG.TXT where we are
    return StopAtUnstablePhysics(env)


def _follow(env: Env) -> None:
    """Point both of Gymnasium's cameras (film, window) at the body that the task's own tracks."""
    import mujoco

    simulator: Any = env.unwrapped
    renderer, model = simulator.mujoco_renderer, simulator.model
    camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera
        renderer.default_cam_config = {
            **(renderer.default_cam_config or {}),
            "type": int(mujoco.mjtCamera.mjCAMERA_TRACKING),
            "trackbodyid": int(model.cam_bodyid[camera]),
        }
