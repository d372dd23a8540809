"""`gallop` in a forked child, which has done its imports, so that faults hit only its work.

A child can be made to die, or to get an error, at one of its operations on files. These are counted
with Python's audit events (files opened for writing, renamed, removed; folders made and removed;
links) and with `os.fsync`, which has no event.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import itertools
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

IMPORTED = (
    "gallop.learners.native",
    "gallop.learners.stable_baselines",
    "gallop.runs.workflow",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "stable_baselines3.common.vec_env",
    "tensorboard.compat.proto",
    "torch._dynamo",  # imported by the first optimizer
)
MARK = "GALLOP_FAULTS_HOME"  # set in the environment of all processes started by a child
SECONDS_TO_STOP = 20  # within which a process must notice that its parent has ended
OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}
LOG = "operations.txt"
TEMPORARY = "temporary.txt"  # lists the folders for temporary files
DESCRIPTORS = "descriptors.txt"  # lists what children still had open at their end


class Ended(NamedTuple):
    """How a child ended."""

    code: int
    """Its exit code, or minus the number of the signal that ended it."""
    output: str


def start(home: Path, arguments: Sequence[str], on_operation: Operation | None = None) -> int:
    """Fork a child that runs `gallop ARGUMENTS` in `home`; return its process id.

    Args:
        on_operation: called before each operation on a file in `home`, with its number and name.
    """
    # Import everything that a run needs, once.
    for module in IMPORTED:
        importlib.import_module(module)
    from gallop.commands import cli

    sys.stdout.flush()
    sys.stderr.flush()
    # Not in `home`: it holds sockets of worker processes, whose paths must be short.
    temporary = tempfile.mkdtemp(prefix="gallop-faults-")
    with (home / TEMPORARY).open("a") as file:
        file.write(f"{temporary}\n")
    pid = os.fork()
    if pid:
        return pid
    gc.freeze()  # the collection below then looks only at what the child makes
    code = 70
    before: set[str] = set()
    try:
        os.setsid()
        os.chdir(home)
        output = os.open(home / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        multiprocessing.forkserver._forkserver.__init__()  # do not use the one of other tests
        multiprocessing.resource_tracker._resource_tracker.__init__()
        os.environ[MARK] = str(home)
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        sys.argv = ["gallop", *arguments]
        warnings.resetwarnings()  # as in a new process: warnings are not errors
        if on_operation is not None:
            _watch(home, on_operation)
        before = _open_descriptors()
        code = cli.main(list(arguments))
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            multiprocessing.util._exit_function()  # done by Python on exit, but not by os._exit
            sys.stdout.flush()
            sys.stderr.flush()
            gc.collect()
            still_open = sorted(_open_descriptors() - before - _of_multiprocessing())
            if code == 0 and still_open:  # after an error, its traceback keeps objects open
                with (home / DESCRIPTORS).open("a") as file:
                    file.writelines(f"{sys.argv[1:]}: {name}\n" for name in still_open)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def finish(home: Path, pid: int, seconds: float = 240) -> Ended:
    """Wait for a child; if it does not end in time, kill it and fail the test."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"no end after {seconds:.0f} s: {output(home)}")
        time.sleep(0.002)
    return Ended(os.waitstatus_to_exitcode(status), output(home))


def run(home: Path, arguments: Sequence[str], on_operation: Operation | None = None) -> Ended:
    """Start a child and wait for its end."""
    return finish(home, start(home, arguments, on_operation))


def output(home: Path) -> str:
    """Return what children have printed since the last call."""
    path = home / "output"
    if not path.exists():
        return ""
    text = path.read_text()
    os.truncate(path, 0)  # another child may still write to it
    return text


# --- leftovers -----------------------------------------------------------------------------------


def left_behind(home: Path) -> list[str]:
    """Return processes started by children in `home` that outlive them for too long."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    while (found := _descendants(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def temporary_files(home: Path) -> list[str]:
    """Return what is left in the children's temporary folders, except PyTorch's cache."""
    folders = [Path(line) for line in (home / TEMPORARY).read_text().splitlines()]
    found = [path for folder in folders if folder.exists() for path in folder.iterdir()]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return [str(path) for path in found if not path.name.startswith("torchinductor_")]


def descriptors_left(home: Path) -> list[str]:
    """Return files, pipes and sockets that successful children had left open."""
    path = home / DESCRIPTORS
    return path.read_text().splitlines() if path.exists() else []


def _of_multiprocessing() -> set[str]:
    """Return the pipes that Python keeps open to its fork server and resource tracker."""
    server = multiprocessing.forkserver._forkserver
    tracker = multiprocessing.resource_tracker._resource_tracker
    numbers = {str(server._forkserver_alive_fd), str(tracker._fd)}
    return {name for name in _open_descriptors() if name.split()[0] in numbers}


def _open_descriptors() -> set[str]:
    """Return this process's open descriptors and targets, except the log and Matplotlib's fonts."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor used for listing the folder
            found.add(f"{entry.name} {entry.readlink()}")
    return {name for name in found if not name.endswith((LOG, ".ttf"))}


def _descendants(home: Path) -> list[str]:
    mark = f"{MARK}={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


# --- faults at an operation ----------------------------------------------------------------------

Operation = Callable[[int, str], None]


def killed_at(number: int) -> Operation:
    """Send SIGKILL before operation `number`."""

    def act(count: int, name: str) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def refused_at(number: int, error: int = errno.EIO) -> Operation:
    """Let operation `number` fail, as on a broken or full disk."""

    def act(count: int, name: str) -> None:
        if count == number:
            raise OSError(error, os.strerror(error))

    return act


def killed_while_writing(number: int, seconds: float) -> Operation:
    """End the child, wherever it is, some microseconds after operation `number`.

    Uses the signal of a timer, which nothing catches: a file may then be half written.
    """

    def act(count: int, name: str) -> None:
        if count == number:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    return act


def suspended_at(number: int) -> Operation:
    """Send SIGSTOP before operation `number`."""

    def act(count: int, name: str) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    return act


def is_suspended(pid: int) -> bool:
    """Wait until a child is suspended, or has ended; return whether it is suspended."""
    while True:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "TZ":
            return state == "T"
        time.sleep(0.002)


def counted(count: int, name: str) -> None:
    """Append each operation to LOG in the current folder."""
    os.write(_log(), f"{name}\n".encode())


def operations(home: Path) -> list[str]:
    """Return the operations recorded by `counted`."""
    return (home / LOG).read_text().splitlines()


def random_instants(seed: int, n: int, seconds: float) -> list[float]:
    """Return n waiting times that add up to about `seconds`."""
    generator = random.Random(seed)
    return [generator.uniform(0, 2 * seconds / (n + 1)) for _ in range(n)]


_log_descriptor: list[int] = []


def _log() -> int:
    if not _log_descriptor:
        _log_descriptor.append(os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    return _log_descriptor[0]


def _watch(home: Path, act: Operation) -> None:
    numbers = itertools.count()
    busy = False
    fsync = os.fsync

    def happened(name: str, path: object) -> None:
        nonlocal busy
        if busy or (isinstance(path, str) and path.endswith((LOG, TEMPORARY, "/output"))):
            return
        busy = True
        try:
            act(next(numbers), f"{name} {path}")
        finally:
            busy = False

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and _inside(path, home):
                happened("open", path)
        elif event in OPERATIONS and not (event == "os.mkdir" and Path(arguments[0]).exists()):
            happened(event, arguments[0])

    def synced(descriptor: int) -> None:
        happened("fsync", "")
        fsync(descriptor)

    os.fsync = synced
    sys.addaudithook(audit)


def _inside(path: object, home: Path) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return home in (home / os.fsdecode(path)).parents
