"""Small runs to be stopped, damaged and compared, and the content that must not differ."""

from __future__ import annotations

import csv
import fcntl
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

WALL_CLOCK = {"time/fps", "time/time_elapsed"}
RESULTS = "GALLOP_FAULTS_RESULTS"  # folder of the CSV files that `make faults` writes


def experiment(algo: str, hyperparameters: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """600 timesteps in 6 segments, two milestones, two evaluations, episodes of 50 timesteps."""
    return {
        "algo": algo,
        "env": "Pendulum-v1",
        "env_kwargs": {"max_episode_steps": 50},
        "total_timesteps": 600,
        "segment": 100,
        "milestones": [50, 100],
        "evaluation": {"interval": 300, "n_episodes": 2},
        "films": False,
        "audit": False,
        "n_threads": 1,
        "log_interval": 1,
        **settings,
        "hyperparameters": {
            "learning_rate": "lin_1e-3",
            "policy_kwargs": {"net_arch": [16]},
            **hyperparameters,
        },
    }


def write(home: Path, data: dict[str, Any]) -> str:
    """Write an experiment; return the name of its file in `home`."""
    (home / "experiment.yaml").write_text(yaml.safe_dump(data))
    return "experiment.yaml"


def run_folder(home: Path, name: str = "a") -> Path | None:
    """Return the run of that name, or None if there is none yet."""
    return next(iter((home / "results").glob(f"*/{name}")), None)


def content(folder: Path) -> dict[str, object]:
    """Return what must not differ: tensors, arrays, tables without wall-clock columns, states."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        found |= dict(_parts(path, str(path.relative_to(folder))))
    return found


def content_of_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file, by its path in the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Return the names of parts that differ, or exist in only one of two contents."""
    return [n for n in sorted({*found, *expected}) if found.get(n, n) != expected.get(n, n)]


def _parts(path: Path, name: str) -> Iterator[tuple[str, object]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            yield from ((f"{name}:{key}", file[key].tobytes()) for key in file)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".pth"):
                    with archive.open(member) as tensors:
                        yield from _flat(f"{name}:{member}", torch.load(tensors, weights_only=True))
    elif path.suffix == ".csv":
        with path.open(newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                yield from (
                    (f"{name}:{number}:{key}", value)
                    for key, value in row.items()
                    if key not in WALL_CLOCK
                )
    elif path.suffix in (".safetensors", ".mp4"):
        yield name, path.read_bytes()


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, torch.Tensor):
        yield name, value.detach().numpy().tobytes()
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _flat(f"{name}.{number}", part)
    else:
        yield name, value


def children_of(pid: int) -> list[int]:
    """Return the child processes of a process, and theirs."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        for child in below.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


def record(table: str, **row: object) -> None:
    """Add a row to a table of `make faults`; does nothing unless a folder for them is set."""
    folder = os.environ.get(RESULTS)
    if folder is None:
        return
    path = Path(folder) / f"{table}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # tests may run in several processes
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if os.fstat(file.fileno()).st_size == 0:
            writer.writeheader()
        writer.writerow(row)
