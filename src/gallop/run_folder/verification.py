"""Is a run, or a group of them, as it was written? Every byte of it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gallop.errors import RunError
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.provenance import VOUCHED, now
from gallop.run_folder.seed_group import SeedGroup, is_group


@dataclass
class Found:
    """What reading a folder came to."""

    problems: list[str] = field(default_factory=list)
    """One line for each file that is damaged or missing."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""
    n_files: int = 0
    """Whole or damaged."""


def verify(path: Path) -> Found:
    """Read a run, or a group and all its runs.

    Raises:
        RunError: if the folder is neither, or another process is running it.
    """
    found = Found()
    if not is_group(path):
        with _at_rest(RunDirectory(path)):
            _verify_run(RunDirectory(path), found)
        return found
    group = SeedGroup(path)
    _verify_results(path, found)
    try:
        runs = group.runs()
    except RunError as error:
        found.problems.append(str(error))
        runs = {}
    for run in runs.values():
        if run.path.exists():
            with _at_rest(run):
                _verify_run(run, found)
        else:
            found.notes.append(f"{run.path} has not begun")
    return found


def accept(path: Path) -> list[manifest.Damage]:
    """Take the results as they are, from now on: the manifest is written again, and provenance.json
    tells which were not as they had been written.

    Raises:
        RunError: if the folder holds no run, or its provenance.json cannot be read.
    """
    run = RunDirectory(path)
    if not run.experiment_file.is_file():
        raise RunError(f"{path} is no run: it holds no experiment.yaml")
    with run.locked():
        record = run.read_json("provenance.json")
        try:
            found = manifest.damages(path)
            names = [damage.path.relative_to(path).as_posix() for damage in found]
        except manifest.DamagedError:
            found = [manifest.Damage(path / manifest.NAME, "damaged or missing")]
            names = [manifest.NAME]
        manifest.begin(path)
        entry = {"at": now(), "files": names}
        accepted = [*record.get("accepted", []), entry]
        run.write_json("provenance.json", record | VOUCHED | {"accepted": accepted})
    return found


@contextlib.contextmanager
def _at_rest(run: RunDirectory) -> Iterator[None]:
    """Held, so that nobody writes while it is read; what we may not write is only read."""
    if run.state.is_dir() and os.access(run.state, os.W_OK):
        with run.locked():
            yield
    else:
        yield


def _verify_run(run: RunDirectory, found: Found) -> None:
    if not run.experiment_file.exists() and manifest.root_of(run.path) is None:
        raise RunError(f"{run.path} is no run: it holds no experiment.yaml")
    _verify_results(run.path, found)
    _verify_state(run, found)


def _verify_results(root: Path, found: Found) -> None:
    if manifest.root_of(root) is None and not _should_have_manifest(root):
        found.notes.append(
            f"{root} was made by a version that wrote no {manifest.NAME}: its results cannot be "
            "checked"
        )
        return
    try:
        found.problems += map(str, manifest.damages(root))
        found.n_files += len(manifest.read(root)) + 1
    except RunError as error:
        found.problems.append(str(error))


def _should_have_manifest(root: Path) -> bool:
    name = "seeds.json" if is_group(root) else "provenance.json"
    try:
        return bool(RunDirectory(root).read_json(name).get("manifest"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # a run of this version or not, it is damaged


def _verify_state(run: RunDirectory, found: Found) -> None:
    checked = [
        *resume_state.check_boundaries(run.state),
        *resume_state.check_learners(run.state),
    ]
    damaged = {path for each in checked for path in each.damaged}
    for path in sorted(damaged):
        found.problems.append(f"{path} is {'damaged' if path.exists() else 'missing'}")
    for each in checked:
        found.n_files += each.n_files
    if any(each.folder.parent == run.state for each in checked):
        return
    try:
        segments = run.numbers.read_segments()
        cleaned = run.read_json("provenance.json").get("cleaned")
    except (OSError, ValueError):
        return  # said already
    if cleaned:
        found.notes.append(f"{run.path}: what resuming needs was removed by gallop clean")
    elif segments:
        found.problems.append(
            f"{run.state} holds no boundary, and the run was saved at timestep "
            f"{segments[-1].timestep:,}"
        )
