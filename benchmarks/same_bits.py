"""Check that two checkouts train the same bits: python benchmarks/same_bits.py BEFORE AFTER

Runs the same experiments with `gallop` from each checkout's own .venv, and compares every tensor,
.npz array and CSV cell that they write. Times and speeds, which differ between any two runs, and
pictures are ignored. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file

CHEETAH = """\
env: HalfCheetah-v5
env_kwargs: {reset_noise_scale: 0.15}
eval_env_kwargs: {reset_noise_scale: 0.1}
"""
QUICKSTART = f"""\
algo: sac
{CHEETAH}
total_timesteps: 100_000
segment: 5_000
evaluation: {{interval: 5_000, n_episodes: 5}}
hyperparameters: {{learning_rate: 0.0017445833077795192, batch_size: 128, gamma: 0.992712289037351}}
"""
TD3 = f"""\
algo: td3
{CHEETAH}
total_timesteps: 12_000
segment: 1_000
evaluation: {{interval: 3_000, n_episodes: 2}}
hyperparameters: {{learning_starts: 1_000, policy_kwargs: {{net_arch: [400, 300]}}}}
"""
PPO = f"""\
algo: ppo
{CHEETAH}
n_envs: 2
normalize: true
total_timesteps: 40_000
segment: 5_000
evaluation: {{interval: 5_000, n_episodes: 2}}
hyperparameters: {{n_steps: 512, learning_rate: lin_3e-4}}
"""
# The same on SB3, smaller. Replay buffers wrap around, and segments cut episodes.
PENDULUM = """\
env: Pendulum-v1
learner: sb3
films: false
total_timesteps: 4_000
segment: 500
evaluation: {interval: 1_000, n_episodes: 2}
"""
SB3 = {
    "sac": "algo: sac\nhyperparameters: {buffer_size: 3_000, batch_size: 64, use_sde: true}",
    "td3": "algo: td3\nhyperparameters: {buffer_size: 3_000, batch_size: 64}",
    "ppo": "algo: ppo\nnormalize: true\nhyperparameters: {n_steps: 250, batch_size: 50}",
}
SEARCH = """\
experiment:
  algo: sac
  env: Pendulum-v1
  total_timesteps: 2_000
  evaluation: {interval: 1_000, n_episodes: 2}
rounds:
  - n_trials: 6
    space: {learning_rate: {low: 1.0e-4, high: 3.0e-3, log: true}, batch_size: [64, 128, 256]}
  - n_trials: 4
    space: {learning_rate: {around: [0.6, 1.5]}}
pruner: {name: none}
retraining: {n_best: 1, n_seeds: 2}
"""


class Job(NamedTuple):
    """A command and the file that it reads."""

    name: str
    text: str
    arguments: tuple[str, ...]


RUN = ("run", "job.yaml", "--name", "a", "--quiet")
JOBS = [
    Job("quickstart", QUICKSTART, RUN),
    Job("td3", TD3, RUN),
    Job("ppo", PPO, RUN),
    *(Job(f"sb3-{algo}", f"{PENDULUM}{text}\n", RUN) for algo, text in SB3.items()),
    Job("search", SEARCH, ("tune", "job.yaml", "--name", "a", "--quiet", "--reproducible")),
]
# Names that depend on the clock, the installed packages or the folder.
TIMES = {"time/fps", "time/time_elapsed", "datetime_start", "datetime_complete", "duration"}
TIMES |= {"user_attrs_n_timesteps"}  # how far a stopped trial got
SETTINGS = ("seeds.json", "learner.json", "boundary.json")


def train(checkout: Path, job: Job, folder: Path) -> None:
    """Run a job in an empty folder, unless it has already run there."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(job.text)
    gallop = checkout.resolve() / ".venv" / "bin" / "gallop"
    subprocess.run([str(gallop), *job.arguments], cwd=folder, check=True)
    (folder / "done").touch()


def contents(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, name and value of everything that must be equal."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix == ".safetensors":
            yield from (("tensor", f"{name}:{k}", v) for k, v in load_file(file).items())
        elif file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                yield from (("array", f"{name}:{key}", arrays[key]) for key in arrays)
        elif file.suffix == ".zip":
            yield from (("tensor", f"{name}:{key}", value) for key, value in members(file))
        elif file.suffix == ".csv":
            yield from (("column", f"{name}:{key}", value) for key, value in columns(file))
        elif file.name in SETTINGS:
            yield "json", name, json.loads(file.read_text())
        elif file.name == "results.json":
            trials = json.loads(file.read_text())["trials"]
            kept = ("number", "state", "value", "params", "hyperparameters", "scores")
            yield "json", name, [[trial.get(key) for key in kept] for trial in trials]


def members(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield every tensor of an SB3 zip."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if member.endswith(".pth"):
                content = io.BytesIO(archive.read(member))
                yield from leaves(member, torch.load(content, weights_only=True))


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield tensors and numbers in nested dictionaries and lists."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(f"{name}/{key}", part)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from leaves(f"{name}/{place}", part)
    else:
        yield name, value.detach().numpy() if isinstance(value, torch.Tensor) else value


def columns(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every column of a CSV except times."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name in rows[0] if rows else ():
        if name not in TIMES:
            yield name, [row[name] for row in rows]


def is_equal(one: Any, other: Any) -> bool:
    """Whether two values have the same bits."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and one.tobytes() == other.tobytes()
    return bool(one == other)


def compare(before: Path, after: Path) -> tuple[dict[str, int], list[str]]:
    """Count the compared values of each kind, and name those that differ."""
    left = {name: (kind, value) for kind, name, value in contents(before)}
    right = {name: (kind, value) for kind, name, value in contents(after)}
    counts: dict[str, int] = {}
    different = [f"{name}: in only one checkout" for name in sorted(left.keys() ^ right.keys())]
    for name in sorted(left.keys() & right.keys()):
        kind, value = left[name]
        counts[kind] = counts.get(kind, 0) + 1
        if not is_equal(value, right[name][1]):
            different.append(name)
    return counts, different


def main() -> int:
    """Train what is missing, compare, and print a line per job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="a checkout with its .venv")
    parser.add_argument("after", type=Path, help="another checkout with its .venv")
    parser.add_argument("--folder", type=Path, help="keeps the runs; default: temporary")
    parser.add_argument("--jobs", nargs="+", choices=[job.name for job in JOBS])
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="same-bits-"))
    failed = False
    for job in JOBS:
        if options.jobs and job.name not in options.jobs:
            continue
        folders = [folder / side / job.name for side in ("before", "after")]
        for checkout, target in zip((options.before, options.after), folders, strict=True):
            train(checkout, job, target)
        counts, different = compare(*folders)
        failed |= bool(different) or not counts
        shown = ", ".join(f"{n} {kind}s" for kind, n in sorted(counts.items()))
        print(f"{job.name}: {shown}: {f'{len(different)} differ' if different else 'same bits'}")
        for name in different[:10]:
            print(f"  {name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
