"""What a run records about itself before its first timestep: provenance.json and seeds.json."""

from __future__ import annotations

import datetime
import importlib.metadata
import subprocess
import sys
from pathlib import Path

from gallop import DISTRIBUTION, __version__
from gallop.experiments import seeding
from gallop.learners.choose import Choice
from gallop.machine import machine
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import Json
from gallop.run_folder.prepared import PreparedRun

VOUCHED = {"manifest": manifest.NAME}
"""Says that a manifest belongs to the run, so that its loss is noticed."""

_NEEDED = {
    "resumes": list,
    "learner": str,
    "n_threads": int,
    "instruction_set": str,
    "versions": dict,
}


def write_records(folder: RunDirectory, prepared: PreparedRun) -> None:
    """Write both, before the first timestep."""
    folder.write_json("provenance.json", provenance(prepared.choice) | VOUCHED)
    write_seeds(folder, prepared)


def write_seeds(folder: RunDirectory, prepared: PreparedRun) -> None:
    """seeds.json: every seed that the run will draw from."""
    experiment, n_segments = prepared.experiment, len(prepared.plan.boundaries)
    n_validation = experiment.evaluation.n_episodes
    seeds = seeding.families(experiment.training_seed, n_validation, n_segments)
    folder.write_json("seeds.json", seeds)


def read_provenance(folder: RunDirectory) -> Json | None:
    """The record, if it holds all that a run needs to go on."""
    try:
        record = folder.read_json(folder.provenance_file.name)
    except (OSError, ValueError):
        return None
    whole = "end" in record and all(isinstance(record.get(n), t) for n, t in _NEEDED.items())
    return record if whole else None


def made_again(choice: Choice) -> dict[str, object]:
    """In the place of a record that was lost: what is not known is left empty, the end too."""
    unknown: Json = {"command": None, "start": None, "commit": None, "versions": {}}
    return provenance(choice) | unknown | {"made_again": now()}


def record_resume(folder: RunDirectory) -> None:
    """The run goes on, from here and now."""
    record = folder.read_json(folder.provenance_file.name)
    entry = {"at": now(), "command": sys.argv, **machine()}
    resumes = [*record["resumes"], entry]
    folder.write_json(folder.provenance_file.name, record | {"resumes": resumes})


def provenance(choice: Choice) -> dict[str, object]:
    """What provenance.json holds at the start of a run: command, versions, commit, machine,
    learner and times."""
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
        "commit": _commit(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Gallop and of everything that it requires."""
    found = {"gallop": __version__}
    for requirement in importlib.metadata.requires(DISTRIBUTION) or ():
        if "extra ==" in requirement:
            continue
        name = requirement.partition(">")[0].partition("<")[0].partition("=")[0].strip()
        found[name] = importlib.metadata.version(name)
    return found


def _commit() -> str | None:
    """The commit of Gallop's own checkout, if it runs from one."""
    here = Path(__file__).resolve().parent
    is_tracked = _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
    # An environment may lie in the checkout of something else.
    return _git(here, "describe", "--always", "--dirty", "--abbrev=40") if is_tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not there."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def now() -> str:
    """The time, with its zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
