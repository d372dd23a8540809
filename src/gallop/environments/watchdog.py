"""A watchdog over the task's own code: what runs in it now, and for how long already.

Every call into a task leaves a mark (`make.py` puts `Marked` around each environment; the parent
of worker processes marks for which one it waits). A thread looks at the mark now and then. Only
time inside a task counts, never that of saving, compiling or learning. Each thread has a mark of
its own: a notebook may train in one and evaluate in another.
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

SECONDS_TO_START = 60.0  # of a process, and for large packages
SECONDS_TO_LEAVE = 5.0  # a task that was interrupted, before the process is ended

log = logging.getLogger(__name__)


class Marker(Protocol):
    """Whoever is waited for."""

    @property
    def seconds_of_ours(self) -> float:
        """What of the wait may be due to us: processes that start, modules that are imported."""

    def where(self) -> str:
        """Which environment, and how far it is."""

    def interrupt(self, error: FrozenError) -> bool:
        """Make the call end with this error; False if that cannot be done from another thread."""


Call: TypeAlias = tuple[Marker, str]
"""Who is waited for, and in what: each call has an object of its own."""


_calls: dict[int, Call] = {}
"""Thread -> the call into a task that is under way in it."""


def entered(marker: Marker, what: str) -> Call | None:
    """Mark that this thread enters a task; what `left` has to be told."""
    thread = threading.get_ident()
    before = _calls.get(thread)
    _calls[thread] = (marker, what)
    return before


def left(before: Call | None) -> None:
    """Mark that this thread has left it."""
    if before is None:
        _calls.pop(threading.get_ident(), None)
    else:
        _calls[threading.get_ident()] = before


class Making:
    """The marker of a task that is being made."""

    seconds_of_ours = SECONDS_TO_START

    def __init__(self, task: str) -> None:
        self.name = task

    def where(self) -> str:
        return self.name

    def interrupt(self, error: FrozenError) -> bool:
        return raise_in_main_thread(self, error)


@contextlib.contextmanager
def inside(marker: Marker, what: str) -> Iterator[None]:
    """Mark that the task's code runs, or is waited for."""
    before = entered(marker, what)
    try:
        yield
    finally:
        left(before)


@contextlib.contextmanager
def watching(seconds: float) -> Iterator[None]:
    """End what this thread stays in longer than this in one call of a task; 0 never does.

    Raises:
        FrozenError: in the call that does not return. Where that cannot be done, as in code that
            is not Python's, a command ends at once with the same line and exit code 1.
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
            # A process that was suspended does not count the time until it goes on.
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
                # For this call once more, and then for whatever is called to clean up.
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
    """Interrupt Python code, and calls of the system that a signal wakes, such as sleep; False if
    it is another thread that is in this call."""
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
    """Inside, the watchdog can interrupt the main thread, unless the task takes its signal."""
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
