"""manifest.json: the SHA-256 of every result of a run, so that damage is found.

    {"files": {"evaluations.npz": ["new", "before"], "seeds.json": ["only"], …},
     "sha256": of the line that `files` makes}

The manifest is written ahead: before files take their places it names both their new hashes and
those before. So each file matches one of its hashes at every instant, a kill in between included;
the next writing leaves the one that is right. A hash of null stands for "not there yet".

What the manifest does not vouch for: run.log, worker.log, tensorboard/, the lock, and the
boundaries in state/, which have hashes of their own (resume_state.py). A folder
without a manifest (a run of an earlier version, a training of a search) is written as it always
was. Only the process that holds the run writes the manifest.
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
from gallop.strict_json import dumps

NAME = "manifest.json"
_NOT_RESULTS = {
    NAME,
    "run.log",
    "worker.log",
    "lock",
    "lock.holder",
    "MUJOCO_LOG.TXT",
}
_NOT_RESULT_FOLDERS = {"tensorboard", "state", "wandb"}

Hashes: TypeAlias = dict[str, list[str | None]]
"""Name relative to the run's folder, with slashes -> the hashes that it may have, newest first."""


class Damage(NamedTuple):
    """A file that is not as it was written."""

    path: Path
    what: str
    """`damaged`, `empty` or `missing`."""

    def __str__(self) -> str:
        return f"{self.path} is {self.what}"


class DamagedError(RunError):
    """A file is not as it was written."""


# --- writing -------------------------------------------------------------------------------------


def begin(root: Path, paths: Iterable[Path] | None = None) -> None:
    """Vouch for results that a folder holds now, and for all from now on.

    Args:
        paths: the results that are there; default: every file, in a folder that we have just made.
    """
    paths = _results(root) if paths is None else paths
    _write(root, {_name(root, path): [digest(path)] for path in paths})


@contextlib.contextmanager
def replacing_results(folder: Path) -> Iterator[Path]:
    """`files.replacing`, for results: the manifest of the run that they belong to knows of it."""
    root = root_of(folder)
    announce = None if root is None else functools.partial(_announce, root, folder)
    with replacing(folder, announce) as temporary:
        yield temporary


def write_result(path: Path, content: bytes) -> None:
    """Replace one result."""
    with replacing_results(path.parent) as folder:
        (folder / path.name).write_bytes(content)


def write_json_result(path: Path, data: Mapping[str, object]) -> None:
    """Replace a JSON file, indented for people."""
    write_result(path, (dumps(data, indent=2) + "\n").encode())


def write_npz_result(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Replace an .npz of plain arrays."""
    write_result(path, npz_bytes(arrays))


def record(folder: Path, names: Iterable[str]) -> None:
    """Vouch for files that another process has put into a folder, as they are; those that are not
    there are forgotten, as before another process replaces them."""
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
    """Vouch no longer for files that another process is about to replace."""
    root = root_of(folder)
    if root is None:
        return
    before = read(root)
    dropped = {_name(root, folder / name) for name in names}
    if dropped & before.keys():
        _write(root, {n: h for n, h in _settled(root, before).items() if n not in dropped})


def settle(root: Path) -> None:
    """When nothing more is written: of each file, keep the one hash that is right."""
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
    """The hash that is right where there are two; a file that matches neither keeps both."""
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
    """The folder whose manifest vouches for the files of this one; None if there is none.

    A folder with a manifest of its own is a run, whatever it and the one above are called.
    """
    if (folder / NAME).is_file():
        return folder
    here, root = _placed(folder), folder
    if here.parent.name == "checkpoints" or here.parts[-2:] == ("state", "films"):
        root = here.parents[1]
    elif here.name == "state":
        root = here.parent
    return root if (root / NAME).is_file() else None


def _placed(path: Path) -> Path:
    """With the names of the folders above, which the current folder's path may leave out."""
    return path.resolve() if ".." in path.parts else path.absolute()


def read(root: Path) -> Hashes:
    """All hashes.

    Raises:
        DamagedError: if the manifest itself is damaged or missing.
    """
    path = root / NAME
    how = f"gallop verify --accept {root} takes the files as they are"
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
    """The results, or those of these names, that are not as they were written.

    Names that the manifest does not know are no damage: people put files into run folders.

    Raises:
        DamagedError: if the manifest itself is damaged or missing.
    """
    before: Hashes | None = None
    wanted = None if names is None else set(names)
    while True:  # whoever holds the run may write while we read
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
    """Refuse to read results that are not as they were written. Others are let pass: files that
    the manifest does not know, and those of a folder that has none.

    Raises:
        DamagedError: for the first that is damaged.
    """
    for path in paths:
        root = root_of(path.parent)
        if root is not None:
            refuse(damages(root, [_name(root, path)]))


def refuse(found: list[Damage]) -> None:
    """
    Raises:
        DamagedError: if anything is damaged; one line.
    """
    if found:
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        root = root_of(found[0].path.parent) or found[0].path.parent
        raise DamagedError(
            f"{found[0]}{others}: it is not as it was written; put back a copy of it, or, if you "
            f"have changed it yourself: gallop verify --accept {root}"
        )


def _results(root: Path) -> list[Path]:
    """Every file of a new folder that a manifest vouches for."""
    found = [
        path
        for path in root.rglob("*")
        if path.is_file()
        and path.name not in _NOT_RESULTS
        and not any(part.startswith(".new-") for part in path.relative_to(root).parts)
        and path.relative_to(root).parts[0] not in _NOT_RESULT_FOLDERS
    ]
    state = root / "state"
    inside = (*state.glob("*.*"), *state.glob("films/*.npz"))
    found += [path for path in inside if path.is_file() and path.name not in _NOT_RESULTS]
    return sorted(found)


def _name(root: Path, path: Path) -> str:
    return _placed(path).relative_to(_placed(root)).as_posix()


def _digest(path: Path) -> str | None:
    """None if it is not there; no hash at all if it cannot be read."""
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
