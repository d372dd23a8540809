"""What a child process of ours tells its parent, apart from whatever a task prints.

A task may print anything, lines like ours too. So a child first takes its standard output, a pipe,
for its answers alone, and what anybody prints from then on goes to standard error, which the parent
sends to a log. An answer is a JSON object in a line of its own.
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

MAX_BYTES = 1 << 20  # of answers that the parent keeps
MAX_LOG_BYTES = 10_000_000

_descriptor: int | None = None


# --- in the child --------------------------------------------------------------------------------


def take_standard_output() -> None:
    """Answer on standard output from now on; what is printed goes to standard error.

    Processes that this one starts do not have the pipe.
    """
    global _descriptor
    sys.stdout.flush()
    _descriptor = os.dup(1)
    os.dup2(2, 1)


def tell(**answer: object) -> None:
    """Tell the parent; nobody listens where `take_standard_output` was not called."""
    if _descriptor is not None:
        with contextlib.suppress(OSError):  # the parent is gone
            os.write(_descriptor, (json.dumps(answer) + "\n").encode())


def say_why(reason: object) -> None:
    """Say in a line on standard error what a command or a work item failed for, and tell it."""
    line = shortened(printable(str(reason)))
    print(f"gallop: {line}", file=sys.stderr, flush=True)
    tell(reason=line)


# --- in the parent -------------------------------------------------------------------------------


class Answers:
    """What a child has told so far; reading never waits for it."""

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
        """What was last told under a name; None if nothing was.

        Args:
            has_ended: whether the child has; then the pipe is closed.
        """
        if self._is_open and (has_ended or not self._waits):
            self._read()
        if has_ended:
            self.close()
        found = [answer[name] for answer in parsed(self._told.splitlines()) if name in answer]
        return found[-1] if found else None

    def close(self) -> None:
        """Hear no more."""
        self._is_open = False
        self._pipe.close()

    def _read(self) -> None:
        """All that is there now. A process that the child left behind may keep the pipe open."""
        with contextlib.suppress(OSError):  # nothing is there; Windows has several errors for it
            while part := os.read(self._pipe.fileno(), 1 << 16):
                self._told = (self._told + part)[-MAX_BYTES:]


def keep_short(log: Path) -> None:
    """Begin a log again, that a child is adding to, when tasks have printed too much into it.

    Raises nothing where there is none. The child has it open to append.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size > MAX_LOG_BYTES:
            os.truncate(log, 0)
            with log.open("ab") as file:
                file.write(b"(what was printed before is left out: it was too much)\n")


def parsed(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The answers among lines; what a process prints before it takes its output is none."""
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                found.append(answer)
    return found
