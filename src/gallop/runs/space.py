"""Is there room for a run on the disk? Asked before it begins, and at each boundary."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.plan import Plan
from gallop.report.display import Display
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.full_disk import DiskFullError, file_of, free_bytes, in_words, is_full
from gallop.run_folder.resume_state import Saved, last_timestep, occupied_bytes

log = logging.getLogger(__name__)

N_AT_LEAST = 2  # boundaries: one that is whole, and the next while it is written
OTHERS = 1_000_000  # bytes of the tables and figures that a boundary writes beside its state


def check_before(path: Path, plan: Plan, display: Display, n_runs: int = 1) -> None:
    """Refuse a run for which there is no room at all; warn where it may not reach to the end.

    Raises:
        RunError: if not even two boundaries have room.
    """
    free, least = free_bytes(path), n_runs * N_AT_LEAST * plan.boundary_bytes
    in_all = n_runs * plan.disk_bytes
    if free < least:
        raise RunError(
            f"{path} has no room: {in_words(free)} are free, two boundaries need about "
            f"{in_words(least)}, and the whole up to {in_words(in_all)}; free some, or give "
            "another place with --log-folder"
        )
    if free < in_all:
        display.say(
            f"little room: {in_words(free)} are free, and up to {in_words(in_all)} may be needed; "
            "a full disk stops the run, which can go on from its last boundary"
        )


def check_at(saved: Saved, folder: RunDirectory, plan: Plan) -> None:
    """Stop at a boundary if there is no room for the next one: nothing has been learnt since.

    Raises:
        DiskFullError: saying so, and how to go on.
    """
    shards = [folder.state / "replay" / name for name in list(saved.shards)[-1:]]
    state = occupied_bytes(saved.folder) + sum(shard.stat().st_size for shard in shards)
    needed = 2 * state + OTHERS  # the next one, its policy files, and what one segment adds
    if free_bytes(folder.path) < needed:
        rest = f", about {in_words(needed)} needed){_kept(folder, plan)}"
        raise DiskFullError(folder.state, rest, what="has no room for the next boundary")


@contextlib.contextmanager
def explaining(folder: RunDirectory, plan: Plan) -> Iterator[None]:
    """A full disk becomes one line: the file, what is free and needed, what is kept, how to go on.

    Raises:
        DiskFullError: instead of whatever a library raised for it.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        log.info("ended: the disk is full", exc_info=error)
        if isinstance(error, DiskFullError) and error.says_how_to_go_on:
            raise
        left = plan.disk_bytes - occupied_bytes(folder.path)
        needed = in_words(max(left, plan.boundary_bytes))
        rest = f", up to {needed} needed to the end){_kept(folder, plan)}"
        raise DiskFullError(file_of(error, folder.path), rest, error) from error


def _kept(folder: RunDirectory, plan: Plan) -> str:
    return (
        f"; nothing is lost: the run is kept up to timestep {last_timestep(folder.state):,} of "
        f"{plan.horizon:,}; when there is room: gallop run --resume {folder.path}"
    )
