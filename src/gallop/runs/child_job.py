"""A child process that works on one job, a file in the run's folder, while training continues."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gallop.answers import Answers, keep_short
from gallop.experiments.own_code import ISOLATED, child_environment

SECONDS_TO_STOP = 5.0  # after which the child is killed


class ChildJob:
    """The process. It ends when we do; its job stays on disk until somebody deletes it."""

    def __init__(
        self, module: str, job: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """
        Args:
            module: to run, with the job and these arguments.
            job: the file.
            arguments: after the job's path.
            environment: variables in addition to those of every child.
        """
        self._log = job.with_suffix(".log")  # output of the task
        self._log.write_bytes(b"")
        with self._log.open("ab") as log_file:
            self._child = subprocess.Popen(
                [sys.executable, ISOLATED, "-m", module, str(job), *arguments],
                env={**child_environment(), **environment},
                stdin=subprocess.PIPE,  # the child ends when we do: see ending.py
                stdout=subprocess.PIPE,  # for its answers: see answers.py
                stderr=log_file,
                start_new_session=True,  # the parent handles Ctrl-C
            )
        self._answers = Answers(self._child.stdout)

    @property
    def running(self) -> bool:
        """Whether the child is still at work."""
        keep_short(self._log)
        return self._child.poll() is None

    def error(self) -> str | None:
        """Return, once the child has ended, why it failed; None if it did not."""
        code, told = self._ended(), self.latest("reason")
        if code == 0:
            return None
        return told or f"its process ended with exit code {code}; see {self._log}"

    def latest(self, name: str) -> Any:
        """Return the latest answer of this name; None if there is none."""
        return self._answers.latest(name, has_ended=self._child.poll() is not None)

    def forget_log(self) -> None:
        """Delete the log of the task's output."""
        self._log.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the child if it is still running; its job stays on disk."""
        self._child.terminate()
        try:
            self._child.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:  # a task may have caught the signal
            self._child.kill()
        self._ended()
        self._answers.close()

    def _ended(self) -> int:
        assert self._child.stdin is not None
        code = self._child.wait()
        self._child.stdin.close()
        return code
