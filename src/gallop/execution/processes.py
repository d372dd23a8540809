"""The engine for one machine: one process per work item, with the cores divided among them.

On two cores, two runs in parallel with one thread each are faster than one after the other with
two threads (benchmarks/two_seeds_on_two_cores.py). So there are as many processes as cores, as
long as there is work for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from gallop.answers import Answers, keep_short
from gallop.execution.work import HELD, NO_ROOM, Ended, WorkItem
from gallop.execution.worker import ANSWERING, SECONDS_TO_STOP
from gallop.experiments.own_code import ISOLATED
from gallop.machine import available_processors
from gallop.run_folder import resume_state
from gallop.run_folder.consent import for_children
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.full_disk import DiskFullError

MAX_DEATHS = 10  # deaths of a process by signals without a new boundary in between
LOG = "worker.log"


def n_workers(asked: int | None = None, n_threads: int | None = None) -> int:
    """Return the number of parallel processes: as requested, but no more than the cores allow.

    Args:
        asked: the number requested; None: as many as possible.
        n_threads: threads per process, if the experiment sets them.
    """
    room = max(1, available_processors() // (n_threads or 1))
    return room if asked is None else min(asked, room)


class Processes:
    """Runs work items in processes on this machine."""

    def __init__(self, n_workers: int) -> None:
        """Run at most `n_workers` processes; OMP_NUM_THREADS gives each its share of the cores."""
        self._n_workers = n_workers
        self._waiting: deque[WorkItem] = deque()
        self._running: dict[Path, _Process] = {}
        self._stopping: list[_Process] = []
        self._deaths: dict[Path, tuple[int, int]] = {}
        """Folder -> timestep of its last boundary, deaths since then."""

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
            if code == HELD or (_signal(code) and self._may_go_on(process.item)):
                self._waiting.appendleft(process.item)
            else:
                ended.append(Ended(process.item, code, process.reason(code)))
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
            self._running[item.folder] = _Process(item, available_processors() // n)

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

    def _may_go_on(self, item: WorkItem) -> bool:
        """Return whether to restart a killed process: not after many deaths without progress."""
        timestep = resume_state.last_timestep(item.folder / "state")
        before, n = self._deaths.get(item.folder, (timestep, 0))
        n = n + 1 if timestep == before else 1
        self._deaths[item.folder] = timestep, n
        return n < MAX_DEATHS


class _Process:
    """The process of a work item."""

    def __init__(self, item: WorkItem, n_threads: int) -> None:
        self.item = item
        self._log = item.folder / LOG
        threads = str(max(1, n_threads))
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    ISOLATED,
                    "-m",
                    "gallop.execution.worker",
                    ANSWERING,
                    *item.command,
                ],
                stdin=subprocess.PIPE,  # closed when this process ends: see worker.py
                stdout=subprocess.PIPE,  # for its answers; what a task prints goes to the log
                stderr=log,
                start_new_session=True,  # Ctrl-C is handled by this process alone
                env={**os.environ, **for_children(), "OMP_NUM_THREADS": threads},
            )

        self._answers = Answers(self._child.stdout)
        self._reason: str | None = None

    def exit_code(self) -> int | None:
        """Return the exit code; None while running; -n or 128 + n after signal n."""
        keep_short(self._log)
        code = self._child.poll()
        if code is not None and self._child.stdin is not None:
            self._child.stdin.close()
            self._reason = self._reason or self._answers.latest("reason", has_ended=True)
        return code

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has stopped; kill it after a while, which its folder survives."""
        until = time.monotonic() + SECONDS_TO_STOP
        while self.exit_code() is None:
            if time.monotonic() > until:
                self._child.kill()
            time.sleep(0.02)

    def reason(self, code: int) -> str:
        """Return the reason that the process gave, or the signal that ended it."""
        if code == 0:
            return ""
        if (number := _signal(code)) is not None:
            return f"ended by {number.name} {MAX_DEATHS} times without progress"
        return self._reason or f"ended with exit code {code}; see {self._log}"


def _signal(code: int) -> signal.Signals | None:
    """Return the signal that ended a process: directly (-n) or after clean-up (128 + n)."""
    try:
        return signal.Signals(-code if code < 0 else code - 128)
    except ValueError:
        return None
