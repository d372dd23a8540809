"""The films of a run, made one at a time in a child process while training continues."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from gallop.answers import Answers, keep_short
from gallop.experiments.own_code import ISOLATED, child_environment
from gallop.experiments.settings import Experiment
from gallop.report.video import (
    NO_BACKEND,
    SDL_DRIVER,
    Backend,
    find_backend,
    how_to_fix,
    is_mujoco_job,
    why_not_filmed,
)
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory

NOT_YET = "not filmed yet"
SECONDS_TO_STOP = 5.0  # after which the child is killed

log = logging.getLogger(__name__)


class Filming:
    """A child process that makes the film of one job."""

    def __init__(self, job: Path, folder: Path, backend: Backend | None) -> None:
        """
        Args:
            job: the file written by `video.write_job`.
            folder: where the film is written.
            backend: how MuJoCo renders; None for tasks that draw in other ways.
        """
        environment = {
            **child_environment(),
            "SDL_VIDEODRIVER": SDL_DRIVER,  # pygame tasks then draw without a display
            "LP_NUM_THREADS": "1",  # leave the other cores to training when GL is in software
        }
        if backend is not None:
            environment |= {"MUJOCO_GL": backend.name}
        software = "software" if backend is not None and backend.is_software else "hardware"
        arguments = [str(job), str(folder), software]
        self._log = job.with_suffix(".log")  # output of the task
        self._log.write_bytes(b"")
        with self._log.open("ab") as log_file:
            self._child = subprocess.Popen(
                [sys.executable, ISOLATED, "-m", "gallop.report.video", *arguments],
                env=environment,
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

    @property
    def frames(self) -> tuple[int, int]:
        """Frames done and frames in total; (0, 0) before the first."""
        done, total = self._latest("frames") or (0, 0)
        return int(done), int(total)

    def error(self) -> str | None:
        """Return, once the child has ended, why there is no film; None if there is one."""
        code, told = self._ended(), self._latest("reason")
        if code == 0:
            return None
        return told or f"the filming process ended with exit code {code}; see {self._log}"

    def note(self) -> str:
        """Return, once the child has ended, a remark about the film, or ""."""
        return str(self._latest("note") or "")

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

    def _latest(self, name: str) -> Any:
        return self._answers.latest(name, has_ended=self._child.poll() is not None)


class FilmQueue:
    """Films one milestone at a time in a child process; the jobs on disk are the queue."""

    def __init__(self, folder: RunDirectory, experiment: Experiment) -> None:
        """
        Args:
            folder: the run.
            experiment: its experiment.
        """
        self._folder, self._experiment = folder, experiment
        self._filming: Filming | None = None
        self._percent = 0
        self._failed: set[int] = set()

    def poll(self) -> bool:
        """Record a finished film and start the next one.

        Returns:
            Whether a film is still being made.
        """
        if self._filming is not None:
            if self._filming.running:
                return True
            error, note = self._filming.error(), self._filming.note()
            if error is None:
                self._filming.forget_log()
            self._note(self._percent, error, note)
            self._filming = None
        for job in self._folder.film_jobs():
            percent = int(job.stem)
            if percent in self._failed:
                continue
            reason = why_not_filmed(job, self._experiment)
            if reason:
                self._note(percent, reason)
                continue
            backend = find_backend()
            if backend is None and is_mujoco_job(job):
                self._note(percent, f"{NO_BACKEND}; to fix it: {how_to_fix()}")
                continue
            milestone = self._folder.milestone(percent)
            manifest.forget(milestone.path, (milestone.film.name, milestone.gif.name))
            self._filming = Filming(job, milestone.path, backend)
            self._percent = percent
            return True
        return False

    def describe(self) -> str:
        """Return a line of progress for the film being made."""
        film = self._filming
        if film is None:
            return "filming"
        done, total = film.frames
        return f"filming {self._percent} %: {done} of {total or '…'} frames"

    def close(self) -> None:
        """End the child; its job stays on disk, so that a resumed run makes the film."""
        if self._filming is not None:
            self._filming.stop()
            self._filming = None

    def _note(self, percent: int, error: str | None, note: str = "") -> None:
        milestone = self._folder.milestone(percent)
        meta = milestone.read_meta()
        names = (milestone.film.name, milestone.gif.name)
        if error is None:
            manifest.record(milestone.path, names)
        else:
            self._failed.add(percent)  # the job stays: `run --resume` retries it
            log.warning("no film of %d %%: %s", percent, error)
        if meta is not None:
            meta = {name: value for name, value in meta.items() if name != "film_note"}
            milestone.write_meta(meta | ({"film_note": note} if note else {}))
            milestone.note_missing(dict.fromkeys(names, error))
        if error is None:  # last, so that after a kill in between the film is made again
            job = self._folder.film_job(percent)
            manifest.forget(job.parent, [job.name])
            job.unlink(missing_ok=True)
