"""Who holds a folder or a study: a process, its machine, since when.

A lock says that somebody holds it; this says who, for the line that refuses a second one.
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

SUFFIX = ".holder"  # beside the lock file; left by a kill, it means nothing
MAX_BYTES = 4096


class Holder(NamedTuple):
    """A process that holds something."""

    pid: int
    host: str
    began: str
    """When the process began, as its system counts it; empty where it does not tell."""
    since: str
    system: str = ""
    """The system that counts its processes, told apart from others with the same host name, as
    containers may have; empty where it is not known."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_gone(self) -> bool:
        """Whether the process has certainly ended; of another machine's or container's nobody
        knows."""
        if self.host != platform.node() or not self.began:
            return False
        if not self.system or self.system != _system():
            return False
        return self.began != _began(self.pid)


def ourselves() -> Holder:
    """This process."""
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return Holder(os.getpid(), platform.node(), _began(os.getpid()), since, _system())


def holder_from(data: object) -> Holder | None:
    """From what was read from a file or a database, where it makes sense."""
    if not isinstance(data, dict):
        return None
    named = Holder._field_defaults | data  # earlier versions write less
    pid, texts = named.get("pid"), [named.get(name) for name in Holder._fields[1:]]
    if type(pid) is not int or not all(isinstance(text, str) for text in texts):
        return None
    return Holder(pid, *(printable(str(text))[:100] for text in texts))


def write_beside(lock: Path) -> None:
    """Say that we hold this lock. That it cannot be written is no reason to stop."""
    text = json.dumps(ourselves()._asdict()) + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError):
        descriptor = os.open(_file(lock), flags, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def forget_beside(lock: Path) -> None:
    """We hold it no longer."""
    found = read_beside(lock)
    if found is not None and found[:3] == ourselves()[:3]:  # the folder may be another one by now
        with contextlib.suppress(OSError):
            _file(lock).unlink()


def read_beside(lock: Path) -> Holder | None:
    """Who holds this lock, as far as is known."""
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
    """This start of the system, and the namespace that our process numbers are of; "" unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in ticks since the system did; "" for none, or where it is not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    state, began = fields[0], fields[19]
    return "" if state in "ZX" else began
