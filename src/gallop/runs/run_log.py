"""run.log: what Gallop and its dependencies have to say while a run is under way."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from gallop.report.display import Printable
from gallop.run_folder.full_disk import is_full


class _RunLog(logging.FileHandler):
    """A log whose lines are lost where the disk is full, which stops the run soon enough."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if not is_full(sys.exc_info()[1]):
            super().handleError(record)

    def close(self) -> None:
        """Close the file; what it still holds may have no room."""
        try:
            super().close()
        except OSError as error:
            if not is_full(error):
                raise


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send Gallop's log, and every warning of a dependency, to run.log instead of the screen."""
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
