"""Messages from a child process to its parent, kept apart from whatever a task prints.

A task may print anything, including lines that look like ours. So a child first reserves its
standard output, a pipe, for its answers. Everything printed from then on goes to standard error,
which the parent redirects to a log. An answer is a JSON object on a line of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from gallop.errors import printable, shortened

MAX_BYTES = 1 << 20  # of the latest answers, which the parent keeps
MAX_LOG_BYTES = 10_000_000

_descriptor: int | None = None


# --- in the child --------------------------------------------------------------------------------


def take_standard_output() -> None:
    """Reserve standard output for answers; from now on, printing goes to standard error.

    Processes started by this one do not inherit the pipe.
    """
    global _descriptor
    sys.stdout.flush()
    _descriptor = os.dup(1)
    os.dup2(2, 1)


def tell(**answer: object) -> None:
    """Send an answer to the parent; does nothing if `take_standard_output` was not called."""
    if _descriptor is not None:
        with contextlib.suppress(OSError):  # the parent is gone
            os.write(_descriptor, (json.dumps(answer) + "\n").encode())


def say_why(reason: object) -> None:
    """Report on one line why a command or work item failed: on standard error and to the parent."""
    line = shortened(printable(str(reason)))
    print(f"gallop: {line}", file=sys.stderr, flush=True)
    tell(reason=line)


# --- in the parent -------------------------------------------------------------------------------


class Answers:
    """The answers of a child so far; reading never blocks."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        """
        Args:
            pipe: the child's standard output.
        """
        assert pipe is not None
        self._pipe, self._told, self._is_open = pipe, b"", True
        self._waits = False
        try:
            os.set_blocking(pipe.fileno(), False)
        except (AttributeError, OSError):  # Windows before Python 3.12
            self._waits = True

    def latest(self, name: str, has_ended: bool) -> Any:
        """Return the latest value sent under a name, or None.

        Args:
            name: key of the answer.
            has_ended: whether the child has ended; the pipe is then closed.
        """
        if self._is_open and (has_ended or not self._waits):
            self._read()
        if has_ended:
            self.close()
        found = [answer[name] for answer in parsed(self._told.splitlines()) if name in answer]
        return found[-1] if found else None

    def close(self) -> None:
        """Stop reading and close the pipe."""
        self._is_open = False
        self._pipe.close()

    def _read(self) -> None:
        """Read what is there now. A process left behind by the child may keep the pipe open."""
        with contextlib.suppress(OSError):  # nothing to read; Windows has several errors for it
            while part := os.read(self._pipe.fileno(), 1 << 16):
                self._told = (self._told + part)[-MAX_BYTES:]


def keep_short(log: Path) -> None:
    """Truncate a log to which a child is appending, once tasks have printed too much into it.

    A missing log is ignored.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size > MAX_LOG_BYTES:
            os.truncate(log, 0)
            with log.open("ab") as file:
                file.write(b"(earlier output was dropped: the log had become too long)\n")


def parsed(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the answers among lines; other lines, printed before the child took its output, are
    skipped."""
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                found.append(answer)
    return found
