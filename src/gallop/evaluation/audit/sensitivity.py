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
from gallop.errors import DivergedError, ExperimentError, TaskError
from gallop.evaluation.episodes import Episodes, evaluate
from gallop.experiments.settings import Physics
from gallop.policies.policy import Array, Observations, Policy, begin_episodes

NOISE = 0.02
"""Standard deviation of sensor noise, as a share of each observation's own over the episodes."""
NOISE_SEED = 0
HALF_STEP, NOISY = "half the physics step", f"sensor noise {NOISE:.0%}".replace("%", " %")
UNCHANGEABLE = "physics, friction, mass, late actions"


class Change(NamedTuple):
    """One change, and the returns with it."""

    name: str
    """Such as "half the physics step"."""
    returns: NDArray[np.float64]
    """One per seed, shape [n]."""
    why_not: str = ""
    """Why there are none; empty if there are."""


def changed_tasks(task: Task, env: Env) -> dict[str, Task]:
    """Name of each change -> the task with it; none if the simulator cannot be changed.

    That of Gymnasium's MuJoCo tasks can: others may set their model up again at each reset, or
    divide a timestep into physics steps in their own way.

    Args:
        task: without changes.
        env: one of its environments, with MuJoCo's model.
    """
    import mujoco

    simulator: Any = env.unwrapped
    if not hasattr(simulator, "mujoco_renderer"):  # see environments/simulator.py
        return {}
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
    on_timestep: Callable[[], None] = lambda: None,
) -> list[Change]:
    """Play the same episodes with each change, and with noisy sensors.

    Args:
        policy: a deterministic policy.
        task: without changes.
        tasks: see `changed_tasks`.
        seeds: of the episodes.
        on_change: called before each with its name.
        on_timestep: called before each timestep of all episodes.
    """
    found = []
    if not tasks:
        why_not = f"not tried: {task.env} is not one of Gymnasium's MuJoCo tasks"
        found.append(Change(UNCHANGEABLE, np.full(len(seeds), np.nan), why_not))
    for name, changed in {**tasks, NOISY: task}.items():
        on_change(name)
        played_by = NoisySensors(policy) if name == NOISY else policy
        found.append(_played(name, played_by, changed, seeds, on_timestep))
    return found


def _played(
    name: str, policy: Policy, task: Task, seeds: Sequence[int], on_timestep: Callable[[], None]
) -> Change:
    try:
        limit = task.max_episode_timesteps
        episodes: Episodes = evaluate(policy, task.make, seeds, limit, on_timestep)
    except (DivergedError, ExperimentError, TaskError) as error:
        # No flag was given here that the message could name.
        why_not = str(error).removeprefix("--physics: ")
        return Change(name, np.full(len(seeds), np.nan), why_not)
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
        self._sums: dict[str, tuple[int, Any, Any]] = {}

    def act(self, observations: Observations) -> Array:
        """Disturb a batch of observations, and return the policy's actions."""
        if isinstance(observations, np.ndarray):
            return self._policy.act(self._disturbed("", observations))
        return self._policy.act(
            {name: self._disturbed(name, part) for name, part in observations.items()}
        )

    def _disturbed(self, name: str, observations: Array) -> Array:
        n, total, squares = self._sums.get(name, (0, 0.0, 0.0))
        n += len(observations)
        total = total + observations.sum(axis=0, dtype=np.float64)
        squares = squares + (observations.astype(np.float64) ** 2).sum(axis=0)
        self._sums[name] = n, total, squares
        spread = self._share * np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
        noise = spread * self._random.standard_normal(observations.shape)
        disturbed: Array = (observations + noise).astype(observations.dtype)
        return disturbed
