"""manifest.json: the SHA-256 of every result of a run, for detecting damage.

    {"files": {"evaluations.npz": ["new", "before"], "seeds.json": ["only"], …},
     "sha256": of `files` as a line of JSON}

The manifest is written ahead: before files are moved into place, it lists both their new and their
previous hashes. So every file matches one of its hashes at all times, even after a kill; the next
write keeps only the hash that matches. A hash of null means "does not exist yet".

The manifest does not cover run.log, worker.log, tensorboard/, the lock, and the boundaries in
state/, which have hashes of their own (resume_state.py). A folder without a manifest (a run of an
earlier version, a training run of a search) never gets one. Only the process that holds the run's
lock writes the manifest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from numpy.typing import ArrayLike

from gallop.errors import RunError
from gallop.run_folder.files import Json, digest, npz_bytes, read_json, replacing, write_bytes
from gallop.run_folder.run_paths import TEMPORARY
from gallop.strict_json import dumps

NAME = "manifest.json"
_NOT_RESULTS = {
    NAME,
    "run.log",
    "worker.log",
    "lock",
    "lock.holder",
    "fence",
    "lease",
    "MUJOCO_LOG.TXT",
}
_JOBS = (("state", "films"), ("state", "audits"))
_NOT_RESULT_FOLDERS = {"tensorboard", "state", "wandb"}

Hashes: TypeAlias = dict[str, list[str | None]]
"""Path relative to the run folder, with slashes -> hashes that the file may have, newest first."""


class Damage(NamedTuple):
    """A file that differs from what was written."""

    path: Path
    what: str
    """`damaged`, `empty` or `missing`."""

    def __str__(self) -> str:
        return f"{self.path} is {self.what}"


class DamagedError(RunError):
    """A file differs from what was written."""


# --- writing -------------------------------------------------------------------------------------


def begin(root: Path, paths: Iterable[Path] | None = None) -> None:
    """Start a manifest that covers a folder's current results and all later ones.

    Args:
        root: the run folder.
        paths: its current results; default: every file, for a new folder.
    """
    paths = _results(root) if paths is None else paths
    _write(root, {_name(root, path): [digest(path)] for path in paths})


@contextlib.contextmanager
def replacing_results(folder: Path) -> Iterator[Path]:
    """Like `files.replacing`, but also update the manifest of the run that contains `folder`."""
    root = root_of(folder)
    announce = None if root is None else functools.partial(_announce, root, folder)
    with replacing(folder, announce) as temporary:
        yield temporary


def write_result(path: Path, content: bytes) -> None:
    """Replace a result."""
    with replacing_results(path.parent) as folder:
        (folder / path.name).write_bytes(content)


def write_json_result(path: Path, data: Mapping[str, object]) -> None:
    """Replace a result in JSON, indented."""
    write_result(path, (dumps(data, indent=2) + "\n").encode())


def write_npz_result(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Replace a result in an .npz file of plain arrays."""
    write_result(path, npz_bytes(arrays))


def record(folder: Path, names: Iterable[str]) -> None:
    """Add files written by another process to the manifest, as they are.

    Files that do not exist are removed from it.
    """
    root = root_of(folder)
    if root is None:
        return
    hashes = _settled(root, read(root))
    for path in (folder / name for name in names):
        hashes.pop(_name(root, path), None)
        if path.is_file():
            hashes[_name(root, path)] = [digest(path)]
    _write(root, hashes)


def forget(folder: Path, names: Iterable[str]) -> None:
    """Remove files that another process is about to replace from the manifest."""
    root = root_of(folder)
    if root is None:
        return
    before = read(root)
    dropped = {_name(root, folder / name) for name in names}
    if dropped & before.keys():
        _write(root, {n: h for n, h in _settled(root, before).items() if n not in dropped})


def settle(root: Path) -> None:
    """Keep only the matching hash of each file, once nothing more is written."""
    if (root / NAME).is_file():
        before = read(root)
        after = _settled(root, before)
        if after != before:
            _write(root, after)


def _announce(root: Path, folder: Path, files: list[Path]) -> None:
    hashes = _settled(root, read(root))
    for file in files:
        name = _name(root, folder / file.name)
        new, before = digest(file), hashes.get(name, [None])
        hashes[name] = [new, *(each for each in before if each != new)]
    _write(root, hashes)


def _settled(root: Path, hashes: Hashes) -> Hashes:
    """Return the hashes with only the matching one per file; a file that matches none keeps all."""
    settled: Hashes = {}
    for name, candidates in hashes.items():
        found = _digest(root / name) if len(candidates) > 1 else candidates[0]
        if found not in candidates:
            settled[name] = candidates
        elif found is not None:
            settled[name] = [found]
    return settled


def _write(root: Path, hashes: Hashes) -> None:
    files = dict(sorted(hashes.items()))
    content = dumps({"files": files, "sha256": _own_hash(files)}, indent=1) + "\n"
    write_bytes(root / NAME, content.encode())


def _own_hash(files: object) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


# --- reading -------------------------------------------------------------------------------------


def root_of(folder: Path) -> Path | None:
    """Return the folder whose manifest covers the files of this one; None if there is none.

    A folder with its own manifest is a run, whatever it and its parent are called.
    """
    if (folder / NAME).is_file():
        return folder
    here, root = _placed(folder), folder
    if here.parent.name == "checkpoints" or here.parts[-2:] in _JOBS:
        root = here.parents[1]
    elif here.name == "state":
        root = here.parent
    return root if (root / NAME).is_file() else None


def _placed(path: Path) -> Path:
    """Return the path with the names of all parent folders."""
    return path.resolve() if ".." in path.parts else path.absolute()


def read(root: Path) -> Hashes:
    """Read all hashes of a run's manifest.

    Raises:
        DamagedError: if the manifest itself is damaged or missing.
    """
    path = root / NAME
    how = f"to accept the files as they are: gallop verify --accept {root}"
    try:
        data: Json = read_json(path)
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; {how}") from None
    except (OSError, ValueError):
        raise DamagedError(f"{path} is damaged; {how}") from None
    if data.keys() != {"files", "sha256"} or data["sha256"] != _own_hash(data["files"]):
        raise DamagedError(f"{path} is damaged; {how}")
    hashes: Hashes = data["files"]
    return hashes


def damages(root: Path, names: Iterable[str] | None = None) -> list[Damage]:
    """Return the results that differ from what was written.

    Files that the manifest does not list do not count: users may add files to run folders.

    Args:
        root: the run folder.
        names: check only these paths, relative to `root`.

    Raises:
        DamagedError: if the manifest itself is damaged or missing.
    """
    before: Hashes | None = None
    wanted = None if names is None else set(names)
    while True:  # the process that holds the run may write while we read
        hashes = read(root)
        found = [
            Damage(root / name, _what(root / name))
            for name, candidates in hashes.items()
            if (wanted is None or name in wanted) and _digest(root / name) not in candidates
        ]
        if not found or hashes == before:
            return found
        before = hashes


def check(*paths: Path) -> None:
    """Refuse damaged results; files not listed in a manifest, or in folders without one, pass.

    Raises:
        DamagedError: for the first damaged file.
    """
    for path in paths:
        root = root_of(path.parent)
        if root is not None:
            refuse(damages(root, [_name(root, path)]))


def refuse(found: list[Damage]) -> None:
    """Raise an error if anything is damaged.

    Raises:
        DamagedError: on one line, naming the first file.
    """
    if found:
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        root = root_of(found[0].path.parent) or found[0].path.parent
        raise DamagedError(
            f"{found[0]}{others}: restore it from a copy or, if you changed or deleted it "
            f"yourself, accept this with gallop verify --accept {root}"
        )


def _results(root: Path) -> list[Path]:
    """Return every file of a new folder that a manifest covers."""
    found = [
        path
        for path in root.rglob("*")
        if path.is_file()
        and path.name not in _NOT_RESULTS
        and not any(part.startswith(TEMPORARY) for part in path.relative_to(root).parts)
        and path.relative_to(root).parts[0] not in _NOT_RESULT_FOLDERS
    ]
    state = root / "state"
    inside = (*state.glob("*.*"), *(p for _, jobs in _JOBS for p in state.glob(f"{jobs}/*.npz")))
    found += [path for path in inside if path.is_file() and path.name not in _NOT_RESULTS]
    return sorted(found)


def _name(root: Path, path: Path) -> str:
    return _placed(path).relative_to(_placed(root)).as_posix()


def _digest(path: Path) -> str | None:
    """Return a file's hash; None if it does not exist, and no valid hash if it cannot be read."""
    try:
        return digest(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _what(path: Path) -> str:
    if not path.exists():
        return "missing"
    return "damaged" if path.stat().st_size else "empty"
