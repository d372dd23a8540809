"""Recognise wrappers that change rewards, and wrappers that keep running statistics.

Importing this module imports Gymnasium; make.py does so when it makes an environment.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import SupportsFloat

import gymnasium
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from gymnasium.wrappers import vector as of_vectors

from gallop.environments.actions import for_policies
from gallop.environments.guard import Guard
from gallop.environments.spaces import Action, Env, Observation
from gallop.environments.wrappers import Marked
from gallop.errors import ExperimentError, TaskError

N_COMPARED = 20  # timesteps over which a wrapper's rewards are compared with the task's
_OF_OBSERVATIONS = (NormalizeObservation, of_vectors.NormalizeObservation)
_OF_REWARDS = (NormalizeReward, of_vectors.NormalizeReward)


class Received(gymnasium.Wrapper[Observation, Action, Observation, Action]):
    """Sum up the rewards below a wrapper that may change them.

    Attributes:
        total: sum of all rewards so far.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.total = 0.0

    def step(
        self, action: Action
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, object]]:
        """Step the environment, and add its reward to `total`."""
        observation, reward, *rest = self.env.step(action)
        self.total += float(reward)
        return observation, reward, *rest


def chain(env: object, until: object = None) -> Iterator[object]:
    """Iterate over an environment's wrappers, outermost first, and the task inside them.

    Args:
        env: an environment with its wrappers.
        until: where to stop: neither this part nor anything inside it is included.
    """
    while env is not until and env is not None:
        yield env
        env = vars(env).get("env") if isinstance(env, gymnasium.Wrapper) else None


def changes_rewards_alone(outer: object, inner: object) -> bool:
    """Whether everything between `outer` and `inner` is a reward wrapper, which changes nothing
    else: without it, the same policy plays the same episode."""
    added = list(chain(outer, inner))
    return bool(added) and all(
        isinstance(part, gymnasium.RewardWrapper)
        and type(part).step is gymnasium.RewardWrapper.step
        and type(part).reset is gymnasium.Wrapper.reset
        for part in added
    )


def compared(
    task: str, env: Env, wraps: Sequence[tuple[str, Callable[[Env], Env]]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find out which wrappers change rewards.

    Args:
        task: id of the task.
        env: the task, which takes its own actions; it is closed afterwards.
        wraps: name and wrapper function of each wrapper; the first is applied first.

    Returns:
        Names of those that change nothing else, and names of the others that changed a reward in
        the timesteps played here.
    """
    alone: list[str] = []
    others: list[str] = []
    meters: list[Received] = []  # below each of the others, and above the last
    try:
        for name, wrap in wraps:
            meter = Received(env)
            outer = wrap(meter)
            if changes_rewards_alone(outer, meter):
                alone.append(name)
            else:
                env = outer
                others.append(name)
                meters.append(meter)
        top = Received(env)
        meters.append(top)
        changed = _steps(task, top, meters) if others else []
    finally:
        Guard(Marked(env, task), task).close()
    return tuple(alone), tuple(others[i] for i in changed)


def _steps(task: str, env: Received, meters: Sequence[Received]) -> list[int]:
    """Play a few timesteps; return the places between two meters where rewards were changed.

    If the task fails here, it fails in training, too, which reports the error.
    """
    played = Guard(for_policies(Marked(env, task)), task)
    changed: set[int] = set()
    with contextlib.suppress(TaskError):
        played.reset(seed=0)
        played.action_space.seed(0)
        for _ in range(N_COMPARED):
            _, _, terminated, truncated, _ = played.step(played.action_space.sample())
            for place, (inner, outer) in enumerate(pairwise(meters)):
                if not math.isclose(inner.total, outer.total, rel_tol=1e-6, abs_tol=1e-9):
                    changed.add(place)
            if terminated or truncated:
                break
    return sorted(changed)


def refuse_statistics(env: object) -> None:
    """Refuse wrappers whose running statistics would restart with every environment.

    Args:
        env: an environment with its wrappers, or a wrapper's class.

    Raises:
        ExperimentError: naming the first one, and the setting to use instead.
    """
    parts = [env] if isinstance(env, type) else chain(env)
    for part in parts:
        kind = part if isinstance(part, type) else type(part)
        normalised = (
            "rewards" if issubclass(kind, _OF_REWARDS)
            else "observations" if issubclass(kind, _OF_OBSERVATIONS) or _has_statistics(part)
            else ""
        )  # fmt: skip
        if normalised:
            raise ExperimentError(
                f"{kind.__module__}:{kind.__qualname__} keeps running statistics, which would "
                "restart in every segment and evaluation; remove it and use "
                f"--normalize.{normalised} true, which keeps them for the whole run",
                "wrappers",
            )


def _has_statistics(part: object) -> bool:
    """Whether a wrapper holds a RunningMeanStd: Gymnasium's, SB3's, or a copy of one."""
    if not isinstance(part, gymnasium.Wrapper):
        return False
    return any(type(value).__name__.endswith("RunningMeanStd") for value in vars(part).values())
