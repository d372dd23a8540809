"""Policy + task + seeds → episodes; nothing else.

One episode a seed, each begun with `reset(seed=…)` of its own seed, all stepping together so that
the policy sees one batch a timestep. The batch keeps its size when episodes end, so what a policy
does in one episode does not depend on when the others end.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.environments.spaces import Env, Observation, Space, time_limit
from gallop.environments.task_errors import as_number, say_once
from gallop.errors import TaskError, counted
from gallop.experiments.seeding import spans
from gallop.experiments.task import cut_after
from gallop.policies.policy import Array, Observations, Policy

log = logging.getLogger(__name__)

REWARD_TERM = "reward_"  # Gymnasium's MuJoCo tasks report each term of the reward under this prefix


NONE: Array = np.zeros(0, np.float32)  # the actions of an episode that has not begun


@dataclass(frozen=True, repr=False)
class Episodes:
    """n finished episodes of one policy. A return is the sum of an episode's rewards."""

    seeds: NDArray[np.int64]
    """Seeds that the episodes were reset with, shape [n]."""
    returns: NDArray[np.float64]
    """Undiscounted returns, shape [n]; NaN if an episode has none."""
    lengths: NDArray[np.int64]
    """Timesteps of each episode, shape [n]."""
    reward_terms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Name of a reward term of the task -> its sum over each episode, shape [n]."""
    actions: Sequence[Array] = ()
    """Actions of each episode, shape [length, ...], which are enough to replay it."""
    n_unstable: int = 0
    """Episodes that ended early because MuJoCo's physics became unstable."""
    cut: NDArray[np.bool_] | None = None
    """Whether each episode was cut because it did not end by itself, shape [n]; None if unknown."""

    def __repr__(self) -> str:
        if not len(self.seeds):
            return "Episodes(0 episodes)"
        return (
            f"Episodes({counted(len(self.seeds), 'episode')}, "
            f"mean return {self.returns.mean():,.1f}, seeds {spans(self.seeds)})"
        )

    @property
    def n_cut(self) -> int:
        """Episodes that were ended because they did not end by themselves."""
        return 0 if self.cut is None else int(self.cut.sum())

    @property
    def n_not_finite(self) -> int:
        """Returns that are NaN or infinite."""
        return int((~np.isfinite(self.returns)).sum())

    @property
    def first_finite(self) -> int | None:
        """Index of the first episode with a finite return; None if there is none."""
        return next(iter(np.flatnonzero(np.isfinite(self.returns)).tolist()), None)


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
    max_timesteps: int | None = None,
    on_timestep: Callable[[], None] = lambda: None,
) -> Episodes:
    """Play one episode for each seed.

    Args:
        policy: deterministic, or a `RandomPolicy` for these seeds.
        make: one environment of the task.
        seeds: of the episodes' first states.
        max_timesteps: after which an episode is cut; default: `cut_after` the task's time limit.
        on_timestep: called before each timestep of all episodes together; what it raises ends them.

    Raises:
        TaskError: if the task's own code fails, or gives what cannot be used.
        DivergedError: if the policy gives NaN.
    """
    terms = _Terms()
    records: list[_Record] = []
    try:
        for seed in seeds:  # one after another: those before one that fails are closed, too
            records.append(_Record(make(), seed, terms))
        if max_timesteps is None:
            max_timesteps = cut_after(records[0].time_limit)
        for record in records:
            record.begin()
        # The batch keeps its size: an episode that has not begun shows what another one sees.
        shown = next((record.observation for record in records if not record.ended), None)
        for record in records:
            if record.ended:
                record.observation = shown
        while going := [i for i, record in enumerate(records) if not record.ended]:
            on_timestep()
            actions = policy.act(stack([record.observation for record in records]))
            for i in going:
                records[i].step(actions[i], max_timesteps)
    finally:
        for record in records:
            record.environment.close()
    return Episodes(
        seeds=np.array(seeds, dtype=np.int64),
        returns=np.array([record.total for record in records]),
        lengths=np.array([len(record.actions) for record in records], dtype=np.int64),
        reward_terms={
            name: np.array([record.terms.get(name, 0.0) for record in records])
            for name in dict.fromkeys(name for record in records for name in record.terms)
            if name not in terms.unusable
        },
        actions=[np.stack(record.actions) if record.actions else NONE for record in records],
        n_unstable=sum(record.unstable for record in records),
        cut=np.array([record.cut for record in records]),
    )


class _Terms:
    """Which terms of the reward can be used."""

    def __init__(self) -> None:
        self.unusable: set[str] = set()

    def read(self, info: Mapping[Any, Any], task: str) -> Iterator[tuple[str, float]]:
        """The terms that a timestep's `info` tells, by name."""
        for name, value in info.items():
            if not isinstance(name, str) or not name.startswith(REWARD_TERM):
                continue
            number = as_number(value)
            if number is not None:
                yield name, number
            elif name not in self.unusable:
                self.unusable.add(name)
                say_once(f"{task} gives {name!r} as no number in info: left out of episodes.csv")


class _Record:
    """One episode and what it has brought so far."""

    def __init__(self, environment: Env, seed: int, terms: _Terms) -> None:
        from gallop.environments.guard import Guard  # imports Gymnasium

        spec = environment.spec
        self.time_limit = time_limit(environment)
        self._task = type(environment.unwrapped).__name__ if spec is None else spec.id
        self.environment = Guard(environment, self._task)
        self._seed, self._terms = seed, terms
        self.observation: Observation = None
        self.total = 0.0
        self.terms: dict[str, float] = {}
        self.actions: list[Array] = []
        self.ended = False
        self.unstable = False
        self.cut = False

    def begin(self) -> None:
        """Reset the environment."""
        with self._without_return():
            self.observation, _ = self.environment.reset(seed=self._seed)

    def step(self, action: Array, max_timesteps: int) -> None:
        """Step the environment."""
        self.actions.append(np.array(action))  # before the task can write into it
        with self._without_return():
            # Discrete actions are plain integers for most tasks.
            step = self.environment.step(action.item() if action.ndim == 0 else action)
        if self.ended:
            return
        self.observation, reward, terminated, truncated, info = step
        self.total += reward
        for name, value in self._terms.read(info, self._task):
            self.terms[name] = self.terms.get(name, 0.0) + value
        self.unstable |= info.get("unstable_physics") is True
        self.ended = terminated or truncated
        if not self.ended and len(self.actions) >= max_timesteps:
            self.ended = self.cut = True

    @contextlib.contextmanager
    def _without_return(self) -> Iterator[None]:
        """End the episode where an observation is not finite: no policy can go on, and its return
        is not known. Whatever else the task does wrong ends the evaluation."""
        try:
            yield
        except TaskError as error:
            error.where = f"in the episode of seed {self._seed}, timestep {len(self.actions):,}"
            if error.cause != "observation":
                raise
            log.info("%s; the episode ends here and has no return", error)  # the table counts them
            self.total, self.ended = float("nan"), True


def stack(observations: Sequence[Observation]) -> Observations:
    """One batch [n, ...] of n observations; a dictionary of batches for Dict spaces."""
    if isinstance(observations[0], Mapping):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)
