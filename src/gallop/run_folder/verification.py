"""Is a run, or a group of them, as it was written? Every byte of it is read."""

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
    """Take the results as they are, from now on: the manifest is written again, and provenance.json
    tells which were not as they had been written. Of a group, its own files; seeds.json tells it.

    A provenance.json that cannot be used is made again, and the old one kept beside it.

    Raises:
        RunError: if the folder holds no run, or another process is running it.
        ExperimentError: if a provenance.json cannot be made, as the run cannot be prepared here.
    """
    if is_group(path):
        return _accept_group(SeedGroup(path))
    run = RunDirectory(path)
    if not run.experiment_file.is_file():
        raise RunError(f"{path} is no run: it holds no experiment.yaml")
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
    """Keep what cannot be read: a person may still read it."""
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
    """The record goes first, so that nothing is ever accepted that it does not tell of."""
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
    from gallop.run_folder.prepared import prepare

    # Not by run.read_experiment(): experiment.yaml may be what is accepted.
    return made_again(prepare(read_trained(run.experiment_file)).choice)


@contextlib.contextmanager
def at_rest(run: RunDirectory) -> Iterator[None]:
    """Held, so that nobody writes while it is read; what we may not write is only read."""
    if run.state.is_dir() and os.access(run.state, os.W_OK):
        with run.locked():
            yield
    else:
        yield


def _verify_one_of(run: RunDirectory, found: Found) -> None:
    """A run of a group; what one of them comes to does not keep the others from being read."""
    if not run.path.exists() or run.is_leftover():
        found.notes.append(f"{run.path} has not begun")
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
