"""Signals that ask to stop, answered where stopping is safe."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(Exception):  # noqa: N818  (no error: somebody asked for it)
    """A signal asked the run to stop, and it did at a safe instant."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Stop:
    """Remembers that a signal came; `check` raises `Stopped` where stopping is safe."""

    def __init__(self) -> None:
        self._signal_number: int | None = None

    def check(self) -> None:
        if self._signal_number is not None:
            raise Stopped(self._signal_number)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM once; a second one ends the process the ordinary way.

        Python lets only its main thread listen; in any other this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}

        def remember(number: int, frame: FrameType | None) -> None:
            self._signal_number = number
            for each in numbers:
                signal.signal(each, before[each])

        for number in numbers:
            signal.signal(number, remember)
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, before[number])
