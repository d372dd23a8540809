"""Which process holds a folder or a study, on which machine and since when.

A lock only tells that it is held; this record names the holder in the error message.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from pathlib import Path
from typing import NamedTuple

from gallop.errors import printable

SUFFIX = ".holder"  # of a file next to the lock; without a held lock it means nothing
MAX_BYTES = 4096


class Holder(NamedTuple):
    """A process that holds something."""

    pid: int
    host: str
    began: str
    """When the process started, in the system's ticks; empty if unknown."""
    since: str
    system: str = ""
    """Identifies the boot and process namespace, because containers may share a host name; empty if
    unknown."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_gone(self) -> bool:
        """Whether the process has certainly ended; unknown, so False, for another machine or
        container."""
        if self.host != platform.node() or not self.began:
            return False
        if not self.system or self.system != _system():
            return False
        return self.began != _began(self.pid)


def ourselves() -> Holder:
    """Return the record of this process."""
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return Holder(os.getpid(), platform.node(), _began(os.getpid()), since, _system())


def holder_from(data: object) -> Holder | None:
    """Return the holder stored in a file or a database; None if the data is not valid."""
    if not isinstance(data, dict):
        return None
    named = Holder._field_defaults | data  # earlier versions write less
    pid, texts = named.get("pid"), [named.get(name) for name in Holder._fields[1:]]
    if type(pid) is not int or not all(isinstance(text, str) for text in texts):
        return None
    return Holder(pid, *(printable(str(text))[:100] for text in texts))


def write_beside(lock: Path) -> None:
    """Record next to a lock that we hold it; errors are ignored."""
    text = json.dumps(ourselves()._asdict()) + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError):
        descriptor = os.open(_file(lock), flags, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def forget_beside(lock: Path) -> None:
    """Delete our record next to a lock."""
    found = read_beside(lock)
    if found is not None and found[:3] == ourselves()[:3]:  # the folder may have been replaced
        with contextlib.suppress(OSError):
            _file(lock).unlink()


def read_beside(lock: Path) -> Holder | None:
    """Return the recorded holder of a lock; None if unknown."""
    try:
        if not _file(lock).is_file():
            return None
        with _file(lock).open("rb") as file:
            return holder_from(json.loads(file.read(MAX_BYTES)))
    except (OSError, ValueError, RecursionError):
        return None


def _file(lock: Path) -> Path:
    return lock.with_name(lock.name + SUFFIX)


def _system() -> str:
    """Return an id of this boot and of our namespace of process ids; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Return when a process started, in ticks since boot; "" if it does not exist or is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    state, began = fields[0], fields[19]
    return "" if state in "ZX" else began
