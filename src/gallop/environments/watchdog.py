"""A watchdog over the task's own code: it ends a call into a task that does not return.

Every call into a task leaves a mark: `make.py` wraps each environment in `Marked`, and the parent
of worker processes marks the one that it is waiting for. A thread checks the mark regularly. Only
time inside a task counts, not time spent saving, compiling or learning. Each thread has its own
mark, since a notebook may train in one thread and evaluate in another.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Protocol, TypeAlias

from gallop.ending import end_at_once, owns_the_process
from gallop.errors import FrozenError

SECONDS_TO_START = 60.0  # for a process to start and to import large packages
SECONDS_TO_LEAVE = 5.0  # for an interrupted task to return, before the process is ended

log = logging.getLogger(__name__)


class Marker(Protocol):
    """The environment or worker whose call is under way."""

    @property
    def seconds_of_ours(self) -> float:
        """Extra seconds to allow for work of Gallop: starting processes and importing modules."""

    def where(self) -> str:
        """Which environment it is, and its progress, for an error message."""

    def interrupt(self, error: FrozenError) -> bool:
        """Make the call raise this error; return False if another thread cannot do that."""


Call: TypeAlias = tuple[Marker, str]
"""The marker, and the name of the method; a new object for every call."""


_calls: dict[int, Call] = {}
"""Id of a thread -> the call into a task that is under way in it."""


def entered(marker: Marker, what: str) -> Call | None:
    """Mark that this thread enters a task; return the argument for `left`."""
    thread = threading.get_ident()
    before = _calls.get(thread)
    _calls[thread] = (marker, what)
    return before


def left(before: Call | None) -> None:
    """Mark that this thread has left the task.

    Args:
        before: what `entered` returned.
    """
    if before is None:
        _calls.pop(threading.get_ident(), None)
    else:
        _calls[threading.get_ident()] = before


class Making:
    """The marker of a task that is being made.

    Attributes:
        name: id of the task.
    """

    seconds_of_ours = SECONDS_TO_START

    def __init__(self, task: str) -> None:
        self.name = task

    def where(self) -> str:
        """The task's id."""
        return self.name

    def interrupt(self, error: FrozenError) -> bool:
        """Raise the error in the main thread, if that thread is in this call."""
        return raise_in_main_thread(self, error)


@contextlib.contextmanager
def inside(marker: Marker, what: str) -> Iterator[None]:
    """Mark that the body runs a task's code, or waits for it.

    Args:
        marker: the environment or worker.
        what: name of the call, such as "step()".
    """
    before = entered(marker, what)
    try:
        yield
    finally:
        left(before)


@contextlib.contextmanager
def watching(seconds: float) -> Iterator[None]:
    """End any call into a task in which this thread stays longer than this.

    Args:
        seconds: limit of one call; 0: no limit.

    Raises:
        FrozenError: in the call that does not return. Where that is impossible, such as in compiled
            code, a command ends at once with the same message and exit code 1.
    """
    if not seconds:
        yield
        return
    watchdog = _Watchdog(seconds)
    with _interruptible():
        watchdog.start()
        try:
            yield
        finally:
            watchdog.stop()


class _Watchdog:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watched = threading.get_ident()
        self._interval = min(1.0, seconds / 10)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        last: Call | None = None
        spent, looked, limit = 0.0, time.monotonic(), self._seconds
        error: FrozenError | None = None
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            # Time during which the process was suspended does not count.
            passed, looked = min(now - looked, 2 * self._interval), now
            call = _calls.get(self._watched)
            if call is None or call is not last:
                last, spent = call, 0.0
                continue
            spent += passed
            if spent < limit + call[0].seconds_of_ours:
                continue
            first, error = error is None, error or _frozen(call, spent)
            if first and call[0].interrupt(error):
                log.info("watchdog: %s", error)
                # The next limit is for this call to end, and then for any clean-up call.
                spent, limit = 0.0, min(limit, SECONDS_TO_LEAVE)
            elif owns_the_process():
                end_at_once(1, str(error))
            else:
                log.error("watchdog: %s", error)
                return


def _frozen(call: Call, seconds: float) -> FrozenError:
    marker, what = call
    return FrozenError(f"{marker.where()}: {what} has not returned for {seconds:.0f} s (watchdog)")


# --- raising in the main thread ------------------------------------------------------------------

_pending: list[tuple[Call, FrozenError]] = []


def raise_in_main_thread(marker: Marker, error: FrozenError) -> bool:
    """Interrupt Python code, and system calls that a signal wakes, such as sleep.

    Returns:
        False if the main thread is not in the marker's call, or the signal is not available.
    """
    call = _calls.get(_main())
    if call is None or call[0] is not marker:
        return False
    if not hasattr(signal, "SIGALRM") or signal.getsignal(signal.SIGALRM) is not _on_alarm:
        return False
    _pending[:] = [(call, error)]
    signal.pthread_kill(_main(), signal.SIGALRM)
    return True


def _main() -> int:
    return threading.main_thread().ident or 0


def _on_alarm(number: int, frame: FrameType | None) -> None:
    if _pending:
        call, error = _pending.pop()
        if call is _calls.get(_main()):
            raise error


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """In the body, the watchdog can interrupt the main thread, unless the task uses its signal."""
    if (
        threading.current_thread() is not threading.main_thread()
        or not hasattr(signal, "SIGALRM")
        or signal.getsignal(signal.SIGALRM) not in (signal.SIG_DFL, _on_alarm)
    ):
        yield
        return
    before = signal.signal(signal.SIGALRM, _on_alarm)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) is _on_alarm:
            signal.signal(signal.SIGALRM, before)
