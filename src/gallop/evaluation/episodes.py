"""Policy + task + seeds → episodes; nothing else.

One episode a seed, each begun with `reset(seed=…)` of its own seed, all stepping together so that
the policy sees one batch a timestep. The batch keeps its size when episodes end, so what a policy
does in one episode does not depend on when the others end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gallop.environments.spaces import Env, Observation, Space
from gallop.policies.policy import Array, Observations, Policy

REWARD_TERM = "reward_"  # Gymnasium's MuJoCo tasks report each term of the reward under this prefix


@dataclass(frozen=True)
class Episodes:
    """n finished episodes of one policy. A return is the sum of an episode's rewards."""

    seeds: NDArray[np.int64]  # [n]
    returns: NDArray[np.float64]  # [n]
    lengths: NDArray[np.int64]  # [n], timesteps
    reward_terms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # name -> [n]
    actions: Sequence[Array] = ()  # n arrays [length, ...]: enough to play the episode again
    n_unstable: int = 0  # episodes cut because MuJoCo's physics blew up


class RandomPolicy:
    """Actions drawn evenly from the action space; episode i has its own stream, from its seed."""

    def __init__(self, action_space: Space, seeds: Sequence[int]) -> None:
        import copy

        self._spaces = [copy.deepcopy(action_space) for _ in seeds]
        for space, seed in zip(self._spaces, seeds, strict=True):
            space.seed(seed)

    def act(self, observations: Observations) -> Array:
        """Actions [n, ...], whatever the observations."""
        return np.stack([space.sample() for space in self._spaces])


def evaluate(
    policy: Policy,
    make: Callable[[], Env],
    seeds: Sequence[int],
    on_timestep: Callable[[], None] = lambda: None,
) -> Episodes:
    """Play one episode for each seed.

    Args:
        policy: deterministic, or a `RandomPolicy` for these seeds.
        make: one environment of the task.
        seeds: of the episodes' first states.
        on_timestep: called before each timestep of all episodes together; what it raises ends them.
    """
    environments = [make() for _ in seeds]
    try:
        latest = [e.reset(seed=s)[0] for e, s in zip(environments, seeds, strict=True)]
        records = [_Record() for _ in seeds]
        while going := [i for i, record in enumerate(records) if not record.ended]:
            on_timestep()
            actions = policy.act(stack(latest))
            for i in going:
                latest[i] = records[i].add(environments[i], actions[i])
    finally:
        for environment in environments:
            environment.close()
    names = list(dict.fromkeys(name for record in records for name in record.terms))
    return Episodes(
        seeds=np.array(seeds, dtype=np.int64),
        returns=np.array([record.total for record in records]),
        lengths=np.array([len(record.actions) for record in records], dtype=np.int64),
        reward_terms={n: np.array([r.terms.get(n, 0.0) for r in records]) for n in names},
        actions=[np.stack(record.actions) for record in records],
        n_unstable=sum(record.unstable for record in records),
    )


class _Record:
    """What one episode has brought so far."""

    def __init__(self) -> None:
        self.total = 0.0
        self.terms: dict[str, float] = {}
        self.actions: list[Array] = []
        self.ended = False
        self.unstable = False

    def add(self, environment: Env, action: Array) -> Observation:
        """Step the environment and return the next observation."""
        # Discrete actions are plain integers for most tasks.
        step = environment.step(action.item() if action.ndim == 0 else action)
        observation, reward, terminated, truncated, info = step
        self.total += float(reward)
        self.actions.append(np.array(action))
        for name, value in info.items():
            if name.startswith(REWARD_TERM) and np.ndim(value) == 0:
                self.terms[name] = self.terms.get(name, 0.0) + float(value)
        self.unstable |= "unstable_physics" in info
        self.ended = bool(terminated or truncated)
        return observation


def stack(observations: Sequence[Observation]) -> Observations:
    """One batch [n, ...] of n observations; a dictionary of batches for Dict spaces."""
    if isinstance(observations[0], Mapping):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)
