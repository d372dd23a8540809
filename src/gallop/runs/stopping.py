"""Signals that ask to stop: acknowledged at once, answered where stopping is safe.

Python runs its own handlers only between two steps of its main thread, which may sit inside a
task that does not return. So a command has a thread beside it, which the C handler wakes: it says
that the signal has come, and after a second one it ends the process if nothing else does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from gallop.ending import end_at_once, owning_the_process

NUMBERS = (signal.SIGINT, signal.SIGTERM)
SECONDS_TO_STOP = 1.0  # after the second signal
SECONDS_UNSAID = 0.5  # what stops faster than this need not say that it is about to


class Stopped(Exception):  # noqa: N818  (no error: somebody asked for it)
    """A signal asked the run to stop, and it did at a safe instant."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Stop:
    """Remembers that a signal came; `check` raises `Stopped` where stopping is safe."""

    def __init__(self) -> None:
        self._signal_number: int | None = None

    @property
    def was_asked(self) -> bool:
        """Whether a signal came."""
        return self._signal_number is not None

    def check(self) -> None:
        if self._signal_number is not None:
            raise Stopped(self._signal_number)

    @contextlib.contextmanager
    def listening(self, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Catch SIGINT and SIGTERM once; a second one ends the process the ordinary way.

        Python lets only its main thread listen; in any other this does nothing.

        Args:
            say: tells at once that the signal has come; may be called from another thread.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in NUMBERS}

        def acknowledge(number: int) -> None:
            if self._signal_number is None:
                self._signal_number = number
                again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
                say(f"stopping at the next safe instant; {again} stops at once")

        def remember(number: int, frame: FrameType | None) -> None:
            acknowledge(number)
            for each in NUMBERS:
                signal.signal(each, before[each])

        for number in NUMBERS:
            signal.signal(number, remember)
        _Listener.acknowledge, outer = acknowledge, _Listener.acknowledge
        try:
            yield
        finally:
            _Listener.acknowledge = outer
            for number in NUMBERS:
                signal.signal(number, before[number])


class _Listener:
    """Who takes the first signal now, if anybody stops at safe instants."""

    acknowledge: Callable[[int], None] | None = None


@contextlib.contextmanager
def answering_signals() -> Iterator[None]:
    """Around a command: a signal is acknowledged, and a second one obeyed, whatever the main
    thread is doing. A task in C that never gives up Python's lock alone can prevent it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(end is ours)
    thread = threading.Thread(target=_answer, args=(ours,), name="signals", daemon=True)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        with owning_the_process():
            yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        thread.join()
        ours.close()


def _answer(pipe: socket.socket) -> None:
    """Read the numbers of signals as they come, until the other end is closed."""
    n_signals = 0
    while numbers := pipe.recv(64):
        for number in numbers:
            if number not in NUMBERS:
                continue
            n_signals += 1
            acknowledge = _Listener.acknowledge
            if n_signals == 1 and acknowledge is not None:
                acknowledge(number)
            elif n_signals == 1:
                if _is_quiet(pipe, SECONDS_UNSAID):
                    _say("stopping; Ctrl-C again stops at once")
            elif _is_quiet(pipe, SECONDS_TO_STOP) or n_signals > 2:
                name = signal.Signals(number).name
                end_at_once(128 + number, f"stopped at once by {name}")


def _is_quiet(pipe: socket.socket, seconds: float) -> bool:
    """Whether for so long the command neither ends nor gets another signal."""
    pipe.settimeout(seconds)
    try:
        pipe.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        pipe.settimeout(None)
    return False


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"gallop: {text}\n".encode())
