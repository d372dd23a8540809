"""How a process ends: with its parent, and at once where nothing else is left.

A child that trains, steps an environment or films must not outlive the process that asked for it,
however that one ends. On Linux the system itself sees to it; everywhere, a thread watches a pipe
that the system closes when the parent ends.
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
    """Have Linux kill this process when the thread that started it ends; elsewhere nothing."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_with_parent(wait_for_parent: Callable[[], object]) -> None:
    """End this process when its parent ends: killed on Linux, by `os._exit` elsewhere.

    Args:
        wait_for_parent: returns when the parent has ended; called in a thread.
    """
    killed_with_parent()  # a frozen task can keep every thread of Python waiting

    def watch() -> None:
        wait_for_parent()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def standard_input_ends() -> None:
    """Wait until the other end of standard input is closed, as it is when the parent has ended."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass


@contextlib.contextmanager
def owning_the_process() -> Iterator[None]:
    """Inside, the process is Gallop's own, and may be ended at once: a command, not a notebook."""
    global _owns_the_process
    before, _owns_the_process = _owns_the_process, True
    try:
        yield
    finally:
        _owns_the_process = before


def owns_the_process() -> bool:
    """Whether a process that does not answer may be ended from another thread."""
    return _owns_the_process


@contextlib.contextmanager
def last_words(say: Callable[[], str]) -> Iterator[None]:
    """Inside, `say` tells what is kept and how to go on, should the process be ended at once."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


def end_at_once(code: int, reason: str) -> None:
    """End this process from whatever thread, without waiting for any other; say why, and what is
    kept. Children end with it: see `die_with_parent`."""
    lines = [f"gallop: {printable(reason)}"]
    tell(reason=printable(reason))
    with contextlib.suppress(Exception):
        lines += [say() for say in _last_words[-1:]]
    with contextlib.suppress(Exception):
        log.info("ended at once: %s", reason)
        for handler in logging.getLogger("gallop").handlers:
            handler.flush()
    cursor = "\x1b[?25h" if sys.stderr is not None and sys.stderr.isatty() else ""
    with contextlib.suppress(Exception):
        os.write(2, (f"{cursor}\n" if cursor else "").encode() + ("\n".join(lines) + "\n").encode())
    os._exit(code)
