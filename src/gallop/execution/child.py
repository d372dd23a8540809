"""The process that brings one work item to its end, and what its exit code means."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from gallop.answers import Answers, keep_short
from gallop.execution.work import WorkItem
from gallop.execution.worker import ANSWERING, SECONDS_TO_STOP
from gallop.experiments.own_code import ISOLATED
from gallop.run_folder import resume_state

MAX_DEATHS = 10  # deaths by signals without a new boundary in between
LOG = "worker.log"


class ItemProcess:
    """The process of a work item on this machine."""

    def __init__(self, item: WorkItem, n_threads: int, environment: Mapping[str, str]) -> None:
        """
        Args:
            item: what to do.
            n_threads: threads for its arithmetic.
            environment: variables in addition to ours.
        """
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
                    str(item.folder),
                ],
                stdin=subprocess.PIPE,  # closed when this process ends: see worker.py
                stdout=subprocess.PIPE,  # for its answers; what a task prints goes to the log
                stderr=log,
                start_new_session=True,  # Ctrl-C is handled by this process alone
                env={**os.environ, **environment, "OMP_NUM_THREADS": threads},
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
        """Ask it to stop at the next safe moment."""
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
        if (number := signal_of(code)) is not None:
            return f"ended by {number.name}"
        return self._reason or f"ended with exit code {code}; see {self._log}"


def signal_of(code: int) -> signal.Signals | None:
    """Return the signal that ended a process: directly (-n) or after clean-up (128 + n)."""
    try:
        return signal.Signals(-code if code < 0 else code - 128)
    except ValueError:
        return None


class Deaths:
    """How often the processes of each item have been killed without progress."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int]] = {}
        """Folder -> timestep of its last boundary, deaths since then."""

    def may_go_on(self, folder: Path) -> bool:
        """Count a death, and return whether to restart: not after many without progress."""
        timestep = resume_state.last_timestep(folder / "state")
        before, n = self._known.get(folder, (timestep, 0))
        n = n + 1 if timestep == before else 1
        self._known[folder] = timestep, n
        return n < MAX_DEATHS

    @staticmethod
    def explained(reason: str) -> str:
        """Return the reason of an item that died too often."""
        return f"{reason} {MAX_DEATHS} times without progress"
