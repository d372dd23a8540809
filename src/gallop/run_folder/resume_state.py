"""The resume state: everything a run needs to continue from a boundary, without pickle.

state/
├── 000000010000/         a boundary, named by its timestep: the learner's files, and
│   └── boundary.json     number of segments done, SHA-256 of every file it needs and of itself
├── replay/
│   └── 000000000000-000000010000.safetensors     rows [start, stop) of the replay buffer
└── learners/
    └── 000000500000/     the boundary of a milestone or the best policy, once it is not among
                          the last two; its shards exist only while a later boundary needs them

A segment appends one shard and never touches another. The folder of a boundary is renamed into
place last, so that it exists only when all files it lists are on disk. The last two intact
boundaries are kept: if the newest is damaged, the one before it is used, and a damaged one never
displaces an intact one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save

from gallop.errors import RunError
from gallop.learners.learner import Learner
from gallop.policies.policy import Array
from gallop.run_folder.files import (
    Json,
    digest,
    move_folder,
    new_folder,
    read_json,
    remove_folder,
    remove_leftovers,
    remove_together,
    write_bytes,
)

N_KEPT = 2
_RECORD = "boundary.json"
_FIRST_KEYS = {"timestep", "n_segments", "files", "shards"}  # the only keys in 0.1.0

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """An intact boundary on disk."""

    folder: Path
    timestep: int
    n_segments: int
    shards: dict[str, str]
    """Name -> SHA-256 of the replay shards that it needs, oldest first."""
    learner_sha256: str
    """Hash over all files of the learner's state."""


class Checked(NamedTuple):
    """A boundary after all its files have been read and checked."""

    folder: Path
    saved: Saved | None
    """The boundary; None if its boundary.json is damaged."""
    damaged: list[Path]
    """Damaged or missing files; empty if the boundary is intact."""
    n_files: int
    """Number of its own files, without shards."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return self.saved is not None and not self.damaged

    @property
    def has_learner(self) -> bool:
        """Whether the learner's files are intact, so that at most shards are damaged."""
        return self.saved is not None and all(p.parent.name == "replay" for p in self.damaged)


class Dropped(NamedTuple):
    """Rows of the replay buffer that a run loses when it continues without damaged shards."""

    timestep: int
    rows: list[tuple[int, int]]
    """Lost ranges [start, stop) of rows, which are replaced by copies of other rows."""
    n_rows: int
    """Number of all rows."""


# --- writing -------------------------------------------------------------------------------------


def save_boundary(
    state: Path, learner: Learner, n_segments: int, keep: Collection[int] = ()
) -> Saved:
    """Save the learner's state after `n_segments` segments. This is the run's commit point.

    Args:
        state: the run's state folder.
        learner: the learner.
        n_segments: number of segments done.
        keep: timesteps of boundaries whose learners are kept for good: milestones, best policy.

    Returns:
        The new boundary.
    """
    folders = _folders(state)
    before = _record(folders[-1]) if folders else None
    shards, sizes = _save_replay(state, learner, before)
    final = state / f"{learner.timestep:012d}"
    with new_folder(final, replace=True) as folder:
        learner.save_state(folder)
        files = {file.name: digest(file) for file in sorted(folder.iterdir())}
        sizes |= {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        record: Json = {
            "timestep": learner.timestep,
            "n_segments": n_segments,
            "files": files,
            "shards": shards,
            "sizes": sizes,
        }
        _write_record(folder, record)
    prune(state, keep)
    return _saved(final, record)


def _save_replay(
    state: Path, learner: Learner, before: Json | None
) -> tuple[dict[str, str], dict[str, int]]:
    """Write the rows added since the last shard; return hashes and sizes of all needed shards."""
    replay = learner.replay
    if replay is None:
        return {}, {}
    shards: dict[str, str] = dict(before["shards"]) if before else {}
    sizes: dict[str, int] = dict(before.get("sizes", {})) if before else {}
    oldest = replay.n_added - replay.capacity
    # Of a segment longer than the buffer, only the end is left.
    start = max(oldest, *(_rows(name)[1] for name in shards), 0)
    if start < replay.n_added:
        name = f"{start:012d}-{replay.n_added:012d}.safetensors"
        content = save(replay.read(start, replay.n_added))
        write_bytes(state / "replay" / name, content)
        shards[name] = hashlib.sha256(content).hexdigest()
        sizes[name] = len(content)
    shards = {name: value for name, value in shards.items() if _rows(name)[1] > oldest}
    return shards, {name: sizes[name] for name in shards if name in sizes}


def prune(state: Path, keep: Collection[int] = ()) -> None:
    """Delete old boundaries and the shards that are no longer needed.

    Boundaries that look damaged (only sizes are compared) do not count among the last ones, and
    they are deleted only once there are enough intact ones.

    Args:
        state: the run's state folder.
        keep: timesteps of boundaries whose learners are kept for good.
    """
    folders = _folders(state)
    last = [folder for folder in reversed(folders) if _looks_whole(folder)][:N_KEPT]
    if len(last) == N_KEPT:
        for folder in folders:
            if folder not in last:
                _retire(folder, keep)
    for folder in _folders(state / "learners"):
        if int(folder.name) not in keep:
            remove_folder(folder)
    try:
        needed = {name for folder in _folders(state) for name in _record(folder)["shards"]}
    except RunError as error:
        log.warning("%s: no shard is deleted", error)
        return
    shards = (state / "replay").glob("*.safetensors")
    remove_together([shard for shard in shards if shard.name not in needed])


def _retire(folder: Path, keep: Collection[int]) -> None:
    """Delete a boundary, or keep only its learner."""
    learners = folder.parent / "learners"
    if int(folder.name) not in keep or not _looks_whole(folder, with_shards=False):
        remove_folder(folder)
        return
    move_folder(folder, learners / folder.name)


def forget(state: Path) -> None:
    """Delete all boundaries of a run that will not be resumed. Queued films do not need them."""
    # Each is deleted atomically, so that a kill leaves none that looks damaged; shards go last.
    for folder in (*reversed(_folders(state)), state / "learners", state / "replay"):
        remove_folder(folder)
    remove_leftovers(state)


def lost_rows(checked: Checked) -> Dropped | None:
    """Return what is lost if a run resumes from this boundary without its damaged shards.

    None if that is impossible: other files are damaged too, or no shard is intact.
    """
    saved, lost = checked.saved, sorted(path.name for path in checked.damaged)
    if saved is None or not checked.has_learner or not 0 < len(lost) < len(saved.shards):
        return None
    spans = [_rows(name) for name in saved.shards]
    rows = [_rows(name) for name in lost]
    return Dropped(saved.timestep, rows, sum(stop - start for start, stop in spans))


def drop_damaged(checked: Checked) -> None:
    """Repair a boundary without its damaged shards, if `lost_rows` says that this is possible.

    Lost rows are replaced by copies of intact ones, so that counters and positions in the buffer do
    not change; the damaged shards are kept under another name. After a kill in between, the
    boundary is damaged as before.
    """
    record, state = _record(checked.folder), checked.folder.parent
    lost = sorted(path.name for path in checked.damaged)
    whole = [name for name in record["shards"] if name not in lost]
    for name in lost:
        start, stop = _rows(name)
        content = save(_stand_ins(state, whole, stop - start))
        damaged = state / "replay" / name
        aside = damaged.with_suffix(".damaged")
        if damaged.exists() and not aside.exists():  # else a killed process has replaced it already
            shutil.copyfile(damaged, aside)
        write_bytes(damaged, content)
        record["shards"][name] = hashlib.sha256(content).hexdigest()
        record.setdefault("sizes", {})[name] = len(content)
    _write_record(checked.folder, record)


def _stand_ins(state: Path, whole: list[str], n: int) -> dict[str, Array]:
    """Return the newest `n` rows of intact shards, repeated if there are too few."""
    parts: list[dict[str, Array]] = []
    n_rows = 0
    for name in reversed(whole):
        if n_rows >= n:
            break
        parts.insert(0, load_file(state / "replay" / name))
        n_rows += _rows(name)[1] - _rows(name)[0]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    rows = np.arange(n_rows - n, n_rows) % n_rows
    taken = {key: np.ascontiguousarray(array[rows]) for key, array in arrays.items()}
    if "ep_length" in taken:  # HER looks for goals in an episode's place: it must skip these rows
        taken["ep_length"] = np.zeros_like(taken["ep_length"])
    return taken


# --- reading -------------------------------------------------------------------------------------


def check_boundaries(state: Path, known: dict[Path, str | None] | None = None) -> Iterator[Checked]:
    """Check all files of the boundaries, the newest first.

    Args:
        state: the run's state folder.
        known: file -> SHA-256 of files already read; updated with those read now.
    """
    known = {} if known is None else known
    for folder in reversed(_folders(state)):
        yield _check(folder, state / "replay", known)


def check_learners(state: Path) -> Iterator[Checked]:
    """Check the kept learners of earlier boundaries; their shards are not checked."""
    for folder in _folders(state / "learners"):
        yield _check(folder, None, {})


def _check(folder: Path, replay: Path | None, known: dict[Path, str | None]) -> Checked:
    try:
        record = _record(folder)
    except RunError:
        return Checked(folder, None, [folder / _RECORD], 1)
    digests = {folder / name: value for name, value in record["files"].items()}
    if replay is not None:
        digests |= {replay / name: value for name, value in record["shards"].items()}
    damaged = []
    for path, value in digests.items():
        if path not in known:
            known[path] = _digest(path)
        if known[path] != value:
            damaged.append(path)
    return Checked(folder, _saved(folder, record), damaged, len(record["files"]) + 1)


def newest_boundary(state: Path) -> Saved | None:
    """Return the newest intact boundary; None if there is none."""
    for checked in check_boundaries(state):
        if checked.is_whole:
            return checked.saved
        log.warning("%s is damaged; trying the boundary before it", checked.damaged[0])
    return None


def replayable(state: Path) -> dict[int, Saved]:
    """Return the segments that can be replayed, each with the intact boundary before it."""
    found = {}
    known: dict[Path, str | None] = {}  # boundaries share their shards
    learners = [_check(f, state / "replay", known) for f in _folders(state / "learners")]
    for checked in (*learners, *check_boundaries(state, known)):
        if checked.is_whole and checked.saved is not None:
            found[checked.saved.n_segments] = checked.saved
    return found


def bits_of(learner: Learner, shard: str) -> tuple[str, str]:
    """Return the SHA-256 of a learner's state as `save_boundary` would write it, and of a shard."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learner.save_state(folder)
        files = {file.name: digest(file) for file in sorted(folder.iterdir())}
    if learner.replay is None or not shard:
        return _over_all(files), ""
    content = save(learner.replay.read(*_rows(shard)))
    return _over_all(files), hashlib.sha256(content).hexdigest()


def last_timestep(state: Path) -> int:
    """Return the timestep of the newest boundary, judging by its name; 0 if there is none."""
    folders = _folders(state)
    return int(folders[-1].name) if folders else 0


def saved_replay(state: Path) -> Iterator[tuple[int, dict[str, Array]]]:
    """Yield the shards of the replay buffer that are on disk, oldest first.

    Yields:
        The number of rows added until the shard's end, and its arrays, of shape [n, n_envs, …]. A
        row has a transition of each environment.
    """
    for path in sorted((state / "replay").glob("*.safetensors")):
        yield _rows(path.name)[1], load_file(path)


def load_boundary(saved: Saved, learner: Learner) -> None:
    """Load a boundary into a learner, then delete later boundaries, which are damaged.

    Raises:
        RunError: if it cannot be loaded. Nothing is deleted, and the learner must not be used.
    """
    read_boundary(saved, learner)
    for folder in _folders(saved.folder.parent):
        if folder.name > saved.folder.name:
            remove_folder(folder)


def read_boundary(saved: Saved, learner: Learner) -> None:
    """Load a boundary into a learner; nothing on disk is changed.

    Raises:
        RunError: if it cannot be loaded; the learner must then not be used.
    """
    try:
        learner.load_state(saved.folder)
        _load_replay(saved, learner)
    except Exception as error:  # safetensors, torch and NumPy have error types of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{saved.folder} cannot be loaded: {reason}") from error


def _load_replay(saved: Saved, learner: Learner) -> None:
    replay = learner.replay
    if replay is None:
        return
    state = saved.folder.parent
    state = state.parent if state.name == "learners" else state
    oldest = replay.n_added - replay.capacity
    for name in saved.shards:
        start, stop = _rows(name)
        skip = max(0, oldest - start)  # rows that have been overwritten
        if skip < stop - start:
            arrays = load_file(state / "replay" / name)
            replay.write(start + skip, {key: array[skip:] for key, array in arrays.items()})


# --- formats -------------------------------------------------------------------------------------


def _folders(state: Path) -> list[Path]:
    found = [folder for folder in state.glob("[0-9]*") if folder.name.isdecimal()]
    return sorted(folder for folder in found if folder.is_dir())


def _write_record(folder: Path, record: Json) -> None:
    record = {name: value for name, value in record.items() if name != "sha256"}
    content = json.dumps({**record, "sha256": _own_hash(record)}, indent=1)
    write_bytes(folder / _RECORD, content.encode())


def _record(folder: Path) -> Json:
    """Read boundary.json.

    Raises:
        RunError: if it is damaged or missing.
    """
    path = folder / _RECORD
    try:
        record = read_json(path)
    except (OSError, ValueError):
        raise RunError(f"{path} is damaged or missing") from None
    own = record.pop("sha256", None)
    # A flipped bit must not make a record look like one of version 0.1.0, which had no hash.
    if own != (None if record.keys() == _FIRST_KEYS else _own_hash(record)):
        raise RunError(f"{path} is damaged")
    return record


def _own_hash(record: Json) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _saved(folder: Path, record: Json) -> Saved:
    learner = _over_all(record["files"])
    return Saved(folder, record["timestep"], record["n_segments"], record["shards"], learner)


def _over_all(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _looks_whole(folder: Path, with_shards: bool = True) -> bool:
    """Whether all files that a boundary needs exist, with the recorded sizes."""
    state = folder.parent
    try:
        record = _record(folder)
        for name in (*record["files"], *(record["shards"] if with_shards else ())):
            path = state / "replay" / name if name in record["shards"] else folder / name
            size = path.stat().st_size
            if size != record.get("sizes", {}).get(name, size):
                return False
    except (OSError, RunError):
        return False
    return True


def _rows(shard: str) -> tuple[int, int]:
    start, stop = Path(shard).stem.split("-")
    return int(start), int(stop)


def _digest(path: Path) -> str | None:
    try:
        return digest(path)
    except OSError:
        return None


def occupied_bytes(state: Path) -> int:
    """Return the bytes that a folder occupies; a file with several names counts once."""
    files = {}
    for path in state.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found = os.lstat(path)
            files[found.st_dev, found.st_ino] = found.st_size
    return sum(files.values())
