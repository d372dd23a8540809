"""Deleting the resume state of runs on request: `gallop clean`."""

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
    """Delete the resume states of runs, and of all runs of groups; all are checked first.

    Args:
        paths: folders of runs or groups.
        unfinished: also clean unfinished runs.

    Returns:
        Each run with the number of bytes freed (a shard shared with a longer run stays).

    Raises:
        RunError: if a folder is not a run, is unfinished, or is being run by another process;
            nothing is deleted in these cases.
    """
    runs = [run for path in paths for run in _runs(path)]
    with ExitStack() as held:
        for run in runs:
            run.look_at_experiment()
            held.enter_context(run.locked())
            manifest.check(run.provenance_file)
            if not run.is_finished() and not unfinished:
                raise RunError(
                    f"{run.path} is not finished, and cleaning would make it impossible to resume: "
                    f"finish it with gallop run --resume {run.path}, or clean it with --unfinished"
                )
        return [(run, _clean(run)) for run in runs]


def _runs(path: Path) -> list[RunDirectory]:
    if not is_group(path):
        return [RunDirectory(path)]
    return [run for run in SeedGroup(path).runs().values() if run.path.exists()]


def _clean(run: RunDirectory) -> int:
    before = occupied_bytes(run.state)
    record = run.read_json("provenance.json")
    # Recorded first, so that after a kill no missing state is unexplained.
    run.write_json("provenance.json", record | {"cleaned": now()})
    forget(run.state)
    manifest.settle(run.path)
    return before - occupied_bytes(run.state)
