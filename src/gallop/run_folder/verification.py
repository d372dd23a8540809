"""Verifying that a run, or a group of runs, is undamaged, by reading every byte."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gallop.errors import HeldError, RunError
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import Json, read_json, write_json
from gallop.run_folder.provenance import VOUCHED, made_again, now, read_provenance
from gallop.run_folder.run_paths import newest_inside
from gallop.run_folder.seed_group import SeedGroup, is_group


@dataclass
class Found:
    """The result of verifying a folder."""

    problems: list[str] = field(default_factory=list)
    """One line per damaged or missing file."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""
    n_files: int = 0
    """Number of files checked, intact or damaged."""


def verify(path: Path) -> Found:
    """Verify a run, or a group and all its runs.

    Raises:
        RunError: if the folder is neither, or another process is running it.
    """
    found = Found()
    if not is_group(path):
        with at_rest(RunDirectory(path)):
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
        _verify_one_of(run, found)
    return found


def accept(path: Path) -> list[manifest.Damage]:
    """Accept the results as they are: rewrite the manifest, and record which files differed.

    For a run, the record is in provenance.json; for a group, whose own files are accepted, in
    seeds.json. An unusable provenance.json is replaced, and the old one is kept next to it.

    Args:
        path: folder of a run or a group.

    Returns:
        The files that differed.

    Raises:
        RunError: if the folder is not a run folder, or another process is running it.
        ExperimentError: if provenance.json cannot be replaced, because the run cannot be prepared
            on this machine.
    """
    if is_group(path):
        return _accept_group(SeedGroup(path))
    run = RunDirectory(path)
    if not run.experiment_file.is_file():
        raise RunError(f"{path}: not a run folder (no experiment.yaml){newest_inside(path)}")
    with run.locked():
        found, record = _unlike(path), read_provenance(run)
        if record is None:
            record = _made_again(run)
            found = _with(found, run.provenance_file)
            _put_aside(run.provenance_file)
        _accept(path, run.provenance_file, found, record | VOUCHED, run.results)
    return found


def _accept_group(group: SeedGroup) -> list[manifest.Damage]:
    with group.locked():
        found = _unlike(group.path)
        try:
            record = read_json(group.seeds_file) | {"training_seeds": group.read_seeds()}
        except (OSError, ValueError):
            record = {"training_seeds": group.seeds_there()}
            found = _with(found, group.seeds_file)
            _put_aside(group.seeds_file)
        vouched = {"manifest": manifest.NAME}
        _accept(group.path, group.seeds_file, found, record | vouched, group.results)
    return found


def _unlike(root: Path) -> list[manifest.Damage]:
    try:
        return manifest.damages(root)
    except manifest.DamagedError:
        return [manifest.Damage(root / manifest.NAME, "damaged or missing")]


def _with(found: list[manifest.Damage], path: Path) -> list[manifest.Damage]:
    known = any(damage.path == path for damage in found)
    return found if known else [*found, manifest.Damage(path, "damaged or missing")]


def _put_aside(path: Path) -> None:
    """Keep a copy of a file that is to be replaced, because a person may still make sense of it."""
    aside = path.with_suffix(".damaged.json")
    if path.exists() and not aside.exists():
        shutil.copyfile(path, aside)


def _accept(
    root: Path,
    record_file: Path,
    found: list[manifest.Damage],
    record: Json,
    results: Callable[[], list[Path]],
) -> None:
    """Accept results; the record is written first, so that nothing is accepted unrecorded."""
    if not found:
        return
    entry = {"at": now(), "files": [d.path.relative_to(root).as_posix() for d in found]}
    record = record | {"accepted": [*record.get("accepted", []), entry]}
    try:
        manifest.write_json_result(record_file, record)
    except manifest.DamagedError:
        write_json(record_file, record)
    manifest.begin(root, results())


def _made_again(run: RunDirectory) -> Json:
    from gallop.run_folder.consent import read_trained
    from gallop.run_folder.prepared import prepare_again

    # Not run.read_experiment(), because experiment.yaml may be among the accepted files.
    return made_again(prepare_again(read_trained(run.experiment_file), run.read_probed()))


@contextlib.contextmanager
def at_rest(run: RunDirectory) -> Iterator[None]:
    """Hold the run within the block, so that it is not written while it is read.

    A folder without write permission is read without holding it.
    """
    if run.state.is_dir() and os.access(run.state, os.W_OK):
        with run.locked():
            yield
    else:
        yield


def _verify_one_of(run: RunDirectory, found: Found) -> None:
    """Verify a run of a group; errors are recorded, so that the others are verified, too."""
    if not run.path.exists() or run.is_leftover():
        found.notes.append(f"{run.path} has not started")
        return
    try:
        with at_rest(run):
            _verify_run(run, found)
    except HeldError as error:
        found.notes.append(f"{error}: not checked")
    except RunError as error:
        found.problems.append(str(error))


def _verify_run(run: RunDirectory, found: Found) -> None:
    if not run.experiment_file.exists() and not (run.path / manifest.NAME).exists():
        raise RunError(
            f"{run.path}: not a run folder (no experiment.yaml){newest_inside(run.path)}"
        )
    _verify_results(run.path, found)
    _verify_state(run, found)


def _verify_results(root: Path, found: Found) -> None:
    if manifest.root_of(root) is None and not _should_have_manifest(root):
        found.notes.append(
            f"{root} was written by a version without {manifest.NAME}: its results cannot be "
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
        return True  # damaged, whatever version wrote it


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
        return  # reported already
    if cleaned:
        found.notes.append(f"{run.path}: its resume state was removed by gallop clean")
    elif segments:
        found.problems.append(
            f"{run.state} has no boundary, although the run was saved at timestep "
            f"{segments[-1].timestep:,}"
        )
