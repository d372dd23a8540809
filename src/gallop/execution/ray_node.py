"""What a node of a Ray cluster does for us: it tells what is installed, and watches over processes.

The functions that Ray calls here take and return plain text and numbers. No object of ours is
pickled: the run's folder is on a disk that all nodes share.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import TypedDict

from gallop.execution.child import ItemProcess
from gallop.execution.work import WorkItem
from gallop.machine import instruction_set
from gallop.run_folder import fence
from gallop.run_folder.files import write_bytes
from gallop.run_folder.provenance import commit, versions

SUPERSEDED = 1_000
"""Instead of an exit code, if the run was taken from this node. No process ends with it."""

SECONDS_BETWEEN_BEATS = 2.0
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_UNTIL_SEEN = 10.0  # of a new file, on a network file system


class Order(TypedDict):
    """What a node is to do."""

    folder: str
    command: list[str]
    token: str
    """That of the run's fence."""
    n_threads: int
    environment: dict[str, str]
    working_folder: str


class Told(TypedDict):
    """What a node tells about itself."""

    host: str
    missing: str
    """What is missing to run our items; the other fields are then absent. Otherwise empty."""
    versions: dict[str, str]
    instruction_set: str
    sees: bool
    """Whether it sees the folder of all runs."""


def tell(probe: str, node: str) -> Told:
    """Tell what is installed here, and whether we see the store.

    Args:
        probe: a folder that the driver has made in the store. It holds a file `driver`; each node
            adds a file with its own name.
        node: the name.
    """
    sees, until = False, time.monotonic() + SECONDS_UNTIL_SEEN
    while not sees and time.monotonic() < until:
        sees = Path(probe, "driver").is_file()
        if not sees:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if sees:
        write_bytes(Path(probe, node), b"")
    return Told(
        host=platform.node(),
        missing="",
        versions=installed(),
        instruction_set=_instruction_set(),
        sees=sees,
    )


def installed() -> dict[str, str]:
    """Return the versions that decide the bits of a run: of Gallop, its dependencies, Python."""
    own = commit()
    found = {**versions(), "python": platform.python_version()}
    return {**found, "commit of gallop": own} if own else found


def _instruction_set() -> str:
    try:
        return instruction_set()
    except ImportError:  # installed without the kernels
        return "none"


def supervise(order: Order, node: str) -> tuple[int, str]:
    """Run an item's process to its end, unless the run is taken from us.

    It ends with this process: when Ray cancels the task, when the driver ends, and when the node
    loses the cluster.

    Returns:
        Exit code and reason of the process; SUPERSEDED if the run was taken from us.
    """
    folder, token = Path(order["folder"]), order["token"]
    if fence.read_token(folder) != token:
        return SUPERSEDED, ""
    if Path(order["working_folder"]).is_dir():  # where modules of the user are found
        os.chdir(order["working_folder"])
    environment = {**order["environment"], **fence.variable(folder, token)}
    item = WorkItem(folder, tuple(order["command"]))
    beat = 0
    fence.write_lease(folder, fence.our_lease(token, beat, node))
    child = ItemProcess(item, order["n_threads"], environment)
    try:
        looked = time.monotonic()
        while (code := child.exit_code()) is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if time.monotonic() - looked < SECONDS_BETWEEN_BEATS:
                continue
            looked, beat = time.monotonic(), beat + 1
            if fence.read_token(folder) != token:
                return SUPERSEDED, ""
            with contextlib.suppress(OSError):  # without a beat, the run will be taken from us
                fence.write_lease(folder, fence.our_lease(token, beat, node))
    finally:  # Ray cancels by a KeyboardInterrupt
        child.stop()
        child.wait()
    if code and fence.read_token(folder) != token:  # it ended because of that
        return SUPERSEDED, ""
    return code, child.reason(code)
