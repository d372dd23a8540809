"""The Learner protocol: all its state in the open, so that any run can be resumed exactly."""

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
"""Called with the current timestep, at most ten times a second. It may raise to stop at once; what
the segment has learnt is then lost, and the last boundary is where the run goes on."""


class LogRow(NamedTuple):
    """What SB3 would log at one timestep, under SB3's keys."""

    timestep: int
    values: dict[str, float]


class SegmentDiagnostics(NamedTuple):
    """What a segment tells about itself."""

    rows: list[LogRow]
    n_timesteps: int
    seconds: float
    """Wall-clock time of the loop: acting, stepping, storing, learning."""
    n_unstable: int
    """Episodes cut because MuJoCo's physics blew up."""


def diverged(timestep: int, learning_rate: float | str) -> DivergedError:
    """The networks hold or give NaN or infinity, whatever the task does."""
    return DivergedError(
        f"training diverged before timestep {timestep:,}: the networks give NaN or infinity; "
        f"a learning_rate below {learning_rate} may help"
    )


def evidence(timestep: int, rows: Sequence[LogRow], n_unstable: int) -> dict[str, object]:
    """What led to a divergence, as plain JSON: the last row of the log, the last finite losses."""
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
    """Counts the episodes of a segment that were cut because MuJoCo's physics blew up."""

    def __init__(self) -> None:
        self.n = 0
        self._in_a_row = 0

    def note(self, infos: Iterable[Mapping[str, object]], timestep: int) -> None:
        """Take `info` of episodes that have ended.

        Raises:
            DivergedError: if nothing else has happened for a while.
        """
        for info in infos:
            unstable = "unstable_physics" in info
            self.n += unstable
            self._in_a_row = self._in_a_row + 1 if unstable else 0
        if self._in_a_row >= MAX_UNSTABLE_IN_A_ROW:
            raise DivergedError(
                f"MuJoCo's physics blew up in {self._in_a_row} episodes in a row before timestep "
                f"{timestep:,}: the simulator needs smaller time steps or gentler actions",
                "physics",
            )


class Replay(Protocol):
    """A replay buffer seen as the sequence of all transitions ever stored in it.

    Rows count from the first timestep on; each holds the transitions of all environments at that
    timestep. Only the last `capacity` rows still exist.
    """

    capacity: int

    @property
    def n_added(self) -> int:
        """Rows stored so far, those already overwritten included."""
        ...

    def read(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of rows [start, stop) by array name; each array is [stop − start, n_envs, ...]."""
        ...

    def write(self, start: int, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Put rows back where they stood."""
        ...


class Learner(Protocol):
    """Changes a policy. One contract suite, tests/contracts, runs on every learner."""

    @property
    def timestep(self) -> int:
        """Timesteps learnt from, over all environments."""
        ...

    @property
    def n_gradient_steps(self) -> int:
        """Gradient steps done (of the critics, where these are more)."""
        ...

    @property
    def policy(self) -> Policy:
        """The policy as it is now."""
        ...

    @property
    def replay(self) -> Replay | None:
        """The replay buffer, which `save_state` leaves to its caller; None on-policy."""
        ...

    def learn(
        self, environments: VecEnv, seed: int, timesteps: int, horizon: int, on_tick: Tick
    ) -> SegmentDiagnostics:
        """Learn one segment: reset the environments, draw everything random from `seed`.

        Args:
            environments: freshly rebuilt.
            seed: of this segment, from `seeding.segment_seed`.
            timesteps: over all environments; a multiple of the quantum.
            horizon: the run's last timestep, at which schedules end.
            on_tick: see `Tick`.

        Raises:
            DivergedError: if the networks hold NaN or infinity.
        """
        ...

    def save_state(self, folder: Path) -> None:
        """Write all that `load_state` needs, except the replay buffer. No pickle."""
        ...

    def load_state(self, folder: Path) -> None:
        """Become the learner that wrote this folder; the replay buffer is then written back."""
        ...

    def save_policy(self, path: Path) -> None:
        """Write an SB3 zip; where observations are normalised, `<stem>.normalizer.npz` too."""
        ...

    def read_policy(self, path: Path) -> None:
        """Go on from an SB3 zip: its networks, their optimizers, the entropy coefficient, and the
        normaliser beside it.

        Raises:
            PolicyFileError: if the file cannot be read, holds other networks than the experiment
                asks for, or was normalised where the experiment is not (and the reverse).
        """
        ...

    def close(self) -> None:
        """Free what the learner holds."""
        ...
