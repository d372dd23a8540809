"""What "resumable" means: all that a run needs to go on from a boundary, without pickle.

state/
├── 000000010000/         a boundary, named by its timestep: the learner's files, and
│   └── boundary.json     segments done, and the SHA-256 of every file the boundary stands on
└── replay/
    └── 000000000000-000000010000.safetensors     rows [start, stop) of the replay buffer

A segment appends one shard and never touches another. The folder of the boundary is renamed into
place last, so that it exists only when all that it names is on disk. The last two are kept: if the
newest is damaged, the one before serves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from safetensors.numpy import load_file, save

from gallop.learners.learner import Learner
from gallop.run_folder.files import Json, new_folder, read_json, write_bytes

N_KEPT = 2
_MANIFEST = "boundary.json"

log = logging.getLogger(__name__)


class Saved(NamedTuple):
    """A boundary on disk that is whole."""

    folder: Path
    timestep: int
    n_segments: int
    shards: dict[str, str]
    """Name -> SHA-256 of the replay shards that it stands on, oldest first."""


def save_boundary(state: Path, learner: Learner, n_segments: int) -> None:
    """Write the learner's state after `n_segments` segments. This is the run's commit point."""
    shards = _save_replay(state, learner)
    with new_folder(state / f"{learner.timestep:012d}") as folder:
        learner.save_state(folder)
        manifest = {
            "timestep": learner.timestep,
            "n_segments": n_segments,
            "files": {file.name: _digest(file) for file in sorted(folder.iterdir())},
            "shards": shards,
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    prune(state)


def newest_boundary(state: Path) -> Saved | None:
    """The newest boundary whose every file is as it was written; None if there is none."""
    for folder in reversed(_folders(state)):
        try:
            manifest = _manifest(folder)
            digests = {folder / name: digest for name, digest in manifest["files"].items()}
            digests |= {state / "replay" / n: digest for n, digest in manifest["shards"].items()}
            damaged = [path for path, digest in digests.items() if _digest(path) != digest]
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is damaged (%s); trying the boundary before it", folder, error)
            continue
        if damaged:
            log.warning("%s is damaged; trying the boundary before it", damaged[0])
            continue
        return Saved(folder, manifest["timestep"], manifest["n_segments"], manifest["shards"])
    return None


def last_timestep(state: Path) -> int:
    """Where the newest boundary stands, by its name alone; 0 if there is none."""
    folders = _folders(state)
    return int(folders[-1].name) if folders else 0


def load_boundary(saved: Saved, learner: Learner) -> None:
    """Become the learner that stood at this boundary; damaged later ones are deleted."""
    state = saved.folder.parent
    for folder in _folders(state):
        if folder.name > saved.folder.name:
            shutil.rmtree(folder)
    learner.load_state(saved.folder)
    replay = learner.replay
    if replay is None:
        return
    oldest = replay.n_added - replay.capacity
    for name in saved.shards:
        start, stop = _rows(name)
        skip = max(0, oldest - start)  # rows that are overwritten by now
        if skip < stop - start:
            arrays = load_file(state / "replay" / name)
            replay.write(start + skip, {key: array[skip:] for key, array in arrays.items()})


def forget(state: Path) -> None:
    """Delete every boundary: of a run that nobody will go on with."""
    for folder in reversed(_folders(state)):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(state / "replay", ignore_errors=True)


def _save_replay(state: Path, learner: Learner) -> dict[str, str]:
    """Append what was stored since the last shard; all shards that still matter."""
    replay = learner.replay
    if replay is None:
        return {}
    folders = _folders(state)
    shards: dict[str, str] = _manifest(folders[-1])["shards"] if folders else {}
    oldest = replay.n_added - replay.capacity
    # A segment longer than the buffer leaves only its end.
    start = max(oldest, *(_rows(name)[1] for name in shards), 0)
    if start < replay.n_added:
        name = f"{start:012d}-{replay.n_added:012d}.safetensors"
        content = save(replay.read(start, replay.n_added))
        write_bytes(state / "replay" / name, content)
        shards[name] = hashlib.sha256(content).hexdigest()
    return {name: digest for name, digest in shards.items() if _rows(name)[1] > oldest}


def _folders(state: Path) -> list[Path]:
    found = [folder for folder in state.glob("[0-9]*") if folder.name.isdecimal()]
    return sorted(folder for folder in found if folder.is_dir())


def _manifest(folder: Path) -> Json:
    return read_json(folder / _MANIFEST)


def prune(state: Path) -> None:
    """Keep the last boundaries and the shards that they name."""
    folders = _folders(state)
    for folder in folders[:-N_KEPT]:
        shutil.rmtree(folder)
    try:
        needed = {name for folder in folders[-N_KEPT:] for name in _manifest(folder)["shards"]}
    except (OSError, ValueError, KeyError) as error:
        log.warning("a boundary in %s is damaged (%s): no shard is deleted", state, error)
        return
    for shard in (state / "replay").glob("*.safetensors"):
        if shard.name not in needed:
            shard.unlink()


def _rows(shard: str) -> tuple[int, int]:
    start, stop = Path(shard).stem.split("-")
    return int(start), int(stop)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
