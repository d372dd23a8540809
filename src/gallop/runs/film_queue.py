"""The films of a run, made one at a time in a child process beside training."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

from gallop.experiments.own_code import ISOLATED, child_environment
from gallop.report.video import NO_BACKEND, Backend, find_backend, is_mujoco_job, mend
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory

NOT_YET = "not filmed yet"

log = logging.getLogger(__name__)


class Filming:
    """A child process that films one job. `n_frames` of `n_total` are done."""

    def __init__(self, job: Path, folder: Path, backend: Backend | None) -> None:
        environment = {
            **child_environment(),
            "SDL_VIDEODRIVER": "dummy",  # pygame's tasks draw without a display
            "LP_NUM_THREADS": "1",  # software GL leaves the other cores to training
        }
        if backend is not None:
            environment |= {"MUJOCO_GL": backend.name}
        software = "software" if backend is not None and backend.is_software else "hardware"
        self.n_frames, self.n_total = 0, 0
        self._last_line = ""
        arguments = [str(job), str(folder), software]
        self._child = subprocess.Popen(
            [sys.executable, ISOLATED, "-m", "gallop.report.video", *arguments],
            env=environment,
            stdin=subprocess.PIPE,  # it ends when we do: see ending.py
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is the parent's to answer
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "frames":
                done, _, total = rest.partition(" ")
                self.n_frames, self.n_total = int(done), int(total)
            elif line.strip():
                self._last_line = line.strip()

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def error(self) -> str | None:
        """After the end: None if the film is there, else why it is not."""
        self._finish()
        if self._child.returncode == 0:
            return None
        return self._last_line or f"the filming process died with code {self._child.returncode}"

    def stop(self) -> None:
        """End the child; its job stays on disk."""
        self._child.terminate()
        self._child.wait()
        self._finish()

    def _finish(self) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._reader.join(timeout=10)
        self._child.stdout.close()


class FilmQueue:
    """Films one milestone at a time in a child; the jobs on disk are the queue."""

    def __init__(self, folder: RunDirectory) -> None:
        self._folder = folder
        self._filming: Filming | None = None
        self._percent = 0
        self._failed: set[int] = set()

    def poll(self) -> bool:
        """Note a film that is done and start the next; True while there is one to wait for."""
        if self._filming is not None:
            if self._filming.running:
                return True
            self._note(self._percent, self._filming.error())
            self._filming = None
        for job in self._folder.film_jobs():
            percent = int(job.stem)
            if percent in self._failed:
                continue
            backend = find_backend()
            if backend is None and is_mujoco_job(job):
                self._note(percent, f"{NO_BACKEND}; to mend it: {mend()}")
                continue
            milestone = self._folder.milestone(percent)
            manifest.forget(milestone.path, (milestone.film.name, milestone.gif.name))
            self._filming = Filming(job, milestone.path, backend)
            self._percent = percent
            return True
        return False

    def describe(self) -> str:
        """How far the film is."""
        film = self._filming
        if film is None:
            return "filming"
        return f"filming {self._percent} %: {film.n_frames} of {film.n_total or '…'} frames"

    def close(self) -> None:
        """End the child; its job stays, and a resumed run films it."""
        if self._filming is not None and self._filming.running:
            self._filming.stop()

    def _note(self, percent: int, error: str | None) -> None:
        milestone = self._folder.milestone(percent)
        meta = milestone.read_meta()
        names = (milestone.film.name, milestone.gif.name)
        if error is None:
            manifest.record(milestone.path, names)
        else:
            self._failed.add(percent)  # the job stays: `run --resume` tries again
            log.warning("no film of %d %%: %s", percent, error)
        if meta is not None:
            missing = {} if error is None else dict.fromkeys(names, error)
            milestone.write_meta(meta | {"missing": missing})
        if error is None:  # last: a kill before this films again
            job = self._folder.film_job(percent)
            manifest.forget(job.parent, [job.name])
            job.unlink(missing_ok=True)
