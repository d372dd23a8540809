"""The native learner's replay buffer: float32 arrays in which each observation is stored once."""

from __future__ import annotations

from typing import Final, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from gallop.policies.policy import Array

OF_TRANSITIONS: Final[tuple[Literal["actions", "rewards", "ends"], ...]] = (
    "actions",
    "rewards",
    "ends",
)


class ReplayArrays(TypedDict):
    """The buffer as the kernels read it: [rows, ...]."""

    observations: NDArray[np.float32]
    """The ring, followed by the last observations of episodes."""
    following: NDArray[np.int32]
    """Row of the next observation of a transition."""
    actions: NDArray[np.float32]
    """Scaled to [-1, 1]."""
    rewards: NDArray[np.float32]
    """The task's own, before normalisation."""
    ends: NDArray[np.bool_]
    """Whether the episode has terminated, so that the next observation has no value."""


class NativeReplay:
    """The transitions of the last `capacity` timesteps of each environment.

    The next observation of a transition is the first one of the following transition, and is stored
    only there, unless an episode or a segment ended in between. Each array is a ring with one place
    more than its capacity, for the next observation of the newest transition. Row i of a timestep
    belongs to environment i. SB3 stores both observations, in the task's float64, and rounds them
    when it samples.

    Attributes:
        capacity: timesteps of each environment.
        n_added: timesteps stored so far, including those already overwritten.
        arrays: the buffer as the kernels read it.
    """

    def __init__(self, capacity: int, n_envs: int, n_observations: int, n_actions: int) -> None:
        """
        Args:
            capacity: transitions of all environments together.
            n_envs: environments that step together.
            n_observations: size of an observation.
            n_actions: size of an action.
        """
        self.capacity = max(1, capacity // n_envs)
        self.n_added = 0
        self._n_envs = n_envs
        self._n_rows = rows = (self.capacity + 1) * n_envs
        self.arrays: ReplayArrays = {
            # There can be as many last observations as transitions. The operating system provides
            # memory only for rows that are written.
            "observations": np.zeros((2 * rows, n_observations), np.float32),
            "following": np.zeros(rows, np.int32),
            "actions": np.zeros((rows, n_actions), np.float32),
            "rewards": np.zeros(rows, np.float32),
            "ends": np.zeros(rows, np.bool_),
        }
        self._n_last = 0  # rows for last observations that were ever used
        self._free: list[int] = []  # those of them whose transition was overwritten

    @property
    def n_filled(self) -> int:
        """Number of transitions that can be sampled."""
        return min(self.n_added, self.capacity) * self._n_envs

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], *, n_coming: int = 0
    ) -> NDArray[np.int64]:
        """Sample rows of transitions uniformly, with replacement.

        Args:
            rng: a stream of random numbers.
            shape: of the result.
            n_coming: timesteps that count as stored although they will be added only later.
        """
        n_added = self.n_added + n_coming
        picked = rng.integers(0, min(n_added, self.capacity) * self._n_envs, shape)
        if n_added > self.capacity:  # else the oldest is in row 0
            picked += (n_added - self.capacity) * self._n_envs
            picked %= self._n_rows
        return picked

    def includes_next(self, rows: NDArray[np.int64]) -> bool:
        """Whether any of these rows belongs to the timestep that is added next."""
        start = self.n_added * self._n_envs % self._n_rows
        return bool(((rows >= start) & (rows < start + self._n_envs)).any())

    def begin(self, observations: Array) -> None:
        """Store the observations [n_envs, ...] of a timestep, whose `add` must follow.

        Afterwards, `add` changes no row that another thread may read: neither a transition that
        counts as stored then, nor its next observation.
        """
        start = self.n_added * self._n_envs % self._n_rows
        now = slice(start, start + self._n_envs)
        if self.arrays["observations"][now].tobytes() != observations.tobytes() and self.n_added:
            self._make_room(start, observations)
        if self._n_last:
            self._forget(self.arrays["following"][now])
        self.arrays["observations"][now] = observations

    def add(self, **transition: Array) -> None:
        """Store the rest of a timestep of every environment, after `begin`.

        Args:
            **transition: next_observations and actions [n_envs, ...]; rewards and ends [n_envs].
        """
        n, arrays = self._n_envs, self.arrays
        start = self.n_added * n % self._n_rows
        now = slice(start, start + n)
        following = (start + n) % self._n_rows
        arrays["observations"][following : following + n] = transition["next_observations"]
        arrays["following"][now] = np.arange(following, following + n)
        for name in OF_TRANSITIONS:
            arrays[name][now] = transition[name]
        self.n_added += 1

    def read(self, start: int, stop: int) -> dict[str, Array]:
        """Copy rows [start, stop); see `Replay.read`."""
        rows = self._rows(np.arange(start, stop))
        copies: dict[str, Array] = {name: self.arrays[name][rows] for name in OF_TRANSITIONS}
        copies["observations"] = self.arrays["observations"][rows]
        copies["next_observations"] = self.arrays["observations"][self.arrays["following"][rows]]
        return copies

    def write(self, start: int, arrays: dict[str, Array]) -> None:
        """Write rows back to their places, the oldest first; see `Replay.write`."""
        stop = start + len(arrays["rewards"])
        rows, observations = self._rows(np.arange(start, stop)), arrays["observations"]
        if start:
            self._make_room(int(rows[0, 0]), observations[0])
        self.arrays["observations"][rows] = observations
        for name in OF_TRANSITIONS:
            self.arrays[name][rows] = arrays[name]
        following = self._rows(np.arange(start + 1, stop + 1))
        self.arrays["observations"][following[-1]] = arrays["next_observations"][-1]
        self.arrays["following"][rows] = following
        for t, i in np.argwhere(_differ(arrays["next_observations"][:-1], observations[1:])):
            self._keep(rows[t, i], arrays["next_observations"][t, i])

    def _rows(self, timesteps: NDArray[np.int64]) -> NDArray[np.int64]:
        return (timesteps[:, None] * self._n_envs + np.arange(self._n_envs)) % self._n_rows

    def _make_room(self, start: int, observations: Array) -> None:
        """Make room for the first observations of episodes, in the rows from `start` on.

        The observations there are the next ones of earlier transitions. Those that differ are moved
        to rows of their own.
        """
        present = self.arrays["observations"][start : start + self._n_envs].copy()
        for i in np.flatnonzero(_differ(present, observations)):
            self._keep(int(start + i - self._n_envs) % self._n_rows, present[i])

    def _keep(self, row: int, last: Array) -> None:
        """Store a next observation of its own for a transition."""
        if self._free:
            place = self._free.pop()
        else:
            place = self._n_rows + self._n_last
            self._n_last += 1
        self.arrays["observations"][place] = last
        self.arrays["following"][row] = place

    def _forget(self, following: NDArray[np.int32]) -> None:
        """Free the rows of the next observations of transitions that are overwritten."""
        self._free += [int(row) for row in following if row >= self._n_rows]


def _differ(a: Array, b: Array) -> NDArray[np.bool_]:
    """Which observations differ in any bit: [..., size of an observation] -> [...]."""
    different: NDArray[np.bool_] = (a.view(np.uint32) != b.view(np.uint32)).any(axis=-1)
    return different
