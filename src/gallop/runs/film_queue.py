"""The films of a run, made one at a time in a child process while training continues."""

from __future__ import annotations

import logging
from pathlib import Path

from gallop.experiments.settings import Experiment
from gallop.report.films.video import (
    SDL_DRIVER,
    Backend,
    find_backend,
    renderer_with,
    variables_for,
    why_not_filmed,
)
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import remove_file
from gallop.runs.child_job import ChildJob

NOT_YET = "not filmed yet"

log = logging.getLogger(__name__)


class Filming(ChildJob):
    """A child process that makes the film of one job."""

    def __init__(self, job: Path, folder: Path, backend: Backend | None) -> None:
        """
        Args:
            job: the file written by `video.write_job`.
            folder: where the film is written.
            backend: how MuJoCo renders; None: without OpenGL.
        """
        environment = {
            **variables_for(backend),
            "SDL_VIDEODRIVER": SDL_DRIVER,  # pygame tasks then draw without a display
            "LP_NUM_THREADS": "1",  # leave the other cores to training when GL is in software
        }
        arguments = [str(folder), renderer_with(backend)]
        super().__init__("gallop.report.films.video", job, arguments, environment)

    def note(self) -> str:
        """Return, once the child has ended, a remark about the film, or ""."""
        return str(self.latest("note") or "")


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
        self.n_ended = 0
        """Films that have ended so far, with or without success."""
        self._filming: ChildJob | None = None
        self._job = folder.progress_job
        self._done: set[Path] = set()  # jobs that stay on disk

    @property
    def is_busy(self) -> bool:
        """Whether a film is being made, or has just been made."""
        return self._filming is not None

    def poll(self) -> bool:
        """Record a finished film and start the next one.

        Returns:
            Whether a film is still being made.
        """
        if self._filming is not None:
            if self._filming.running:
                return True
            error, note = self._filming.error(), self._filming.latest("note")
            if error is None:
                self._filming.forget_log()
            self._note(self._job, error, str(note or ""))
            self._filming = None
        waiting = (job for job in self._folder.film_jobs() if job not in self._done)
        return any(map(self._start, waiting))  # the first that can be made

    def describe(self) -> str:
        """Return a line of progress for the film being made."""
        film = self._filming
        if film is None:
            return "filming"
        if self._is_progress(self._job):
            filmed = (
                p for p in self._experiment.milestones if self._folder.milestone(p).film.exists()
            )
            return f"progress film: {', '.join(f'{p} %' for p in filmed)} side by side"
        done, total = film.latest("frames") or (0, 0)
        return f"filming {int(self._job.stem)} %: {done} of {total or '…'} frames"

    def close(self) -> None:
        """End the child; its job stays on disk, so that a resumed run makes the film."""
        if self._filming is not None:
            self._filming.stop()
            self._filming = None

    def _start(self, job: Path) -> bool:
        """Start a job's film; returns False if there is a reason against it, which is recorded."""
        if self._is_progress(job):
            manifest.forget(self._folder.path, self._names(job))
            module = "gallop.report.films.progress_film"
            self._filming = ChildJob(module, job, [str(self._folder.path)], {})
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
        self.n_ended += 1
        if self._is_progress(job):
            self._note_progress(job, error, note)
        else:
            self._note_milestone(job, error, note)

    def _note_progress(self, job: Path, error: str | None, note: str) -> None:
        self._done.add(job)
        if error is not None:
            log.warning("no progress film: %s", error)
            return
        if note:
            log.warning("progress film: %s", note)
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
            there = {name: (milestone.path / name).exists() for name in names}
            # A film without its gif says why in its note.
            milestone.note_missing({n: error or (None if there[n] else note) for n in names})
        if error is None:  # last, so that after a kill in between the film is made again
            self._forget(job)

    @staticmethod
    def _forget(job: Path) -> None:
        manifest.forget(job.parent, [job.name])
        remove_file(job)
