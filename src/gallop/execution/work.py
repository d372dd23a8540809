"""Work items, and the interface of the engines that run them in parallel.

A work item means "finish the run in this folder". Doing it twice, or again after a kill, changes
nothing: the folder with its state and its lock is the truth, not what an engine remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

HELD = 75
"""Exit code of an item's process if another process holds its folder: it must be retried."""


NO_ROOM = 74
"""Exit code of an item's process after a full disk: the process that waits for it must stop."""


class WorkItem(NamedTuple):
    """Finish the run in a folder."""

    folder: Path
    """An existing folder with an experiment; its `state/` says how far it is."""
    command: tuple[str, ...]
    """A Python module and its arguments, such as ("gallop", "run", "--resume", …)."""


class Ended(NamedTuple):
    """A work item that has ended, successfully or not."""

    item: WorkItem
    exit_code: int
    """0: it is finished. Otherwise `reason` says why not."""
    reason: str


class Engine(Protocol):
    """Runs work items to their ends."""

    def submit(self, item: WorkItem) -> None:
        """Accept an item; items start in the order of submission, when there is room."""

    def poll(self) -> list[Ended]:
        """Start what can start, and return what has ended since the last call; never wait.

        Raises:
            DiskFullError: if the disk is full; the item can be started again when there is space.
        """

    def cancel(self, folder: Path) -> None:
        """Stop the item of this folder at the next safe moment; `poll` does not return it."""

    def close(self) -> None:
        """Stop everything at the next safe moment, and wait for it."""

    @property
    def is_hungry(self) -> bool:
        """Whether another item could start at once."""


MakeEngine: TypeAlias = Callable[[int], Engine]
"""Makes an engine, given the number of items to run in parallel."""
