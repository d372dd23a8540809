"""Sensitivity: a fixed policy's return when the simulator is changed a little.

A return that vanishes at half the physics step, or with a body 20 % heavier, is a property of the
simulator. A return that falls a little is what a robot would show, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments.make import Task
from gallop.evaluation.episodes import Episodes, evaluate
from gallop.experiments.settings import Physics
from gallop.policies.policy import Array, Observations, Policy, begin_episodes

NOISE = 0.02
"""Standard deviation of sensor noise, as a share of each observation's own over the episodes."""
NOISE_SEED = 0


class Change(NamedTuple):
    """One change, and the returns with it."""

    name: str
    """Such as "half the physics step"."""
    returns: NDArray[np.float64]
    """One per seed, shape [n]."""
    why_not: str = ""
    """Why there are none; empty if there are."""


def changes(timestep: float, integrator: str) -> dict[str, Physics]:
    """The changes of a simulator, by name.

    Args:
        timestep: seconds of its physics step.
        integrator: its own, as in `Physics`.
    """
    other = "euler" if integrator == "rk4" else "rk4"
    return {
        "half the physics step": Physics(timestep=timestep / 2),
        f"integrator {other}": Physics.model_validate({"integrator": other}),
        "friction −20 %": Physics(friction=0.8),
        "friction +20 %": Physics(friction=1.2),
        "mass −20 %": Physics(mass=0.8),
        "mass +20 %": Physics(mass=1.2),
        "actions one timestep late": Physics(action_delay=1),
    }


def sensitivity(
    policy: Policy,
    task: Task,
    seeds: Sequence[int],
    physics: dict[str, Physics],
    on_change: Callable[[str], None] = lambda name: None,
) -> list[Change]:
    """Play the same episodes with each change.

    Args:
        policy: a deterministic policy.
        task: without changes.
        seeds: of the episodes.
        physics: see `changes`.
        on_change: called before each with its name.

    Returns:
        The changes in their order, then noisy sensors and, if the task has that keyword, doubled
        reset noise.
    """
    found = []
    for name, changed in physics.items():
        on_change(name)
        found.append(_played(name, policy, replace(task, physics=changed), seeds))
    on_change("sensor noise")
    found.append(_played("sensor noise 2 %", NoisySensors(policy), task, seeds))
    return found


def _played(name: str, policy: Policy, task: Task, seeds: Sequence[int]) -> Change:
    from gallop.errors import DivergedError, TaskError

    try:
        episodes: Episodes = evaluate(policy, task.make, seeds, task.max_episode_timesteps)
    except (DivergedError, TaskError) as error:
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
