"""The engine for one machine: one process per work item, with the cores divided among them.

On two cores, two runs in parallel with one thread each are faster than one after the other with
two threads (benchmarks/two_seeds_on_two_cores.py). So there are as many processes as cores, as
long as there is work for them.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from gallop.execution.child import Deaths, ItemProcess, signal_of
from gallop.execution.work import HELD, NO_ROOM, Ended, WorkItem
from gallop.machine import available_processors
from gallop.run_folder.consent import for_children
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.full_disk import DiskFullError


class OneMachine:
    """This machine, as a place for work items."""

    def n_workers(self, asked: int | None, n_threads: int | None) -> int:
        """Return how many processes run in parallel: no more than the cores allow."""
        room = max(1, available_processors() // (n_threads or 1))
        return room if asked is None else min(asked, room)

    def threads(self, n_workers: int) -> int:
        """Return each process's share of the cores."""
        return max(1, available_processors() // n_workers)

    def engine(self, n_workers: int, n_threads: int | None, store: Path) -> Processes:
        """Return an engine that starts processes."""
        return Processes(n_workers)


class Processes:
    """Runs work items in processes on this machine."""

    def __init__(self, n_workers: int) -> None:
        """Run at most `n_workers` processes; OMP_NUM_THREADS gives each its share of the cores."""
        self._n_workers = n_workers
        self._waiting: deque[WorkItem] = deque()
        self._running: dict[Path, ItemProcess] = {}
        self._stopping: list[ItemProcess] = []
        self._deaths = Deaths()

    @property
    def is_hungry(self) -> bool:
        """Whether another item could start at once."""
        busy = len(self._running) + len(self._stopping) + len(self._waiting)
        return busy < self._n_workers

    def submit(self, item: WorkItem) -> None:
        """Accept an item; a later `poll` starts it, in the order of submission."""
        self._waiting.append(item)

    def poll(self) -> list[Ended]:
        """Start what can start, restart killed processes, and return what has ended.

        Raises:
            DiskFullError: if the disk is full; the item waits for the next call.
        """
        self._stopping = [process for process in self._stopping if process.exit_code() is None]
        ended = []
        for process in list(self._running.values()):
            code = process.exit_code()
            if code is None:
                continue
            del self._running[process.item.folder]
            if code == NO_ROOM:
                self._waiting.appendleft(process.item)
                raise DiskFullError(process.item.folder)
            reason = process.reason(code)
            if code == HELD:
                self._waiting.appendleft(process.item)
            elif signal_of(code) is None:
                ended.append(Ended(process.item, code, reason))
            elif self._deaths.may_go_on(process.item.folder):
                self._waiting.appendleft(process.item)
            else:
                ended.append(Ended(process.item, code, self._deaths.explained(reason)))
        self._begin()
        return ended

    def _begin(self) -> None:
        for item in list(self._waiting):
            if len(self._running) + len(self._stopping) >= self._n_workers:
                return
            # Another process may still hold it, such as an orphan that has yet to stop.
            if RunDirectory(item.folder).is_locked():
                continue
            n = min(self._n_workers, len(self._running) + len(self._waiting))
            self._waiting.remove(item)
            self._running[item.folder] = ItemProcess(
                item, available_processors() // n, for_children()
            )

    def cancel(self, folder: Path) -> None:
        """Stop the item of this folder at the next safe moment; `poll` does not return it."""
        self._waiting = deque(item for item in self._waiting if item.folder != folder)
        process = self._running.pop(folder, None)
        if process is not None:
            process.stop()
            self._stopping.append(process)

    def close(self) -> None:
        """Stop everything at the next safe moment, and wait for it."""
        for folder in [*(item.folder for item in self._waiting), *self._running]:
            self.cancel(folder)
        for process in self._stopping:
            process.wait()
        self._stopping = []
