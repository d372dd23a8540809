"""Removing what resuming needs, on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gallop.errors import RunError
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.provenance import now
from gallop.run_folder.resume_state import forget, occupied_bytes
from gallop.run_folder.seed_group import SeedGroup, is_group


def clean(paths: Sequence[Path], unfinished: bool = False) -> list[tuple[RunDirectory, int]]:
    """Remove the states of runs, and of all runs of groups. All are looked at before the first.

    Args:
        unfinished: also of runs that did not come to their end.

    Returns:
        Each run, and the bytes that it gave back (a shard that a longer run shares stays).

    Raises:
        RunError: if one holds no run, is not finished, or another process is running it; nothing is
            removed then.
    """
    runs = [run for path in paths for run in _runs(path)]
    with ExitStack() as held:
        for run in runs:
            run.look_at_experiment()
            held.enter_context(run.locked())
            manifest.check(run.provenance_file)
            if not run.is_finished() and not unfinished:
                raise RunError(
                    f"{run.path} is not finished, and without its state it can never go on: "
                    f"gallop run --resume {run.path} goes on with it; --unfinished cleans it"
                )
        return [(run, _clean(run)) for run in runs]


def _runs(path: Path) -> list[RunDirectory]:
    if not is_group(path):
        return [RunDirectory(path)]
    return [run for run in SeedGroup(path).runs().values() if run.path.exists()]


def _clean(run: RunDirectory) -> int:
    before = occupied_bytes(run.state)
    record = run.read_json("provenance.json")
    # First, so that a kill in between leaves no state that nobody removed.
    run.write_json("provenance.json", record | {"cleaned": now()})
    forget(run.state)
    manifest.settle(run.path)
    return before - occupied_bytes(run.state)
