"""The audits of a run's milestones, made one at a time in a child process while it trains."""

from __future__ import annotations

import logging
from pathlib import Path

from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import remove_file
from gallop.runs.child_job import ChildJob

NOT_YET = "not audited yet"

log = logging.getLogger(__name__)


class AuditQueue:
    """Audits one milestone at a time; the jobs on disk are the queue."""

    def __init__(self, folder: RunDirectory) -> None:
        """
        Args:
            folder: the run.
        """
        self._folder = folder
        self.n_ended = 0
        """Jobs that have ended so far, with or without success."""
        self._child: ChildJob | None = None
        self._job = Path()
        self._failed: set[Path] = set()
        self._unknown: set[Path] = set()  # told already

    def poll(self) -> bool:
        """Record a finished audit and start the next one.

        Returns:
            Whether an audit is still being made.
        """
        if self._child is not None:
            if self._child.running:
                return True
            error = self._child.error()
            if error is None:
                self._child.forget_log()
            self._note(error)
            self._child = None
        waiting = (job for job in self._folder.audit_jobs() if job not in self._failed)
        return any(map(self._start, waiting))  # the first that can be made

    def _start(self, job: Path) -> bool:
        """Start a job's audit; returns False if it cannot be started, which is told once."""
        milestone = self._folder.milestone(int(job.stem))
        if milestone.read_meta() is None:
            if job not in self._unknown:
                self._unknown.add(job)
                log.warning("%s is not audited: the run has no such milestone", job)
            return False
        self._job = job
        manifest.forget(milestone.path, [path.name for path in milestone.audit_files()])
        try:
            module = "gallop.report.audit_files"
            self._child = ChildJob(module, job, [str(milestone.path)], {})
        except OSError as error:
            self._note(f"its process cannot be started: {error}")
            return False
        return True

    @property
    def _percent(self) -> int:
        return int(self._job.stem)

    def describe(self) -> str:
        """Return a line of progress for the audit being made; empty if there is none."""
        return "" if self._child is None else f"auditing {self._percent} %"

    def close(self) -> None:
        """End the child; its job stays on disk, so that a resumed run makes the audit."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _note(self, error: str | None) -> None:
        self.n_ended += 1
        milestone = self._folder.milestone(self._percent)
        if error is None:
            manifest.record(milestone.path, [path.name for path in milestone.audit_files()])
        else:
            self._failed.add(self._job)  # the job stays: `run --resume` retries it
            log.warning("no audit of %d %%: %s", self._percent, error)
        milestone.note_missing({milestone.audit.name: error})
        if error is None:  # last, so that after a kill in between the audit is made again
            manifest.forget(self._job.parent, [self._job.name])
            remove_file(self._job)
