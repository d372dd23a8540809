"""Stop signals: acknowledged immediately, obeyed where stopping is safe.

Python runs signal handlers only between two bytecode instructions of its main thread, which may be
inside a task that does not return. So a command starts a second thread, which the C-level handler
wakes up: it acknowledges the signal, and after a second signal it ends the process if need be.
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
SECONDS_UNSAID = 0.5  # a command that stops faster than this prints no acknowledgement


class Stopped(Exception):  # noqa: N818  (not an error: it was requested)
    """A run has stopped at a safe point, because a signal requested it."""

    def __init__(self, signal_number: int) -> None:
        """
        Args:
            signal_number: the signal, such as `signal.SIGINT`.
        """
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Stop:
    """Remembers a stop signal until `check`, called where stopping is safe, raises `Stopped`."""

    def __init__(self) -> None:
        self._signal_number: int | None = None

    @property
    def was_asked(self) -> bool:
        """Whether a stop signal has arrived."""
        return self._signal_number is not None

    def check(self) -> None:
        """Stop here if a signal has arrived.

        Raises:
            Stopped: if so.
        """
        if self._signal_number is not None:
            raise Stopped(self._signal_number)

    @contextlib.contextmanager
    def listening(self, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Within the block, catch the first SIGINT or SIGTERM; a second one acts as usual.

        Only Python's main thread can handle signals; in any other thread this does nothing.

        Args:
            say: prints the acknowledgement; may be called from another thread.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        if _Listener.missed is not None:  # its KeyboardInterrupt did not end the command
            self._signal_number = _Listener.missed
            yield
            return
        before = {number: signal.getsignal(number) for number in NUMBERS}

        def acknowledge(number: int) -> None:
            if self._signal_number is None:
                self._signal_number = number
                again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
                say(f"stopping at the next safe point; {again} stops immediately")

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
    """The handler of the first signal, while some code stops at safe points."""

    acknowledge: Callable[[int], None] | None = None
    missed: int | None = None
    """A first signal that arrived before anything listened. Its `KeyboardInterrupt` usually ends
    the command, but is lost in a library that catches everything, such as around an import."""


@contextlib.contextmanager
def answering_signals() -> Iterator[None]:
    """Within the block, acknowledge a first stop signal and obey a second one, whatever the main
    thread is doing. Only C code that never releases the GIL can prevent this."""
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
        _Listener.missed = None


def _answer(pipe: socket.socket) -> None:
    """Read signal numbers as they arrive, until the other end is closed."""
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
                _Listener.missed = number
                if _is_quiet(pipe, SECONDS_UNSAID):
                    _say("stopping; Ctrl-C again stops immediately")
            elif _is_quiet(pipe, SECONDS_TO_STOP) or n_signals > 2:
                name = signal.Signals(number).name
                end_at_once(128 + number, f"stopped immediately by {name}")


def _is_quiet(pipe: socket.socket, seconds: float) -> bool:
    """Wait; return whether the command has neither ended nor received another signal meanwhile."""
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
