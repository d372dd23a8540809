"""How a process ends: together with its parent, and immediately if there is no other way.

A child that trains, steps an environment or films must not outlive its parent, however the parent
ends. On Linux the kernel takes care of it; on every system, a thread also watches a pipe that is
closed when the parent ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from gallop.answers import tell
from gallop.errors import printable

_PR_SET_PDEATHSIG = 1  # of Linux's prctl

log = logging.getLogger(__name__)

_last_words: list[Callable[[], str]] = []
_owns_the_process = False


def killed_with_parent() -> None:
    """On Linux, have this process killed when the thread that started it ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_with_parent(wait_for_parent: Callable[[], object]) -> None:
    """End this process when its parent ends: by a kill on Linux, by `os._exit` elsewhere.

    Args:
        wait_for_parent: returns when the parent has ended; called in a thread.
    """
    killed_with_parent()  # a frozen task can block every Python thread

    def watch() -> None:
        wait_for_parent()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def standard_input_ends() -> None:
    """Block until the other end of standard input is closed, which happens when the parent ends."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass


@contextlib.contextmanager
def owning_the_process() -> Iterator[None]:
    """Within the block, the process belongs to Gallop and may be ended: a command, not a
    notebook."""
    global _owns_the_process
    before, _owns_the_process = _owns_the_process, True
    try:
        yield
    finally:
        _owns_the_process = before


def owns_the_process() -> bool:
    """Whether this process may be ended from another thread when it does not respond."""
    return _owns_the_process


@contextlib.contextmanager
def last_words(say: Callable[[], str]) -> Iterator[None]:
    """Within the block, `say` supplies the last lines printed if the process is ended by
    `end_at_once`: what was saved and how to resume."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


def end_at_once(code: int, reason: str) -> None:
    """End this process from any thread without waiting for the others.

    Prints the reason and the last words. Child processes end too: see `die_with_parent`.

    Args:
        code: exit code.
        reason: one line for the user and for run.log.
    """
    lines = [f"gallop: {printable(reason)}"]
    tell(reason=printable(reason))
    with contextlib.suppress(Exception):
        lines += [say() for say in _last_words[-1:]]
    with contextlib.suppress(Exception):
        log.info("process ended: %s", reason)
        for handler in logging.getLogger("gallop").handlers:
            handler.flush()
    cursor = "\x1b[?25h" if sys.stderr is not None and sys.stderr.isatty() else ""
    with contextlib.suppress(Exception):
        os.write(2, (f"{cursor}\n" if cursor else "").encode() + ("\n".join(lines) + "\n").encode())
    os._exit(code)
