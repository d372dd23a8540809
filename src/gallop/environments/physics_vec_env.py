"""SB3's vectorised environment on the fast path of MuJoCo tasks.

Importing this module imports Gymnasium and SB3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from gallop.environments.guard import Guard
from gallop.environments.physics import FastPath, fast_path
from gallop.environments.spaces import Env


class PhysicsVecEnv(DummyVecEnv):
    """SB3's `DummyVecEnv`, which takes the fast path where every environment allows it.

    Observations, rewards, ends of episodes and the parts of `info` that learners read are those of
    `DummyVecEnv`, bit by bit. The environments are inspected at every `reset`.
    """

    def __init__(self, makers: Sequence[Callable[[], Env]], n_threads: int) -> None:
        """
        Args:
            makers: functions that make the environments: a wrapper around `Monitor` and `Guard`.
            n_threads: threads that share the physics, if there are several environments.
        """
        super().__init__(list(makers))
        self._n_threads = n_threads
        self._fast: FastPath | None = None
        self._monitors: list[Monitor[Any, Any]] = []

    @property
    def is_fast(self) -> bool:
        """Whether the environments have been reset and are on the fast path."""
        return self._fast is not None

    def reset(self) -> VecEnvObs:
        """Reset all environments, and find out whether they can take the fast path."""
        self._fast = None
        observations = super().reset()
        outer: list[Any] = self.envs
        self._monitors = [env.env for env in outer]
        guards: list[Any] = [monitor.env for monitor in self._monitors]
        if all(type(guard) is Guard for guard in guards):
            self._fast = fast_path(guards, self._n_threads)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments.

        Raises:
            TaskError, DivergedError: as `Guard.step` does.
        """
        fast = self._fast
        if fast is None:
            return super().step_wait()
        has_event = fast.step(self.actions)
        dones = np.zeros(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in self.envs]
        if has_event:
            for index in np.flatnonzero(fast.events).tolist():
                self._end_episode(fast, index, infos[index])
                dones[index] = True
        return fast.observations.copy(), fast.rewards.copy(), dones, infos

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the environments; they may have new simulators after `rebuild`."""
        if method_name == "rebuild":
            self._fast = None
        return super().env_method(method_name, *method_args, indices=indices, **method_kwargs)

    def close(self) -> None:
        """Close the environments."""
        self._fast = None
        super().close()

    def _end_episode(self, fast: FastPath, index: int, info: dict[str, Any]) -> None:
        """Raise what is wrong with a timestep; else reset the environment, whose episode is over.

        Args:
            fast: which has just stepped this environment.
            index: of the environment.
            info: to be filled in, as `Guard`, `Monitor` and `DummyVecEnv` do.
        """
        from gallop import _kernels

        event, rewards = fast.check(index), fast.episode_rewards(index)
        seconds = time.time() - self._monitors[index].t_start
        info["episode"] = {
            "r": round(sum(rewards), 6),
            "l": len(rewards),
            "t": round(seconds, 6),
        }
        if event & _kernels.UNSTABLE:
            info["unstable_physics"] = True
        info["TimeLimit.truncated"] = not event & _kernels.TERMINATED
        info["terminal_observation"] = fast.observations[index].copy()
        fast.observations[index], self.reset_infos[index] = self.envs[index].reset()
        fast.begin(index)
