"""The `Learner` protocol: all state is accessible, so that any run can be resumed exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gallop.errors import DivergedError
from gallop.policies.policy import Array, Policy

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


Tick = Callable[[int], None]
"""Called with the current timestep, at most ten times per second.

It may raise to stop the learner at once. The progress of the segment is then lost, and the run
resumes from the last boundary.
"""


class LogRow(NamedTuple):
    """One row of the log, with SB3's keys."""

    timestep: int
    """Over all environments."""
    values: dict[str, float]
    """SB3's key, such as "train/critic_loss" -> value."""


class SegmentDiagnostics(NamedTuple):
    """What `learn` reports about a segment."""

    rows: list[LogRow]
    """Rows of the log, in order."""
    n_timesteps: int
    """Over all environments."""
    seconds: float
    """Wall-clock time of the loop: acting, stepping, storing, learning."""
    n_unstable: int
    """Episodes truncated because MuJoCo's physics became unstable."""


def diverged(timestep: int, learning_rate: float | str) -> DivergedError:
    """The error for networks that contain or return NaN or infinity.

    Args:
        timestep: of the run, when it was noticed.
        learning_rate: the experiment's, for the advice.
    """
    return DivergedError(
        f"training diverged before timestep {timestep:,}: the networks return NaN or infinity; "
        f"a learning_rate below {learning_rate} may help"
    )


def evidence(timestep: int, rows: Sequence[LogRow], n_unstable: int) -> dict[str, object]:
    """Collect evidence of a divergence as plain JSON: the last row of the log, the last finite
    losses.

    Args:
        timestep: of the run.
        rows: the segment's rows of the log.
        n_unstable: the segment's episodes with unstable physics.
    """
    losses: dict[str, float] = {}
    for row in rows:
        finite = {k: v for k, v in row.values.items() if "loss" in k and math.isfinite(v)}
        losses |= finite
    last = rows[-1].values if rows else {}
    return {
        "timestep": timestep,
        "last_log_row": {k: v if math.isfinite(v) else None for k, v in last.items()},
        "last_finite_losses": losses,
        "n_unstable_episodes": n_unstable,
    }


MAX_UNSTABLE_IN_A_ROW = 10


class UnstableEpisodes:
    """Counts the episodes of a segment that were truncated because of unstable physics.

    Attributes:
        n: their number.
    """

    def __init__(self) -> None:
        self.n = 0
        self._in_a_row = 0

    def note(self, infos: Iterable[Mapping[str, object]], timestep: int) -> None:
        """Count episodes that have ended.

        Args:
            infos: the last `info` of each episode.
            timestep: of the run, for the error message.

        Raises:
            DivergedError: if MAX_UNSTABLE_IN_A_ROW episodes in a row were unstable.
        """
        for info in infos:
            unstable = "unstable_physics" in info
            self.n += unstable
            self._in_a_row = self._in_a_row + 1 if unstable else 0
        if self._in_a_row >= MAX_UNSTABLE_IN_A_ROW:
            raise DivergedError(
                f"MuJoCo's physics became unstable in {self._in_a_row} episodes in a row before "
                f"timestep {timestep:,}: the simulator needs smaller time steps or gentler actions",
                "physics",
            )


class Replay(Protocol):
    """A replay buffer, seen as the sequence of all transitions ever stored in it.

    Rows are numbered from the first timestep. Each has the transitions of all environments at one
    timestep. Only the last `capacity` rows still exist.
    """

    capacity: int
    """Rows that the buffer can hold."""

    @property
    def n_added(self) -> int:
        """Rows stored so far, including those already overwritten."""
        ...

    def read(self, start: int, stop: int) -> dict[str, Array]:
        """Copy rows [start, stop).

        Returns:
            Name -> array [stop − start, n_envs, ...].
        """
        ...

    def write(self, start: int, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Write rows back to their places.

        Args:
            start: number of the first row.
            arrays: as from `read`.
        """
        ...


class Learner(Protocol):
    """Trains a policy. One contract suite, tests/contracts, tests every learner."""

    @property
    def timestep(self) -> int:
        """Timesteps learnt from, over all environments."""
        ...

    @property
    def n_gradient_steps(self) -> int:
        """Gradient steps taken (by the critics, which may take more than the actor)."""
        ...

    @property
    def policy(self) -> Policy:
        """The current policy."""
        ...

    @property
    def replay(self) -> Replay | None:
        """The replay buffer, which `save_state` does not save; None for on-policy algorithms."""
        ...

    def learn(
        self, environments: VecEnv, seed: int, timesteps: int, horizon: int, on_tick: Tick
    ) -> SegmentDiagnostics:
        """Learn for one segment, starting with a reset of the environments.

        Args:
            environments: the training environments, freshly rebuilt.
            seed: of all randomness in this segment, from `seeding.segment_seed`.
            timesteps: over all environments; a multiple of the update interval.
            horizon: the run's last timestep, at which schedules end.
            on_tick: see `Tick`.

        Raises:
            DivergedError: if the networks contain NaN or infinity.
            TaskError: if the task's own code fails.
        """
        ...

    def save_state(self, folder: Path) -> None:
        """Write everything that `load_state` needs, except the replay buffer. No pickle.

        Args:
            folder: an existing folder.
        """
        ...

    def load_state(self, folder: Path) -> None:
        """Restore the state in a folder that `save_state` has written.

        The caller then writes the replay buffer back.
        """
        ...

    def save_policy(self, path: Path) -> None:
        """Write an SB3 zip, and `<stem>.normalizer.npz` if observations are normalised."""
        ...

    def read_policy(self, path: Path) -> None:
        """Start from an SB3 zip: networks, optimizers, entropy coefficient and normaliser.

        Raises:
            PolicyFileError: if the file cannot be read, its networks differ in size from the
                experiment's, or only one of the file and the experiment is normalised.
        """
        ...

    def close(self) -> None:
        """Free the learner's resources."""
        ...
