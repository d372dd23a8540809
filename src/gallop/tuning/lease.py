"""One coordinator a study: a lease in the study itself.

A folder's lock holds for one folder. A study in a database can be asked for from two folders, or
two machines, and the second coordinator would take the first one's running trials for those of a
killed one. So whoever coordinates leaves a sign of life in the study, and a second one is refused
while that goes on.
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
PATIENCE = 15.0  # seconds without a sign of life after which a study is free
SECONDS_UNSAID = 2.0  # a wait that is shorter needs no word
SECONDS_TO_RELEASE = 10.0  # for the last answer of a database
SETTLE = 0.5  # seconds in which another one that begins at this very moment can be seen

log = logging.getLogger(__name__)


class Lease:
    """Our hold of a study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._token, self._holder = uuid.uuid4().hex, ourselves()
        self._n_beats, self._other = 0, ""
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)

    def check(self) -> None:
        """See that we still hold it.

        Raises:
            HeldError: if another process took us for dead, as after a long suspension.
        """
        if self._other:
            raise HeldError(self._other)

    def take(self, settle: bool) -> None:
        """Take the study, as nobody holds it.

        Raises:
            HeldError: if another process began at the same moment, and was later.
        """
        self._beat()
        if settle:
            time.sleep(SETTLE)
            self._look()
            self.check()
        self._thread.start()

    def release(self) -> None:
        """Give the study back."""
        self._released.set()
        self._thread.join(SECONDS_TO_RELEASE)
        if self._thread.is_alive():
            log.warning(
                "the study's database does not answer: the study is free %.0f s from now", PATIENCE
            )
        elif not self._other:
            with contextlib.suppress(Exception):  # a database that went away frees it by itself
                self._study.set_user_attr(HOLDER, None)

    def _live(self) -> None:
        while not self._released.wait(SECONDS_BETWEEN_BEATS):
            with contextlib.suppress(Exception):  # busy: the next one will come through
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
    """Hold a study.

    Args:
        settle: look again after a moment, for databases that several may begin with at once.

    Raises:
        HeldError: if another process coordinates it.
    """
    wait_until_free(study)
    lease = Lease(study)
    lease.take(settle)
    try:
        yield lease
    finally:
        lease.release()


def wait_until_free(study: optuna.Study) -> None:
    """Return if nobody coordinates the study: at once, or when its holder shows no sign of life.

    Raises:
        HeldError: if another process does.
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
                "study %r was being searched by %s: waiting %.0f s to see whether it still is",
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
        "a second search of it would take its trials (--study-name gives another)"
    )
