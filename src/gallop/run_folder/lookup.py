"""Finding runs in a results folder: by name, the newest, the run that contains a file."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from gallop.errors import RunError
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.run_paths import run_paths


def run_path(results: Path, algo: str, env: str, name: str) -> Path:
    """Return the path of a run: <results>/<ALGO>_<ENV_ID>/<name>.

    Raises:
        RunError: if the name is not a single path component.
    """
    check_name(name)
    return results / f"{algo.upper()}_{re.sub('[/:]', '-', env)}" / name


def check_name(name: str) -> None:
    """Refuse a name that is not a single path component.

    Raises:
        RunError: naming `--name`, which gives it.
    """
    if not is_a_name(name):
        raise RunError(
            f"--name {name!r}: must be a single folder name, without slashes, backslashes or colons"
        )


def is_a_name(name: str) -> bool:
    """Whether a name is a single path component other than "." and ".."."""
    return bool(re.fullmatch(r"[^/\\:\0]+", name)) and name not in (".", "..")


def name_of_now() -> str:
    """Return the default name of a run: the current time, as YYYYMMDD_HHMMSS."""
    return datetime.datetime.now().strftime("%Y%m%d_%H%M%S")


def all_runs(results: Path) -> list[RunDirectory]:
    """Return all runs in a results folder, including those in groups, oldest first."""
    return [RunDirectory(path) for path in run_paths(results)]


def containing_run(path: Path) -> RunDirectory | None:
    """Return the run that contains a file or folder; None if there is none."""
    for folder in (path, *path.resolve().parents):
        if (folder / "experiment.yaml").is_file():
            return RunDirectory(folder)
    return None


def newest_run(results: Path, unfinished: bool) -> RunDirectory:
    """Return the newest run, or the newest unfinished run.

    Raises:
        RunError: if there is none.
    """
    for folder in reversed(all_runs(results)):
        if not unfinished or not folder.is_finished():
            return folder
    kind = "unfinished run" if unfinished else "run"
    raise RunError(f"{results}: no {kind} found")
