"""Connecting to a Ray cluster, and saying in one line why that is not possible or has ended.

Ray itself waits for minutes, prints pages, or ends the process without a word.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gallop.errors import ExperimentError, RunError, causes, described

SECONDS_TO_CONNECT = 5.0

log = logging.getLogger(__name__)


def connect(address: str) -> None:
    """Connect this process to the cluster.

    Raises:
        ExperimentError: if Ray is not installed, or the cluster cannot be reached.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    named = f"--address {address}"
    if address == "auto" and (found := os.environ.get("RAY_ADDRESS")):  # as Ray would
        address, named = found, f"RAY_ADDRESS {found}"
    if address != "auto":
        _check_address(address, named)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # Ray puts our current folder first on the path of its workers, where any file could be
        # mistaken for a module (own_code.py): we are in an empty one meanwhile.
        with _silent(), tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
            _log_what_ray_prints()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError
        raise ExperimentError(f"{named}: {_why_not_connected(error)}") from None
    finally:  # Ray ends the process at SIGTERM, but we stop at a safe point
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)


_VARIABLES = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is in the exceptions
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # try to connect once, for 41 s, not 20 times
}


def _has_token() -> bool:
    """Whether there is a token of Ray's; Ray uses it for an explicit address only if told to."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()


def _ray() -> Any:
    """Import Ray.

    Raises:
        ExperimentError: if it is not installed.
    """
    for name, value in _VARIABLES.items():  # read when Ray is imported
        os.environ.setdefault(name, value)
    if _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise ExperimentError(
            '--engine ray: Ray is not installed: pip install "gallop-rl[ray]"'
        ) from None
    if not hasattr(ray, "init"):  # a user's ray.py
        raise ExperimentError(f"--engine ray: {ray.__file__} is not Ray: rename it")
    return ray


def _log_what_ray_prints() -> None:
    """Log the messages about nodes that Ray prints on standard output, whatever it is asked."""
    from ray._private import worker

    def to_log(data: Any, ignore_prefix: bool = False) -> None:
        log.info("Ray: %s", " ".join(map(str, data.get("lines", ())))[:200])

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = to_log


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what C++ prints to standard error: its exceptions say the same."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  (a device)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _why_not_connected(error: Exception) -> str:
    """Say what is missing, where Ray does not."""
    told = " ".join(map(str, causes(error)))
    if "No node info found" in told:
        return (
            "this machine is not a node of that cluster, as the one that submits must be: "
            "ray start --address HOST:PORT --num-cpus 0"
        )
    if "Could not find any running Ray" in told:
        return "no Ray cluster runs on this machine; name one with --address HOST:PORT"
    if "Failed to connect to Ray cluster" in told:
        return (
            "there is no Ray cluster, or it has another token: ~/.ray/auth_token, or "
            "RAY_AUTH_TOKEN, must be the same on all machines"
        )
    return described(error)


def _check_address(address: str, named: str) -> None:
    """Check that something listens there: Ray itself would try for more than ten minutes.

    Raises:
        ExperimentError: if not.
    """
    host, colon, port = address.rpartition(":")
    is_port = port.isdecimal() and 0 < int(port) < 1 << 16
    if not colon or not host or not is_port or "/" in address:
        raise ExperimentError(f"{named}: expected HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, UnicodeError) as error:  # the latter for an impossible host name
        reason = getattr(error, "strerror", None) or str(error)
        raise ExperimentError(
            f"{named}: no Ray cluster can be reached there ({reason}); start one with "
            "ray start --head"
        ) from None


@contextlib.contextmanager
def explaining(address: str) -> Iterator[None]:
    """Turn the loss of the cluster into an error that says what to do."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raise lost(address, described(error)) from None


def lost(address: str, why: str) -> RunError:
    """Return the error for a cluster that was there and is gone."""
    return RunError(
        f"the Ray cluster at {address} does not answer any more ({why}); every run is kept up to "
        "its last boundary: start the cluster again, then resume with the same flags"
    )
