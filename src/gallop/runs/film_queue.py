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
    SDL_DRIVER,
    Backend,
    find_backend,
    renderer_with,
    variables_for,
    why_not_filmed,
)
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory

NOT_YET = "not filmed yet"
SECONDS_TO_STOP = 5.0  # after which the child is killed

log = logging.getLogger(__name__)


class Filming:
    """A child process that makes the film of one job."""

    def __init__(
        self, job: Path, folder: Path, backend: Backend | None, module: str = "video"
    ) -> None:
        """
        Args:
            job: the file written by `write_job` of the module.
            folder: where the film is written.
            backend: how MuJoCo renders; None: without OpenGL.
            module: `video` for the film of a milestone, or `progress_film`.
        """
        environment = {
            **child_environment(),
            **variables_for(backend),
            "SDL_VIDEODRIVER": SDL_DRIVER,  # pygame tasks then draw without a display
            "LP_NUM_THREADS": "1",  # leave the other cores to training when GL is in software
        }
        arguments = [str(job), str(folder)]
        if module == "video":
            arguments.append(renderer_with(backend))
        self._log = job.with_suffix(".log")  # output of the task
        self._log.write_bytes(b"")
        with self._log.open("ab") as log_file:
            self._child = subprocess.Popen(
                [sys.executable, ISOLATED, "-m", f"gallop.report.{module}", *arguments],
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
    """Makes one film at a time in a child process; the jobs on disk are the queue.

    The films of the milestones come first, then the progress film that is made of them.
    """

    def __init__(self, folder: RunDirectory, experiment: Experiment) -> None:
        """
        Args:
            folder: the run.
            experiment: its experiment.
        """
        self._folder, self._experiment = folder, experiment
        self._filming: Filming | None = None
        self._job = folder.progress_job
        self._done: set[Path] = set()  # jobs that stay on disk

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
            self._note(self._job, error, note)
            self._filming = None
        waiting = (job for job in self._folder.film_jobs() if job not in self._done)
        return any(map(self._start, waiting))  # the first that can be made

    def describe(self) -> str:
        """Return a line of progress for the film being made."""
        film = self._filming
        if film is None:
            return "filming"
        done, total = film.frames
        percent = "" if self._is_progress(self._job) else f" {int(self._job.stem)} %"
        return f"filming{percent}: {done} of {total or '…'} frames"

    def close(self) -> None:
        """End the child; its job stays on disk, so that a resumed run makes the film."""
        if self._filming is not None:
            self._filming.stop()
            self._filming = None

    def _start(self, job: Path) -> bool:
        """Start a job's film; returns False if there is a reason against it, which is recorded."""
        if self._is_progress(job):
            manifest.forget(self._folder.path, self._names(job))
            self._filming = Filming(job, self._folder.path, None, "progress_film")
        elif reason := why_not_filmed(job, self._experiment):
            self._note(job, reason)
            return False
        else:
            milestone = self._folder.milestone(int(job.stem))
            manifest.forget(milestone.path, self._names(job))
            self._filming = Filming(job, milestone.path, find_backend())
        self._job = job
        return True

    def _is_progress(self, job: Path) -> bool:
        return job == self._folder.progress_job

    def _names(self, job: Path) -> tuple[str, str]:
        """Return the names of a job's films."""
        if self._is_progress(job):
            return self._folder.progress_film.name, self._folder.progress_gif.name
        milestone = self._folder.milestone(int(job.stem))
        return milestone.film.name, milestone.gif.name

    def _note(self, job: Path, error: str | None, note: str = "") -> None:
        """Record what came of a job; one that failed stays, and `run --resume` retries it."""
        if self._is_progress(job):
            self._note_progress(job, error)
        else:
            self._note_milestone(job, error, note)

    def _note_progress(self, job: Path, error: str | None) -> None:
        self._done.add(job)
        if error is not None:
            log.warning("no progress film: %s", error)
            return
        manifest.record(self._folder.path, self._names(job))
        if self._folder.film_jobs() == [job]:  # else films are missing that may come later
            self._forget(job)

    def _note_milestone(self, job: Path, error: str | None, note: str) -> None:
        percent = int(job.stem)
        milestone = self._folder.milestone(percent)
        meta, names = milestone.read_meta(), self._names(job)
        if error is None:
            manifest.record(milestone.path, names)
        else:
            self._done.add(job)
            log.warning("no film of %d %%: %s", percent, error)
        if meta is not None:
            meta = {name: value for name, value in meta.items() if name != "film_note"}
            milestone.write_meta(meta | ({"film_note": note} if note else {}))
            milestone.note_missing(dict.fromkeys(names, error))
        if error is None:  # last, so that after a kill in between the film is made again
            self._forget(job)

    @staticmethod
    def _forget(job: Path) -> None:
        manifest.forget(job.parent, [job.name])
        job.unlink(missing_ok=True)
