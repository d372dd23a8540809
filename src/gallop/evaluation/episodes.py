"""Playing episodes: from a policy, a task and seeds to episodes.

There is one episode per seed, started with `reset(seed=…)`. All episodes step together, so that
the policy gets one batch per timestep. The batch keeps its size when episodes end, so a policy's
actions in one episode do not depend on when the others end. Where they can, the kernels step all
environments at once (environments/physics.py), with the same results.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gallop.environments.spaces import Env, Observation, Space, time_limit
from gallop.environments.task_errors import as_number, say_once
from gallop.errors import TaskError, counted
from gallop.experiments.seeding import spans
from gallop.experiments.task import cut_after
from gallop.policies import kernels
from gallop.policies.policy import Array, Observations, Policy, begin_episodes

if TYPE_CHECKING:
    from gallop.environments.physics import FastPath

log = logging.getLogger(__name__)

REWARD_TERM = "reward_"  # Gymnasium's MuJoCo tasks report each term of the reward under this prefix


NONE: Array = np.zeros(0, np.float32)  # the actions of an episode that never started


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
        """Number of episodes that were ended because they did not end by themselves."""
        return 0 if self.cut is None else int(self.cut.sum())

    @property
    def n_not_finite(self) -> int:
        """Number of returns that are NaN or infinite."""
        return int((~np.isfinite(self.returns)).sum())

    @property
    def first_finite(self) -> int | None:
        """Index of the first episode with a finite return; None if there is none."""
        return next(iter(np.flatnonzero(np.isfinite(self.returns)).tolist()), None)


class RandomPolicy:
    """Samples actions uniformly from the action space; each episode has its own random stream."""

    def __init__(self, action_space: Space, seeds: Sequence[int]) -> None:
        """Create the policy.

        Args:
            action_space: of the task.
            seeds: one per episode, for its random stream.
        """
        import copy

        self._spaces = [copy.deepcopy(action_space) for _ in seeds]
        for space, seed in zip(self._spaces, seeds, strict=True):
            space.seed(seed)

    def act(self, observations: Observations) -> Array:
        """Return actions, shape [n, ...], regardless of the observations."""
        return np.stack([space.sample() for space in self._spaces])


def evaluate(
    policy: Policy,
    make: Callable[[], Env],
    seeds: Sequence[int],
    max_timesteps: int | None = None,
    on_timestep: Callable[[], None] = lambda: None,
    n_threads: int | None = None,
) -> Episodes:
    """Play one episode per seed.

    Args:
        policy: a deterministic policy, or a `RandomPolicy` for these seeds.
        make: makes one environment of the task.
        seeds: of the episodes' initial states.
        max_timesteps: cut an episode after this many; default: `cut_after` the task's time limit.
        on_timestep: called before each timestep of all episodes; an exception ends them.
        n_threads: threads that share the physics where the kernels step the environments; default:
            as many as one run uses.

    Returns:
        The episodes, in the order of the seeds.

    Raises:
        TaskError: if the task's code fails, or returns invalid values.
        DivergedError: if the policy returns NaN.
    """
    terms = _Terms()
    records: list[_Record] = []
    played: list[Array] = []  # each timestep's actions
    try:
        for seed in seeds:  # one by one, so that all are closed if one fails
            records.append(_Record(make(), seed, terms))
        if max_timesteps is None:
            max_timesteps = cut_after(records[0].time_limit)
        for record in records:
            record.begin()
        begin_episodes(policy)
        stepping = _stepping(records, n_threads)
        while not all(record.ended for record in records):
            on_timestep()
            actions = policy.act(stepping.observations())
            played.append(np.array(actions))  # a copy, before the task can change it
            stepping.step(actions, is_last=len(played) >= max_timesteps)
    finally:
        for record in records:
            record.environment.close()
    return Episodes(
        seeds=np.array(seeds, dtype=np.int64),
        returns=np.array([record.total for record in records]),
        lengths=np.array([record.length for record in records], dtype=np.int64),
        reward_terms={
            name: np.array([record.terms.get(name, 0.0) for record in records])
            for name in dict.fromkeys(name for record in records for name in record.terms)
            if name not in terms.unusable
        },
        actions=[_actions_of(played, i, record.length) for i, record in enumerate(records)],
        n_unstable=sum(record.unstable for record in records),
        cut=np.array([record.cut for record in records]),
    )


def _actions_of(played: Sequence[Array], index: int, length: int) -> Array:
    """The actions of one episode, shape [length, ...]."""
    return np.stack([actions[index] for actions in played[:length]]) if length else NONE


class _Terms:
    """Reads terms of the reward from `info`, and notes which ones are unusable."""

    def __init__(self) -> None:
        self.unusable: set[str] = set()

    def read(self, info: Mapping[Any, Any], task: str) -> Iterator[tuple[str, float]]:
        """Yield names and values of the terms in a timestep's `info`."""
        for name, value in info.items():
            if not isinstance(name, str) or not name.startswith(REWARD_TERM):
                continue
            number = as_number(value)
            if number is not None:
                yield name, number
            elif name not in self.unusable:
                self.unusable.add(name)
                say_once(f"{task}: {name!r} in info is not a number; left out of episodes.csv")


class _Record:
    """One episode and its results so far."""

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
        self.length = 0
        self.ended = False
        self.unstable = False
        self.cut = False

    def begin(self) -> None:
        """Reset the environment."""
        with self.without_return():
            self.observation, _ = self.environment.reset(seed=self._seed)

    def step(self, action: Array, is_last: bool) -> None:
        """Step the environment; `is_last`: the episode ends here in any case."""
        self.length += 1
        with self.without_return():
            # Most tasks expect plain integers as discrete actions.
            step = self.environment.step(action.item() if action.ndim == 0 else action)
        if self.ended:
            return
        self.observation, reward, terminated, truncated, info = step
        self.total += reward
        for name, value in self._terms.read(info, self._task):
            self.terms[name] = self.terms.get(name, 0.0) + value
        self.unstable |= info.get("unstable_physics") is True
        self.end(terminated or truncated, is_last)

    def end(self, by_itself: bool, is_last: bool) -> None:
        """End the episode, if it ends by itself or this is its last timestep."""
        self.cut = is_last and not by_itself
        self.ended = by_itself or is_last

    @contextlib.contextmanager
    def without_return(self) -> Iterator[None]:
        """End the episode, without a return, at an observation that is not finite.

        Other errors of the task end the evaluation.
        """
        try:
            yield
        except TaskError as error:
            error.where = f"in the episode of seed {self._seed}, timestep {self.length:,}"
            if error.cause != "observation":
                raise
            log.info("%s; the episode ends here without a return", error)  # the table counts them
            self.total, self.ended = float("nan"), True


class _Stepping(Protocol):
    """Steps the environments of episodes that have begun, and updates their records."""

    def observations(self) -> Observations:
        """Return the observations of all episodes, also of those that have ended."""

    def step(self, actions: Array, is_last: bool) -> None:
        """Step the episodes that have not ended.

        Args:
            actions: of all episodes, shape [n, ...].
            is_last: episodes that do not end by themselves are cut after this timestep.

        Raises:
            TaskError, DivergedError: as `evaluate` does.
        """


def _stepping(records: Sequence[_Record], n_threads: int | None) -> _Stepping:
    """Choose how to step the environments of these episodes."""
    if any(record.ended for record in records):
        return _OneByOne(records)
    from gallop.environments.physics import fast_path  # imports Gymnasium

    n_threads = kernels.n_threads(n_threads)
    fast = fast_path([record.environment for record in records], n_threads)
    return _OneByOne(records) if fast is None else _Together(records, fast)


class _OneByOne:
    """Each environment steps itself."""

    def __init__(self, records: Sequence[_Record]) -> None:
        self._records = records
        # The batch keeps its size: an episode that did not start repeats another's observation.
        shown = next((record.observation for record in records if not record.ended), None)
        for record in records:
            if record.ended:
                record.observation = shown

    def observations(self) -> Observations:
        return stack([record.observation for record in self._records])

    def step(self, actions: Array, is_last: bool) -> None:
        for record, action in zip(self._records, actions, strict=True):
            if not record.ended:
                record.step(action, is_last)


class _Together:
    """The kernels step all environments."""

    def __init__(self, records: Sequence[_Record], fast: FastPath) -> None:
        self._records, self._fast = records, fast
        self._n_timesteps = 0
        for index, record in enumerate(records):
            fast.observations[index] = record.observation
        self._shown = fast.observations.copy()

    def observations(self) -> Observations:
        self._shown = self._fast.observations.copy()
        return self._shown

    def step(self, actions: Array, is_last: bool) -> None:
        self._n_timesteps += 1
        if self._fast.step(actions) or is_last:
            for index, record in enumerate(self._records):
                if not record.ended:
                    self._update(index, record, is_last)

    def _update(self, index: int, record: _Record, is_last: bool) -> None:
        """Update the record of an episode after a timestep in which it may have ended."""
        from gallop import _kernels

        fast = self._fast
        record.length = self._n_timesteps
        with record.without_return():
            event = fast.check(index)
        total, terms = fast.episode_sums(index)
        if record.ended:  # not finite: the policy must not see this observation
            fast.observations[index] = self._shown[index]
            record.terms = terms if record.length > 1 else {}
        else:
            record.unstable = bool(event & _kernels.UNSTABLE)
            by_itself = event & (_kernels.TERMINATED | _kernels.TIME_LIMIT | _kernels.UNSTABLE)
            record.end(by_itself != 0, is_last)
            record.total, record.terms = total, terms
        if record.ended:
            fast.pause(index)


def stack(observations: Sequence[Observation]) -> Observations:
    """Stack n observations to a batch, shape [n, ...], or a dictionary of batches."""
    if isinstance(observations[0], Mapping):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)
