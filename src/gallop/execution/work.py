"""Work items, and the interfaces of what runs them: a place, and its engine.

A work item means "finish the run in this folder". Doing it twice, or again after a kill, changes
nothing: the folder with its state and its lock is the truth, not what an engine remembers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

HELD = 75
"""Exit code if another process holds the folder: try again later (EX_TEMPFAIL of sysexits.h)."""


NO_ROOM = 74
"""Exit code of an item's process after a full disk: the process that waits for it must stop."""


class WorkItem(NamedTuple):
    """Finish the run in a folder."""

    folder: Path
    """An existing folder with an experiment; its `state/` says how far it is."""
    command: tuple[str, ...]
    """A Python module and its arguments, to which the folder is added: ("gallop", "run", …)."""


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
            RunError: if the engine cannot go on; folders keep what their processes have saved.
        """

    def cancel(self, folder: Path) -> None:
        """Stop the item of this folder at the next safe moment; `poll` does not return it."""

    def close(self) -> None:
        """Stop everything at the next safe moment, and wait for it."""

    @property
    def is_hungry(self) -> bool:
        """Whether another item could start at once."""


class Place(Protocol):
    """Where work items run: this machine, or a cluster."""

    def n_workers(self, asked: int | None, n_threads: int | None) -> int:
        """Return how many items run in parallel: as requested, but no more than there is room for.

        Args:
            asked: the number requested; None: as many as possible.
            n_threads: threads per item, if its experiment sets them.

        Raises:
            ExperimentError: if the place cannot be used.
        """

    def threads(self, n_workers: int) -> int:
        """Return the threads of each of so many items, unless their experiment sets them."""

    def engine(self, n_workers: int, n_threads: int | None, store: Path) -> Engine:
        """Return a new engine that runs at most `n_workers` items in parallel.

        Args:
            n_workers: from the method of this name.
            n_threads: threads per item, if its experiment sets them.
            store: a folder that holds the folders of all items.

        Raises:
            ExperimentError: if the place cannot be used, or not with this store.
        """
