"""The fast path of Gymnasium's MuJoCo tasks: one call into C++ steps all environments.

The kernels (native/physics.hpp) run MuJoCo on each environment's own simulator, and compute
observations and rewards with the bits of Gymnasium's own code. Resets, random numbers, and every
environment that is not exactly Gymnasium's stay with the environments themselves.

Importing this module imports Gymnasium and SB3.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from gallop.environments.guard import Guard, bad_action
from gallop.environments.mujoco_terms import GYMNASIUM, TASKS, Terms, UnusualError
from gallop.environments.spaces import Env
from gallop.environments.watchdog import entered, left, raise_in_main_thread
from gallop.environments.wrappers import UNSTABLE_PHYSICS, Marked, StopAtUnstablePhysics
from gallop.errors import FrozenError

if TYPE_CHECKING:
    from gallop import _kernels


class PhysicsVecEnv(DummyVecEnv):
    """SB3's `DummyVecEnv`, which takes the fast path where every environment allows it.

    Observations, rewards, ends of episodes and the parts of `info` that learners read are those of
    `DummyVecEnv`, bit by bit. The environments are inspected at every `reset`.
    """

    seconds_of_ours = 0.0

    def __init__(self, makers: Sequence[Callable[[], Env]], task: str, n_threads: int) -> None:
        """
        Args:
            makers: functions that make the environments: a wrapper around `Monitor` and `Guard`.
            task: name of the environments in error messages.
            n_threads: threads that share the physics, if there are several environments.
        """
        super().__init__(list(makers))
        self._task, self._n_threads = task, n_threads
        shape = self.num_envs, *(self.observation_space.shape or ())
        self._observations = np.zeros(shape)
        self._rewards = np.zeros(self.num_envs, np.float32)
        self._events = np.zeros(self.num_envs, np.uint8)
        self._layers: list[_Layers] = []
        self._physics: _kernels.Physics | None = None

    @property
    def is_fast(self) -> bool:
        """Whether the environments have been reset and are on the fast path."""
        return self._physics is not None

    def reset(self) -> VecEnvObs:
        """Reset all environments, and find out whether they can take the fast path."""
        self._physics = None
        observations = super().reset()
        self._physics = self._make_physics()
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments.

        Raises:
            TaskError, DivergedError: as `Guard.step` does.
        """
        physics = self._physics
        if physics is None:
            return super().step_wait()
        actions = np.ascontiguousarray(self.actions)
        if actions.dtype.kind != "f":
            actions = actions.astype(np.float64)
        before = entered(self, "step()")
        try:
            has_event = physics.step(actions)
        finally:
            left(before)
        dones = np.zeros(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in self.envs]
        if has_event:
            for index in np.flatnonzero(self._events).tolist():
                self._end_episode(physics, index, infos[index])
                dones[index] = True
        return self._observations.copy(), self._rewards.copy(), dones, infos

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the environments; they may have new simulators after `rebuild`."""
        if method_name == "rebuild":
            self._physics = None
        return super().env_method(method_name, *method_args, indices=indices, **method_kwargs)

    def close(self) -> None:
        """Close the environments."""
        self._physics = None
        super().close()

    def where(self) -> str:
        """The task's id, for the watchdog's message."""
        return self._task

    def interrupt(self, error: FrozenError) -> bool:
        """Raise the error in the main thread, if that thread is in these environments."""
        return raise_in_main_thread(self, error)

    def _end_episode(self, physics: _kernels.Physics, index: int, info: dict[str, Any]) -> None:
        """Raise what is wrong with a timestep; else reset the environment, whose episode is over.

        Args:
            physics: which has just stepped this environment.
            index: of the environment.
            info: to be filled in, as `Guard`, `Monitor` and `DummyVecEnv` do.
        """
        from gallop import _kernels

        event, layers = int(self._events[index]), self._layers[index]
        if event & _kernels.BAD_ACTION:
            raise bad_action()
        if event & _kernels.FAILED:
            raise layers.guard.failure(_fatal(physics.error(index)), "step")
        if event & _kernels.BAD_OBSERVATION:
            raise layers.guard.not_finite(self._observations[index])
        rewards = physics.rewards(index)
        if event & _kernels.BAD_REWARD:
            raise layers.guard.bad_reward(rewards[-1])
        seconds = time.time() - layers.monitor.t_start
        info["episode"] = {
            "r": round(sum(rewards), 6),
            "l": len(rewards),
            "t": round(seconds, 6),
        }
        if event & _kernels.UNSTABLE:
            info["unstable_physics"] = True
        info["TimeLimit.truncated"] = not event & _kernels.TERMINATED
        info["terminal_observation"] = self._observations[index].copy()
        self._observations[index], self.reset_infos[index] = self.envs[index].reset()
        physics.begin(index)

    def _make_physics(self) -> _kernels.Physics | None:
        """Connect the kernels with the simulators; None if an environment needs its own `step`."""
        try:
            from gallop import _kernels
        except ImportError:
            return None
        if (functions := _mujoco_functions()) is None:
            return None
        try:
            self._layers = [_layers(env) for env in self.envs]
            terms = [_terms(layers.simulator) for layers in self._layers]
        except UnusualError:
            return None
        physics = _kernels.Physics(
            **functions._asdict(),
            observations=self._observations,
            rewards=self._rewards,
            events=self._events,
            n_observations=self._observations.shape[1],
            n_actions=self._layers[0].simulator.model.nu,
            largest_reward=self._layers[0].guard.largest_reward,
            n_threads=min(self._n_threads, self.num_envs),
        )
        for layers, own in zip(self._layers, terms, strict=True):
            simulator = layers.simulator
            physics.add(
                model=simulator.model._address,
                data=simulator.data._address,
                frame_skip=simulator.frame_skip,
                seconds=simulator.dt,
                controls=simulator.data.ctrl,
                unstable=simulator.data.warning.number[UNSTABLE_PHYSICS],
                time_limit=layers.time_limit,
                **own,
            )
        return physics


# --- what an environment consists of -------------------------------------------------------------


class _Layers(NamedTuple):
    """The parts of an environment that the fast path stands in for."""

    monitor: Monitor[Any, Any]
    guard: Guard
    time_limit: int
    """Timesteps of an episode; 0: no limit."""
    simulator: Any
    """Gymnasium's own environment, a `MujocoEnv`."""


def _layers(env: Env) -> _Layers:
    """Take an environment apart.

    Args:
        env: made by `make_env` without a user's wrapper, and wrapped as `PhysicsVecEnv` says.

    Raises:
        UnusualError: if there is any other wrapper.
    """
    found: list[Any] = []
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        found.append(env)
    simulator = found.pop()
    limits = [layer._max_episode_steps for layer in found if type(layer) is TimeLimit]
    limit_layers = [TimeLimit] * len(limits)
    usual = [Monitor, Guard, Marked, StopAtUnstablePhysics, *limit_layers, OrderEnforcing]
    if [type(layer) for layer in found] != usual or len(limits) > 1:
        raise UnusualError
    return _Layers(found[0], found[1], limits[0] if limits else 0, simulator)


def _terms(simulator: Any) -> Terms:
    """Describe what a task observes and rewards.

    Raises:
        UnusualError: if it is not exactly one of Gymnasium's tasks of TASKS, or is rendered, or has
            a setting of an unusual type.
    """
    task = type(simulator)
    terms = TASKS.get(f"{task.__module__}:{task.__qualname__}")
    if terms is None or gymnasium.__version__ != GYMNASIUM or simulator.render_mode is not None:
        raise UnusualError
    model, space = simulator.model, simulator.observation_space
    if type(simulator.frame_skip) is not int or model.nq < 3 or model.nu < 1:
        raise UnusualError
    found = terms(simulator)
    size = sum(numbers.size for numbers, *_ in found["observation"])
    if space.shape != (size,) or space.dtype != np.float64:
        raise UnusualError
    return found


class _Functions(NamedTuple):
    """Addresses in the MuJoCo library of this process."""

    mj_step: int
    mj_rne_post_constraint: int
    mju_user_error: int
    """Address of this variable."""


@functools.cache
def _mujoco_functions() -> _Functions | None:
    """Find the library that MuJoCo's Python package has loaded; None if there is none."""
    import mujoco

    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    for path in Path(mujoco.__file__).parent.glob("libmujoco*"):
        try:
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:
            continue
        step, post = (
            ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            for name in ("mj_step", "mj_rnePostConstraint")
        )
        on_error = ctypes.addressof(ctypes.c_void_p.in_dll(library, "mju_user_error"))
        assert step is not None and post is not None
        return _Functions(step, post, on_error)
    return None


def _fatal(message: str) -> Exception:
    """The exception that MuJoCo's Python package raises for such an error."""
    import mujoco

    error: Exception = mujoco.FatalError(message)
    return error
