"""A lease that lets only one process coordinate a study.

A folder's lock protects only that folder. A study in a database can be opened from two folders or
two machines, and the second coordinator would mistake the running trials of the first for those of
a killed process. Therefore the coordinator writes a heartbeat into the study, and a second one is
refused while the heartbeat continues.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator

import optuna

from gallop.errors import HeldError
from gallop.run_folder.holder import Holder, holder_from, ourselves

HOLDER = "gallop_holder"  # user attribute of a study
SECONDS_BETWEEN_BEATS = 2.0
PATIENCE = 15.0  # seconds without a heartbeat after which a study is free
SECONDS_UNSAID = 2.0  # shorter waits are not reported
SECONDS_TO_RELEASE = 10.0  # for the database's last answer
SETTLE = 0.5  # seconds after which a coordinator that started at the same moment is visible

log = logging.getLogger(__name__)


class Lease:
    """This process's hold on a study."""

    def __init__(self, study: optuna.Study) -> None:
        """Prepare to hold a study; `take` holds it."""
        self._study = study
        self._token, self._holder = uuid.uuid4().hex, ourselves()
        self._n_beats, self._other = 0, ""
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)

    def check(self) -> None:
        """Check that this process still holds the study.

        Raises:
            HeldError: if another process has taken it over, for example after a long suspension.
        """
        if self._other:
            raise HeldError(self._other)

    def take(self, settle: bool) -> None:
        """Take the study, which no process holds, and start the heartbeat.

        Args:
            settle: wait a moment, and check that no other process took it at the same time.

        Raises:
            HeldError: if another process took it at the same moment, a little later.
        """
        self._beat()
        if settle:
            time.sleep(SETTLE)
            self._look()
            self.check()
        self._thread.start()

    def release(self) -> None:
        """Stop the heartbeat and free the study."""
        self._released.set()
        self._thread.join(SECONDS_TO_RELEASE)
        if self._thread.is_alive():
            log.warning(
                "the study's database does not respond; the study will be free in %.0f s", PATIENCE
            )
        elif not self._other:
            with contextlib.suppress(Exception):  # without a heartbeat it becomes free anyway
                self._study.set_user_attr(HOLDER, None)

    def _live(self) -> None:
        while not self._released.wait(SECONDS_BETWEEN_BEATS):
            with contextlib.suppress(Exception):  # the database may be busy; try again later
                self._look()
                if self._other:
                    return
                self._beat()

    def _beat(self) -> None:
        self._n_beats += 1
        sign = {**self._holder._asdict(), "token": self._token, "beat": self._n_beats}
        self._study.set_user_attr(HOLDER, sign)

    def _look(self) -> None:
        found = self._study.user_attrs.get(HOLDER)
        if isinstance(found, dict) and found.get("token") != self._token:
            self._other = _refusal(self._study, holder_from(found))


@contextlib.contextmanager
def held(study: optuna.Study, settle: bool) -> Iterator[Lease]:
    """Hold a study within a `with` block.

    Args:
        study: the study.
        settle: check again after a moment; needed for databases that several processes may open.

    Raises:
        HeldError: if another process coordinates the study.
    """
    wait_until_free(study)
    lease = Lease(study)
    lease.take(settle)
    try:
        yield lease
    finally:
        lease.release()


def wait_until_free(study: optuna.Study) -> None:
    """Wait until no process coordinates the study, or its holder's heartbeat has stopped.

    Raises:
        HeldError: if another process coordinates it.
    """
    first = study.user_attrs.get(HOLDER)
    holder = holder_from(first)
    if holder is None or holder.is_gone():
        return
    began, is_said = time.monotonic(), False
    while (waited := time.monotonic() - began) < PATIENCE:
        if waited >= SECONDS_UNSAID and not is_said:
            is_said = True
            log.warning(
                "study %r was being searched by %s; waiting %.0f s to see whether it still is",
                study.study_name,
                holder,
                PATIENCE,
            )
        time.sleep(SETTLE)
        now = study.user_attrs.get(HOLDER)
        if now is None:
            return
        if now != first:
            raise HeldError(_refusal(study, holder_from(now)))


def _refusal(study: optuna.Study, holder: Holder | None) -> str:
    return (
        f"study {study.study_name!r} is being searched by {holder or 'another process'}; "
        "choose another study with --study-name"
    )
