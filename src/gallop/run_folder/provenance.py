"""The records of a run's origin, written before its first timestep: provenance.json, seeds.json."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import subprocess
import sys
from pathlib import Path

from gallop import DISTRIBUTION, __version__
from gallop.experiments import seeding
from gallop.machine import machine
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import Json
from gallop.run_folder.prepared import PreparedRun

VOUCHED = {"manifest": manifest.NAME}
"""Entry that says the run has a manifest, so that a missing manifest is noticed."""

_NEEDED = {
    "resumes": list,
    "learner": str,
    "n_threads": int,
    "instruction_set": str,
    "versions": dict,
}


def write_records(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Write provenance.json and seeds.json."""
    folder.write_json("provenance.json", provenance(prepared) | VOUCHED)
    write_seeds(folder, prepared)


def write_seeds(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Write seeds.json: every seed that the run will use."""
    experiment, n_segments = prepared.experiment, len(prepared.plan.boundaries)
    n_validation = experiment.evaluation.n_episodes
    seeds = seeding.families(experiment.training_seed, n_validation, n_segments)
    folder.write_json("seeds.json", seeds | {"probe": prepared.probed._asdict()})


def read_provenance(folder: RunDirectory) -> Json | None:
    """Read provenance.json; None if it lacks anything that resuming needs."""
    try:
        record = folder.read_json(folder.provenance_file.name)
    except (OSError, ValueError):
        return None
    whole = "end" in record and all(isinstance(record.get(n), t) for n, t in _NEEDED.items())
    return record if whole else None


def made_again(prepared: PreparedRun) -> dict[str, object]:
    """Return a replacement for a lost provenance.json; what is unknown is left empty."""
    unknown: Json = {"command": None, "start": None, "commit": None, "versions": {}, "task": None}
    return provenance(prepared) | unknown | {"made_again": now()}


def record_resume(folder: RunDirectory) -> None:
    """Add this resume, with command, time and machine, to provenance.json."""
    record = folder.read_json(folder.provenance_file.name)
    entry = {"at": now(), "command": sys.argv, **machine()}
    resumes = [*record["resumes"], entry]
    folder.write_json(folder.provenance_file.name, record | {"resumes": resumes})


def provenance(prepared: PreparedRun) -> dict[str, object]:
    """Return the content of provenance.json at the start of a run: command, task, versions, commit,
    machine, learner and times."""
    choice = prepared.choice
    return {
        "command": sys.argv,
        "start": now(),
        "end": None,
        "resumes": [],
        "learner": choice.name,
        "learner_reason": choice.reason,
        "n_threads": choice.n_threads,
        "instruction_set": choice.instruction_set,
        **machine(),
        "task": prepared.task._asdict(),
        "commit": commit(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Gallop and of its dependencies."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"gallop": __version__}
    for requirement in importlib.metadata.requires(DISTRIBUTION) or ():
        if "extra ==" in requirement:
            continue
        name = requirement.partition(">")[0].partition("<")[0].partition("=")[0].strip()
        found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """Return the commit of Gallop's own checkout; None if it does not run from one."""
    here = Path(__file__).resolve().parent
    is_tracked = _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
    # A virtual environment may be inside the checkout of another project.
    return _git(here, "describe", "--always", "--dirty", "--abbrev=40") if is_tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git; None if it fails or is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def now() -> str:
    """Return the current time in ISO format, with its time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
