"""Wrappers: remaining time, seeded resets, truncation at unstable physics, marks for the watchdog.

Importing this module imports Gymnasium; make.py does so when it makes an environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsFloat, cast

import gymnasium
import numpy as np

from gallop.environments.spaces import Action, Env, Observation
from gallop.environments.watchdog import entered, left, raise_in_main_thread
from gallop.errors import FrozenError

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv

# mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC: MuJoCo has found NaN or infinity and has silently
# reset the simulator to its initial state.
UNSTABLE_PHYSICS = slice(3, 6)


class _Wrapper(gymnasium.Wrapper[Observation, Action, Observation, Action]):
    """A wrapper that does not change the types of observations and actions."""


def time_feature(env: Env, n_timesteps: int = 1000) -> Env:
    """Append the remaining time of the episode, 1 − t / n_timesteps, to the observation.

    Older policies of the Zoo were trained with it: 18 inputs on Walker2d, 112 on Ant.
    Source: Pardo et al. 2018 (arXiv:1712.00378); the Zoo's TimeFeatureWrapper.

    Args:
        env: an environment with a flat Box observation space.
        n_timesteps: timesteps after which the remaining time is 0.
    """
    return TimeFeature(env, n_timesteps)


class TimeFeature(_Wrapper):
    """The wrapper that `time_feature` makes."""

    def __init__(self, env: Env, n_timesteps: int) -> None:
        super().__init__(env)
        inner = cast("gymnasium.spaces.Box", env.observation_space)
        self._dtype = inner.dtype
        low, high = (
            np.append(bound, end).astype(inner.dtype)
            for bound, end in ((inner.low, 0.0), (inner.high, 1.0))
        )
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=inner.dtype)
        self._n_timesteps, self._timestep = n_timesteps, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Reset the environment; the remaining time is 1."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._timestep = 0
        return self._with_time(observation), info

    def step(
        self, action: Action
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, object]]:
        """Step the environment, and append the remaining time."""
        observation, *rest = self.env.step(action)
        self._timestep += 1
        return self._with_time(observation), *rest

    def _with_time(self, observation: Observation) -> Observation:
        time_left = 1 - self._timestep / self._n_timesteps
        return np.append(observation, time_left).astype(self._dtype)


class SeededResets(_Wrapper):
    """Give every reset a seed.

    Some tasks draw from a fresh source of randomness at a reset without a seed, so that no run of
    theirs could be repeated. The seeds come from the stream that the last given seed begins.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._stream: np.random.Generator | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Reset the environment with this seed, or else with the next one of the stream."""
        if seed is not None:
            self._stream = np.random.default_rng(seed)
        elif self._stream is not None:
            seed = int(self._stream.integers(2**31))
        return self.env.reset(seed=seed, options=options)


class StopAtUnstablePhysics(_Wrapper):
    """Truncate an episode in which MuJoCo's physics becomes unstable.

    `info["unstable_physics"]` is then True.
    """

    def __init__(self, env: Env) -> None:
        import mujoco

        super().__init__(env)
        self._simulator = cast("MujocoEnv", env.unwrapped)
        # Otherwise MuJoCo writes MUJOCO_LOG.TXT into the current folder.
        mujoco.set_mju_user_warning(lambda message: None)

    def step(
        self, action: Action
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, object]]:
        """Step the environment, and truncate if MuJoCo has warned of NaN or infinity."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._simulator.data.warning.number[UNSTABLE_PHYSICS].any():
            truncated, info["unstable_physics"] = True, True
        return observation, reward, terminated, truncated, info


class Marked(_Wrapper):
    """Mark each call into an environment of this process, for the watchdog.

    Attributes:
        name: the task's id, for error messages.
    """

    seconds_of_ours = 0.0

    def __init__(self, env: Env, task: str) -> None:
        super().__init__(env)
        self.name = task
        self._timestep = 0
        self._seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Observation, dict[str, object]]:
        """Reset the environment."""
        self._timestep, self._seed = 0, seed
        before = entered(self, "reset()")
        try:
            return self.env.reset(seed=seed, options=options)
        finally:
            left(before)

    def step(
        self, action: Action
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, object]]:
        """Step the environment."""
        self._timestep += 1
        before = entered(self, "step()")
        try:
            return self.env.step(action)
        finally:
            left(before)

    def render(self):  # type: ignore[no-untyped-def]  # the type that the task's own returns
        """Render the environment."""
        before = entered(self, "render()")
        try:
            return self.env.render()
        finally:
            left(before)

    def close(self) -> None:
        """Close the environment."""
        before = entered(self, "close()")
        try:
            self.env.close()
        finally:
            left(before)

    def where(self) -> str:
        """Which environment it is, and its timestep, for an error message."""
        seed = "" if self._seed is None else f" started with seed {self._seed}"
        return f"{self.name}, timestep {self._timestep} of an episode{seed}"

    def interrupt(self, error: FrozenError) -> bool:
        """Raise the error in the main thread, if that thread is in this environment."""
        return raise_in_main_thread(self, error)
