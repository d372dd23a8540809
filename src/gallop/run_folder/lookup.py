"""Runs below a results folder: their paths, the newest, the one that holds a file."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from gallop.errors import RunError
from gallop.run_folder.directory import GROUP_FILE, RunDirectory


def run_path(results: Path, algo: str, env: str, name: str) -> Path:
    """results/<ALGO>_<ENV_ID>/<run>.

    Raises:
        RunError: if the name is no single path component.
    """
    if not is_a_name(name):
        raise RunError(f"{name!r} is no name of a run: one path component is needed")
    return results / f"{algo.upper()}_{re.sub('[/:]', '-', env)}" / name


def is_a_name(name: str) -> bool:
    """Whether it is one path component, and no way up."""
    return bool(re.fullmatch(r"[^/\\:\0]+", name)) and name not in (".", "..")


def name_of_now() -> str:
    """YYYYMMDD_HHMMSS: what a run is called that nobody named."""
    return datetime.datetime.now().strftime("%Y%m%d_%H%M%S")


def all_runs(results: Path) -> list[RunDirectory]:
    """Every run below a results folder, those in groups of training seeds too, oldest first."""
    found = [file.parent for file in results.glob("*/*/experiment.yaml")]
    groups = [file.parent for file in results.glob(f"*/*/{GROUP_FILE}")]
    found += [file.parent for group in groups for file in group.glob("*/experiment.yaml")]
    found = [path for path in found if not path.name.startswith(".")]  # not whole yet: `new_folder`
    return [RunDirectory(path) for path in sorted(found, key=lambda p: (p.stat().st_ctime, p.name))]


def containing_run(path: Path) -> RunDirectory | None:
    """The run that a file or folder belongs to, if any."""
    for folder in (path, *path.resolve().parents):
        if (folder / "experiment.yaml").is_file():
            return RunDirectory(folder)
    return None


def newest_run(results: Path, unfinished: bool) -> RunDirectory:
    """The newest run, or the newest that did not come to its end.

    Raises:
        RunError: if there is none.
    """
    for folder in reversed(all_runs(results)):
        if not unfinished or not folder.is_finished():
            return folder
    kind = "unfinished run" if unfinished else "run"
    raise RunError(f"there is no {kind} below {results}")
