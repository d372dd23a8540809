"""Checks for free disk space: before a run starts, and at each boundary."""

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

N_AT_LEAST = 2  # boundaries: a complete one, and the next one while it is written
OTHERS = 1_000_000  # bytes of tables and figures that a boundary writes in addition to its state


def check_before(path: Path, plan: Plan, display: Display, n_runs: int = 1) -> None:
    """Refuse a run that has no room at all; warn if there may not be enough to finish it.

    Args:
        path: the run's folder.
        plan: the run's plan.
        display: where to print the warning.
        n_runs: number of such runs that share the disk.

    Raises:
        RunError: if there is no room for two boundaries.
    """
    free, least = free_bytes(path), n_runs * N_AT_LEAST * plan.boundary_bytes
    in_all = n_runs * plan.disk_bytes
    if free < least:
        raise RunError(
            f"{path}: not enough disk space: {in_words(free)} free, at least {in_words(least)} "
            f"needed to start and up to {in_words(in_all)} to finish; free some space, or choose "
            "another folder with --log-folder"
        )
    if free < in_all:
        display.say(
            f"disk space is low: {in_words(free)} free, up to {in_words(in_all)} needed; if the "
            "disk fills up, the run stops and can be resumed from its last boundary"
        )


def check_at(saved: Saved, folder: RunDirectory, plan: Plan) -> None:
    """Stop at a boundary if there is no room for the next one; nothing is lost at this point.

    Raises:
        DiskFullError: with how much is needed and how to resume.
    """
    shards = [folder.state / "replay" / name for name in list(saved.shards)[-1:]]
    state = occupied_bytes(saved.folder) + sum(shard.stat().st_size for shard in shards)
    needed = 2 * state + OTHERS  # the next one, its policy files, and what one segment adds
    if free_bytes(folder.path) < needed:
        rest = f", about {in_words(needed)} needed){_kept(folder, plan)}"
        raise DiskFullError(folder.state, rest, what="has no space for the next boundary")


@contextlib.contextmanager
def explaining(folder: RunDirectory, plan: Plan) -> Iterator[None]:
    """Turn errors of a full disk into one line: the file, free and needed space, what is saved, how
    to resume.

    Raises:
        DiskFullError: in place of whatever a library raised.
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
        rest = f", up to {needed} needed to finish){_kept(folder, plan)}"
        raise DiskFullError(file_of(error, folder.path), rest, error) from error


def _kept(folder: RunDirectory, plan: Plan) -> str:
    return (
        f"; the run is saved up to timestep {last_timestep(folder.state):,} of {plan.horizon:,}; "
        f"free some space, then: gallop run --resume {folder.path}"
    )
