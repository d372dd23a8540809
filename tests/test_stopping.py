"""What a stop signal does before and while a command listens to it."""

from __future__ import annotations

import signal
import time

import pytest

from gallop.runs.stopping import Stop, Stopped, answering_signals


def swallowing_ctrl_c():
    """What a library does that catches every exception, such as around an import."""
    try:
        signal.raise_signal(signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        return
    raise AssertionError("no KeyboardInterrupt")


def what_is_said(capfd):
    said, until = "", time.monotonic() + 5
    while not said and time.monotonic() < until:
        time.sleep(0.05)
        said += capfd.readouterr().err
    return said


def test_ctrl_c_that_a_library_swallowed_still_stops_the_command(capfd):
    stop = Stop()
    with answering_signals():
        swallowing_ctrl_c()
        assert "stopping; Ctrl-C again stops immediately" in what_is_said(capfd)
        with pytest.raises(Stopped, match="SIGINT"), stop.listening():
            stop.check()
    later = Stop()
    with answering_signals(), later.listening():
        later.check()  # another command in this process


def test_only_the_first_ctrl_c_is_remembered_while_listening():
    stop, said = Stop(), []
    with stop.listening(said.append):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped, match="SIGINT"):
            stop.check()
    assert said == ["stopping at the next safe point; Ctrl-C again stops immediately"]
