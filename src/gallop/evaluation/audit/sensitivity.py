"""Sensitivity: a fixed policy's return when the simulator is changed a little.

A return that vanishes at half the physics step, or with a body 20 % heavier, is a property of the
simulator. A return that falls a little is what a robot would show, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments.make import Task
from gallop.environments.spaces import Env
from gallop.errors import DivergedError, ExperimentError
from gallop.evaluation.episodes import Episodes, evaluate
from gallop.experiments.settings import Physics
from gallop.policies.policy import Array, Observations, Policy, begin_episodes

NOISE = 0.02
"""Standard deviation of sensor noise, as a share of each observation's own over the episodes."""
NOISE_SEED = 0
HALF_STEP, NOISY = "half the physics step", f"sensor noise {NOISE:.0%}".replace("%", " %")


class Change(NamedTuple):
    """One change, and the returns with it."""

    name: str
    """Such as "half the physics step"."""
    returns: NDArray[np.float64]
    """One per seed, shape [n]."""
    why_not: str = ""
    """Why there are none; empty if there are."""


def changed_tasks(task: Task, env: Env) -> dict[str, Task]:
    """Name of each change -> the task with it.

    Args:
        task: without changes.
        env: one of its environments, with MuJoCo's model.
    """
    import mujoco

    simulator: Any = env.unwrapped
    option = simulator.model.opt
    is_rk4 = int(option.integrator) == int(mujoco.mjtIntegrator.mjINT_RK4)
    other = "euler" if is_rk4 else "rk4"
    physics = {
        HALF_STEP: Physics(timestep=float(option.timestep) / 2),
        f"integrator {other}": Physics.model_validate({"integrator": other}),
        "friction −20 %": Physics(friction=0.8),
        "friction +20 %": Physics(friction=1.2),
        "mass −20 %": Physics(mass=0.8),
        "mass +20 %": Physics(mass=1.2),
        "actions one timestep late": Physics(action_delay=1),
    }
    tasks = {name: replace(task, physics=each) for name, each in physics.items()}
    noise = getattr(simulator, "_reset_noise_scale", None)
    if isinstance(noise, float | int) and noise > 0:
        kwargs = {**task.kwargs, "reset_noise_scale": 2 * noise}
        tasks[f"reset noise {2 * noise:g} instead of {noise:g}"] = replace(task, kwargs=kwargs)
    return tasks


def sensitivity(
    policy: Policy,
    task: Task,
    tasks: Mapping[str, Task],
    seeds: Sequence[int],
    on_change: Callable[[str], None] = lambda name: None,
) -> list[Change]:
    """Play the same episodes with each change, and with noisy sensors.

    Args:
        policy: a deterministic policy.
        task: without changes.
        tasks: see `changed_tasks`.
        seeds: of the episodes.
        on_change: called after each with its name.
    """
    found = []
    for name, changed in tasks.items():
        found.append(_played(name, policy, changed, seeds))
        on_change(name)
    found.append(_played(NOISY, NoisySensors(policy), task, seeds))
    on_change(NOISY)
    return found


def _played(name: str, policy: Policy, task: Task, seeds: Sequence[int]) -> Change:
    try:
        episodes: Episodes = evaluate(policy, task.make, seeds, task.max_episode_timesteps)
    except (DivergedError, ExperimentError) as error:
        return Change(name, np.full(len(seeds), np.nan), str(error))
    return Change(name, episodes.returns)


class NoisySensors:
    """A policy whose observations are disturbed by normal noise."""

    def __init__(self, policy: Policy, share: float = NOISE) -> None:
        """
        Args:
            policy: the policy.
            share: standard deviation of the noise over that of each observation so far.
        """
        self._policy, self._share = policy, share
        self.begin()

    def begin(self) -> None:
        """Start new episodes, with the same noise."""
        begin_episodes(self._policy)
        self._random = np.random.default_rng(NOISE_SEED)
        self._n, self._sum, self._squares = 0, 0.0, 0.0

    def act(self, observations: Observations) -> Array:
        """Disturb a batch of observations, and return the policy's actions."""
        if not isinstance(observations, np.ndarray):
            return self._policy.act(observations)
        self._n += len(observations)
        self._sum = self._sum + observations.sum(axis=0, dtype=np.float64)
        self._squares = self._squares + (observations.astype(np.float64) ** 2).sum(axis=0)
        variance = self._squares / self._n - (self._sum / self._n) ** 2
        spread = self._share * np.sqrt(np.maximum(variance, 0))
        noise = spread * self._random.standard_normal(observations.shape)
        return self._policy.act((observations + noise).astype(observations.dtype))
