"""The fast path of Gymnasium's MuJoCo tasks: one call into C++ steps several environments.

The kernels (native/physics.hpp) run MuJoCo on each environment's own simulator, and compute
observations and rewards with the bits of Gymnasium's own code. Resets, random numbers, and every
environment that is not exactly Gymnasium's stay with the environments themselves.

Training takes it through `PhysicsVecEnv`, evaluation through `evaluate`. Importing this module
imports Gymnasium.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from numpy.typing import NDArray

from gallop.environments.guard import Guard, bad_action
from gallop.environments.mujoco_terms import GYMNASIUM, TASKS, Terms, UnusualError
from gallop.environments.watchdog import entered, left, raise_in_main_thread
from gallop.environments.wrappers import UNSTABLE_PHYSICS, Marked, StopAtUnstablePhysics
from gallop.errors import FrozenError


class FastPath:
    """n environments that have been reset, and are stepped by the kernels.

    Attributes:
        observations: of the latest timestep, shape [n, n_observations].
        rewards: of the latest timestep, float32, shape [n].
        events: what happened in the latest timestep, shape [n]: sums of the kernels' constants.
        reward_terms: names of the terms of the reward, in the order of Gymnasium's `info`.
    """

    seconds_of_ours = 0.0

    def __init__(
        self,
        guards: Sequence[Guard],
        layers: Sequence[_Layers],
        tasks: Sequence[_TaskTerms],
        functions: _Functions,
        n_threads: int,
    ) -> None:
        from gallop import _kernels

        n, simulator = len(layers), layers[0].simulator
        self._guards = guards
        self._task = layers[0].marked.name
        self.observations = np.zeros((n, *simulator.observation_space.shape))
        self.rewards = np.zeros(n, np.float32)
        self.events = np.zeros(n, np.uint8)
        self.reward_terms = tasks[0].reported
        self._physics = _kernels.Physics(
            **functions._asdict(),
            observations=self.observations,
            rewards=self.rewards,
            events=self.events,
            n_observations=self.observations.shape[1],
            n_actions=simulator.model.nu,
            largest_reward=guards[0].largest_reward,
            n_threads=min(n_threads, n),
        )
        for layer, task in zip(layers, tasks, strict=True):
            simulator = layer.simulator
            self._physics.add(
                model=simulator.model._address,
                data=simulator.data._address,
                frame_skip=simulator.frame_skip,
                seconds=simulator.dt,
                controls=simulator.data.ctrl,
                unstable=simulator.data.warning.number[UNSTABLE_PHYSICS],
                time_limit=layer.time_limit,
                **task.terms,
            )

    def step(self, actions: NDArray[Any]) -> bool:
        """Step all environments that are not paused.

        Args:
            actions: shape [n, n_actions].

        Returns:
            Whether there is an event: call `check` for each environment that has one.
        """
        actions = np.ascontiguousarray(actions)
        if actions.dtype not in (np.float32, np.float64):
            actions = actions.astype(np.float64)
        before = entered(self, "step()")
        try:
            return self._physics.step(actions)
        finally:
            left(before)

    def check(self, index: int) -> int:
        """Return the environment's events, or raise what is wrong with its timestep.

        Raises:
            TaskError, DivergedError: as `Guard.step` does.
        """
        from gallop import _kernels

        event, guard = int(self.events[index]), self._guards[index]
        if event & _kernels.BAD_ACTION:
            raise bad_action()
        if event & _kernels.FAILED:
            raise guard.failure(_fatal(self._physics.error(index)), "step")
        if event & _kernels.BAD_OBSERVATION:
            raise guard.not_finite(self.observations[index])
        if event & _kernels.BAD_REWARD and guard.training:
            raise guard.bad_reward(self._physics.rewards(index)[-1])
        return event

    def episode_rewards(self, index: int) -> list[float]:
        """Return the rewards of this environment since its episode began."""
        return self._physics.rewards(index)

    def episode_sums(self, index: int) -> tuple[float, dict[str, float]]:
        """Return the sums of the reward and of its terms since this environment's episode began."""
        sums = self._physics.sums(index)
        return sums["reward"], {name: sums[name] for name in self.reward_terms}

    def begin(self, index: int) -> None:
        """Begin an episode of this environment, which has been reset."""
        self._physics.begin(index)

    def pause(self, index: int) -> None:
        """Leave this environment out of `step`, until its next episode begins."""
        self._physics.pause(index)

    def where(self) -> str:
        """The task's id, for the watchdog's message."""
        return self._task

    def interrupt(self, error: FrozenError) -> bool:
        """Raise the error in the main thread, if that thread is in these environments."""
        return raise_in_main_thread(self, error)


def fast_path(guards: Sequence[Guard], n_threads: int) -> FastPath | None:
    """Take the fast path, if all environments allow it.

    Args:
        guards: environments that have just been reset: a `Guard` around what `make_env` makes.
        n_threads: threads that share the physics, if there are several environments.

    Returns:
        None if an environment needs its own `step`.
    """
    try:
        from gallop import _kernels  # noqa: F401  (they may be missing)
    except ImportError:
        return None
    try:
        layers = [_layers(guard) for guard in guards]
        tasks = [_terms(layer.simulator) for layer in layers]
    except UnusualError:
        return None
    if (functions := _mujoco_functions()) is None:
        return None
    return FastPath(guards, layers, tasks, functions, n_threads)


# --- what an environment consists of -------------------------------------------------------------


class _Layers(NamedTuple):
    """The parts of an environment that the fast path stands in for."""

    marked: Marked
    time_limit: int
    """Timesteps of an episode; 0: no limit."""
    simulator: Any
    """Gymnasium's own environment, a `MujocoEnv`."""


class _TaskTerms(NamedTuple):
    terms: Terms
    reported: tuple[str, ...]
    """Names of the terms of the reward in `info`."""


def _layers(guard: Guard) -> _Layers:
    """Take an environment apart.

    Raises:
        UnusualError: if there is any other wrapper than those of `make_env`.
    """
    env: Any = guard.env
    found: list[Any] = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(env)
        env = env.env
    limits = [layer._max_episode_steps for layer in found if type(layer) is TimeLimit]
    limit_layers = [TimeLimit] * len(limits)
    usual = [Marked, StopAtUnstablePhysics, *limit_layers, OrderEnforcing]
    if [type(layer) for layer in found] != usual or len(limits) > 1:
        raise UnusualError
    return _Layers(found[0], limits[0] if limits else 0, env)


def _terms(simulator: Any) -> _TaskTerms:
    """Describe what a task observes and rewards.

    Raises:
        UnusualError: if it is not exactly one of Gymnasium's tasks of TASKS, or is rendered, or has
            a setting of an unusual type.
    """
    task = type(simulator)
    known = TASKS.get(f"{task.__module__}:{task.__qualname__}")
    if known is None or gymnasium.__version__ != GYMNASIUM or simulator.render_mode is not None:
        raise UnusualError
    model, space = simulator.model, simulator.observation_space
    if type(simulator.frame_skip) is not int or model.nq < 3 or model.nu < 1:
        raise UnusualError
    describe, reported = known
    found = describe(simulator)
    size = sum(numbers.size for numbers, *_ in found["observation"])
    if space.shape != (size,) or space.dtype != np.float64:
        raise UnusualError
    return _TaskTerms(found, reported)


class _Functions(NamedTuple):
    """Addresses in the MuJoCo library of this process."""

    mj_step: int
    mj_rne_post_constraint: int
    mju_user_error: int
    """Address of this variable."""


def _mujoco_functions() -> _Functions | None:
    """Find them; None if the library cannot be found."""
    from gallop.environments import mujoco_library as mujoco

    try:
        return _Functions(
            mujoco.function("mj_step"),
            mujoco.function("mj_rnePostConstraint"),
            mujoco.variable("mju_user_error"),
        )
    except LookupError:
        return None


def _fatal(message: str) -> Exception:
    """The exception that MuJoCo's Python package raises for such an error."""
    import mujoco

    error: Exception = mujoco.FatalError(message)
    return error
