"""run.log: log messages of Gallop and warnings of its dependencies during a run."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from gallop.report.display import Printable
from gallop.run_folder.full_disk import is_full


class _RunLog(logging.FileHandler):
    """A log file that drops lines while the disk is full; the full disk soon stops the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Handle an error of `emit`; errors of a full disk are ignored."""
        if not is_full(sys.exc_info()[1]):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, even if there is no room for its last lines."""
        try:
            super().close()
        except OSError as error:
            if not is_full(error):
                raise


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Within the block, write Gallop's log and all warnings of dependencies to run.log."""
    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("gallop", "py.warnings")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
