"""What is done side by side: work items, and the small interface of whoever does them.

A work item says "bring this folder to its end". Doing it twice, or again after a kill, changes
nothing: the truth is the folder with its state and its lock, never what an engine remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

HELD = 75
"""Exit code of an item's process that found its folder held by another: to be tried again."""


NO_ROOM = 74
"""Exit code of an item's process that met a full disk: whoever waits for the item has to stop."""


class WorkItem(NamedTuple):
    """Bring a run's folder to its end."""

    folder: Path
    """Made already, with its experiment; `state/` in it says how far it is."""
    command: tuple[str, ...]
    """Python module that does it, and its arguments, such as ("gallop", "run", "--resume", …)."""


class Ended(NamedTuple):
    """A work item that will not go on by itself."""

    item: WorkItem
    exit_code: int
    """0: it is done. Otherwise `reason` says why not."""
    reason: str


class Engine(Protocol):
    """Whoever brings work items to their ends."""

    def submit(self, item: WorkItem) -> None:
        """Take an item; it begins when there is room, in the order of submission."""

    def poll(self) -> list[Ended]:
        """Begin what can begin, and tell of what has ended since the last call; never waits.

        Raises:
            DiskFullError: if an item met a full disk; it can begin again when there is room.
        """

    def cancel(self, folder: Path) -> None:
        """Stop the item of this folder at its next safe instant; `poll` does not tell of it."""

    def close(self) -> None:
        """Stop everything at its next safe instant, and wait until it has."""

    @property
    def is_hungry(self) -> bool:
        """Whether another item could begin at once."""


MakeEngine: TypeAlias = Callable[[int], Engine]
"""Takes how many items are to be worked on side by side."""
