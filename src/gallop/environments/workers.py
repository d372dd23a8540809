"""Environments in worker processes, whose crashes, hangs and exceptions are reported.

They send the same messages through the same pipes as SB3's `SubprocVecEnv`. The difference is what
happens when an answer does not come. The error names the environment, the call, and how the process
ended; an exception of the task is raised in the parent. Workers never outlive their parent.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import multiprocessing
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    CloudpickleWrapper,
    VecEnv,
    VecEnvStepReturn,
)
from stable_baselines3.common.vec_env.subproc_vec_env import _worker

from gallop.ending import die_with_parent
from gallop.environments.spaces import Env
from gallop.environments.task_errors import NOTES, say_once
from gallop.environments.watchdog import SECONDS_TO_START, inside
from gallop.errors import ExperimentError, FrozenError, WorkerError
from gallop.experiments import own_code

SECONDS_TO_CLOSE = 10.0  # then a worker is killed
SECONDS_TO_CLOSE_OTHERS = 1.0  # if one has failed already
SECONDS_TO_DIE = 5.0  # for the exit code of a worker whose pipe is closed

FORK_SERVER = "gallop.environments.fork_server"  # the module that it imports when it starts

WHAT = {
    "get_spaces": "making the environment",
    "env_method": "replacing the simulator",
    "step": "step()",
    "reset": "reset()",
    "render": "render()",
}

log = logging.getLogger(__name__)


class Workers(SubprocVecEnv):
    """An SB3 `VecEnv` with one worker process per environment."""

    def __init__(self, makers: Sequence[Callable[[], Env]], task: str) -> None:
        """
        Args:
            makers: functions that make the environments, each called in its worker.
            task: name of the environments in error messages.

        Raises:
            ExperimentError: if the path of the temporary folder is too long for sockets.
            WorkerError: if a worker ends before its environment is made.
        """
        self.waiting = self.closed = False
        context = _context()
        self.processes: list[BaseProcess] = []
        self.remotes: tuple[_Remote, ...] = ()
        for make in makers:
            ours, theirs = context.Pipe()
            arguments = (theirs, ours, CloudpickleWrapper(make))
            process = context.Process(target=_work, args=arguments, daemon=True)
            try:
                with own_code.isolated_children():
                    process.start()
            except OSError as error:
                if "AF_UNIX" not in str(error):
                    raise
                raise ExperimentError(
                    f"{tempfile.gettempdir()} is too long a path for the sockets of worker "
                    "processes: use a shorter TMPDIR, or --vec-env dummy"
                ) from None
            theirs.close()
            index = len(self.processes)
            self.processes.append(process)
            self.remotes = (*self.remotes, _Remote(ours, process, f"environment {index} ({task})"))
        try:
            self.remotes[0].send(("get_spaces", None))
            spaces = self.remotes[0].recv()
        except BaseException:
            self.close()
            raise
        VecEnv.__init__(self, len(self.remotes), *spaces)

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step's results, as in SB3; notes of the guards go to run.log."""
        stepped = super().step_wait()
        for info in stepped[3]:
            for note in info.pop(NOTES, ()):
                say_once(note)
        return stepped

    def close(self) -> None:
        """End the workers; those that do not answer are killed."""
        if self.closed:
            return
        self.closed = True
        failed = any(remote.failed for remote in self.remotes)
        seconds = SECONDS_TO_CLOSE_OTHERS if failed else SECONDS_TO_CLOSE
        until = time.monotonic() + seconds
        for remote in self.remotes:
            remote.ask_to_close()
        for remote in self.remotes:
            remote.end(until)


def _context() -> Any:
    """The start method of workers: a fork server where there is one, else spawn."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    if threading.current_thread() is threading.main_thread():  # Linux watches the thread
        multiprocessing.set_forkserver_preload(["__main__", FORK_SERVER])
    return multiprocessing.get_context("forkserver")


class _Remote:
    """Our end of the pipe to one worker."""

    def __init__(self, pipe: Connection, process: BaseProcess, name: str) -> None:
        self.name = name
        self._pipe, self._process = pipe, process
        self._what, self._timestep, self._has_started = "", 0, False
        self.failed = False
        self._frozen: FrozenError | None = None

    def send(self, message: tuple[str, Any]) -> None:
        """Send the worker a request.

        Raises:
            WorkerError: if it has ended.
        """
        self._what = message[0]
        if self._what == "step":
            self._timestep += 1
        elif self._what == "reset":
            self._timestep = 0
        try:
            self._pipe.send(message)
        except (EOFError, ConnectionError):
            raise self._gone() from None

    def recv(self) -> Any:
        """Wait for the worker's answer.

        Raises:
            WorkerError: if it has ended.
            FrozenError: if the watchdog has ended the call.
            Exception: the exception that the task has raised.
        """
        try:
            with inside(self, WHAT.get(self._what, self._what)):
                answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise self._gone() from None
        except BaseException:  # interrupted: when it will answer is unknown
            self.failed = True
            raise
        self._has_started = True
        if type(answer) is _Raised:
            self.failed = True
            raise answer.error()
        return answer

    @property
    def seconds_of_ours(self) -> float:
        """Extra seconds for the first answer, for which the worker must start."""
        return 0.0 if self._has_started else SECONDS_TO_START

    def where(self) -> str:
        """Which environment it is, and its progress, for an error message."""
        timestep = f", timestep {self._timestep} of this segment" if self._timestep else ""
        return f"{self.name}{timestep}"

    def interrupt(self, error: FrozenError) -> bool:
        """Kill the worker, so that the wait for it ends."""
        self._frozen = error
        self._process.kill()
        return True

    def ask_to_close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._pipe.send(("close", None))

    def end(self, until: float) -> None:
        """Wait for the worker's end until this time (of `time.monotonic`); then kill it."""
        with contextlib.suppress(Exception):  # the rest of an unfinished message
            while self._pipe.poll(max(0.0, until - time.monotonic())):
                answer = self._pipe.recv()
                if type(answer) is _Raised and not self.failed:
                    log.warning("%s: close() failed: %s", self.name, answer.error())
        self._process.join(max(0.0, until - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        self._pipe.close()

    def _gone(self) -> BaseException:
        self.failed = True
        if self._frozen is not None:
            return self._frozen
        self._process.join(SECONDS_TO_DIE)
        what = WHAT.get(self._what, self._what)
        return WorkerError(
            f"{self.where()}: its worker process ended {_how(self._process.exitcode)} in {what}"
        )


def _how(code: int | None) -> str:
    """How a process with this exit code ended, for an error message."""
    if code is None:
        return "its side of the pipe"
    if code >= 0:
        return f"with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


# --- in the worker -------------------------------------------------------------------------------


class _Raised:
    """An exception of a task, on its way to the parent."""

    def __init__(self, error: Exception) -> None:
        self._traceback = "".join(traceback.format_exception(error))
        self._error: Exception = RuntimeError(f"{type(error).__name__}: {error}")
        # Exceptions of the task's own modules may not unpickle in the parent.
        if type(error).__module__.partition(".")[0] in ("builtins", "gallop"):
            with contextlib.suppress(Exception):
                self._error = copy.copy(error)

    def error(self) -> Exception:
        """The same exception, or one with its name and text; its cause is the traceback there."""
        self._error.__cause__ = _InWorker(f"\n{self._traceback}")
        return self._error


class _InWorker(Exception):  # noqa: N818  (never raised: it only holds a traceback)
    """The traceback in the worker."""


def _work(pipe: Connection, parents: Connection, make: CloudpickleWrapper) -> None:
    own_code.leave_isolation()
    parent = multiprocessing.parent_process()
    if parent is not None:
        die_with_parent(parent.join)
    # Ctrl-C reaches the whole process group; the parent alone decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _worker(pipe, parents, make)
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send(_Raised(error))
