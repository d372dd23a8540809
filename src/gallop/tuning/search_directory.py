"""The folders of a search, and every file name in them.

optuna_results/plots/<ALGO>_<ENV>/<timestamp>/      one folder per round; later ones name a parent
├── search.yaml        the whole search; reading it gives an equal object
├── round.json         number of the round, its parent, storage and study
├── study.db           Optuna's storage, unless another one was given
├── trials/007/seed-0/ one training each: experiment.yaml, seeds.json, evaluations.npz, …
├── again/…/seed-0/    the best trials on fresh seeds (in the last round's folder)
├── history.png  importances.png  parallel.png  slice.png
├── study.html         the same figures, interactive, and the results of retraining
├── results.json       best_params, best_value, the data of every trial
└── trials.csv         columns of study.trials_dataframe()
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from gallop.errors import ExperimentError, HeldError, RunError
from gallop.experiments import search_results
from gallop.experiments.yaml_file import read_setting, read_yaml
from gallop.reading import read_json
from gallop.run_folder import resume_state
from gallop.run_folder.consent import require
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import hold, write_bytes
from gallop.run_folder.full_disk import DiskFullError, file_of, is_full
from gallop.run_folder.lookup import is_a_name, run_path
from gallop.tuning.parameter import Value
from gallop.tuning.search import load, to_yaml
from gallop.tuning.search_settings import Search


class RoundRecord(NamedTuple):
    """The content of round.json."""

    number: int
    """Number of the round, counted from 0."""
    parent: str | None
    """Folder name of the previous round."""
    storage: str
    """URL without its password; a relative SQLite file is in the folder."""
    study_name: str
    start: str
    reproducible: bool
    winner: dict[str, Value] | None = None
    """Values of the previous round's winner, by the names in the search space."""


class RoundDirectory:
    """Paths of one round. Making the object touches nothing on disk.

    It is path-like: whatever takes the path of a search takes this object, too.

    Attributes:
        path: the round's folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"RoundDirectory({str(self.path)!r})"

    @property
    def search_file(self) -> Path:
        """Path of search.yaml, the whole search."""
        return self.path / "search.yaml"

    @property
    def record_file(self) -> Path:
        """Path of round.json, with the number of the round, its parent, storage and study."""
        return self.path / "round.json"

    @property
    def database(self) -> Path:
        """Path of study.db, Optuna's SQLite storage, unless another storage was given."""
        return self.path / "study.db"

    @property
    def results_file(self) -> Path:
        """Path of results.json, with the best hyper-parameters, and the data of every trial."""
        return self.path / search_results.NAME

    @property
    def trials_file(self) -> Path:
        """Path of trials.csv, with one row per trial."""
        return self.path / "trials.csv"

    @property
    def page(self) -> Path:
        """Path of study.html, with interactive figures of the search."""
        return self.path / "study.html"

    def training(self, trial: int, seed_index: int) -> RunDirectory:
        """Return the folder of one seed of a trial."""
        return RunDirectory(self.path / "trials" / f"{trial:03d}" / f"seed-{seed_index}")

    def retraining(self, name: str, seed_index: int) -> RunDirectory:
        """Return the folder of one fresh seed of a retrained candidate."""
        return RunDirectory(self.path / "again" / name / f"seed-{seed_index}")

    def forget_states(self) -> None:
        """Delete the resume states of trials, once all of them have ended."""
        for state in self.path.glob("trials/*/*/state"):
            resume_state.forget(state)

    def exists(self) -> bool:
        """Return whether the round has started."""
        return self.record_file.exists()

    def create(self, search: Search, record: RoundRecord) -> None:
        """Write search.yaml and then round.json, without which a folder is not a round.

        Raises:
            RunError: if the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_bytes(self.search_file, to_yaml(search).encode())
            text = json.dumps(record._asdict(), indent=2) + "\n"
            write_bytes(self.record_file, text.encode())
        except OSError as error:
            if is_full(error):
                raise
            raise RunError(f"{self.path} cannot be written: {error.strerror}") from None

    @contextlib.contextmanager
    def explaining_full_disk(self) -> Iterator[None]:
        """Report a full disk in one line: the file, the free space, what is kept, how to resume.

        Raises:
            DiskFullError: in place of the library's own exception.
        """
        try:
            yield
        except Exception as error:
            if not is_full(error):
                raise
            rest = ""
            if self.exists():
                rest = "); nothing is lost: every trial is kept up to its last boundary; "
                rest += f"free some space, then: gallop tune --resume {self.path}"
            raise DiskFullError(file_of(error, self.path), rest, error) from error

    def read_search(self) -> Search:
        """Read the search that this round belongs to, after checking consent to its code.

        Raises:
            ConsentError: if it names code that this user has not agreed to run.
        """
        require(self.search_file, read_setting(self.search_file, "experiment"))
        return load(self.search_file)

    def read_record(self) -> RoundRecord:
        """Read round.json.

        Raises:
            RunError: if the folder is not a round of a search.
        """
        try:
            record = RoundRecord(**read_json(self.record_file))
        except (OSError, ValueError, TypeError):
            raise RunError(f"{self.path}: not a search folder (no readable round.json)") from None
        texts = [record.storage, record.study_name, record.start, record.parent or "-"]
        are_texts = all(isinstance(text, str) and text for text in texts)
        # The parent must be a sibling folder, not an arbitrary path.
        if not isinstance(record.number, int) or not are_texts or not is_a_name(texts[-1]):
            raise RunError(f"{self.path}: not a search folder (round.json is damaged)")
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the search, so that a second coordinator is refused.

        Raises:
            HeldError: if another process holds it.
        """
        busy = HeldError(f"{self.path} is being searched by another process")
        with hold(self.path / ".lock", self.path, busy):
            yield

    def next_round(self) -> RoundDirectory | None:
        """Return the round that has this one as its parent, if it has started."""
        for file in sorted(self.path.parent.glob("*/round.json")):
            with contextlib.suppress(RunError):
                if RoundDirectory(file.parent).read_record().parent == self.path.name:
                    return RoundDirectory(file.parent)
        return None

    def first_round(self) -> RoundDirectory:
        """Return the first round of the search."""
        record = self.read_record()
        if record.parent is None:
            return self
        before = RoundDirectory(self.path.parent / record.parent)
        if before.read_record().number >= record.number:
            raise RunError(f"{self.path}: not a search folder (round.json is damaged)")
        return before.first_round()


def search_folder(root: Path, algo: str, env: str, name: str) -> RoundDirectory:
    """Return the folder of a round, <root>/plots/<ALGO>_<ENV>/<name>.

    Raises:
        RunError: if the name is not a single path component.
    """
    return RoundDirectory(run_path(root / "plots", algo, env, name))


def newest_search(root: Path) -> RoundDirectory:
    """Return the first round of the newest unfinished search.

    Raises:
        ExperimentError: if there is none.
    """
    files = sorted(root.glob("plots/*/*/round.json"), key=lambda f: (f.stat().st_mtime, str(f)))
    for file in reversed(files):
        with contextlib.suppress(ExperimentError):  # a damaged search does not hide others
            first = RoundDirectory(file.parent).first_round()
            if not is_finished(first):
                return first
    raise ExperimentError(f"no unfinished search found in {root}")


def is_finished(first: RoundDirectory) -> bool:
    """Return whether the search's last round is finished."""
    # Read as plain YAML: a search names code, and this may not be the search that is wanted.
    data, last = read_yaml(first.search_file)[0], first
    rounds, experiment = data.get("rounds"), data.get("experiment")
    if not isinstance(rounds, list) or not isinstance(experiment, dict):
        raise RunError(f"{first.search_file} is not a search")
    while (following := last.next_round()) is not None:
        last = following
    if last.read_record().number < len(rounds) - 1:
        return False
    try:
        return search_results.read(last.results_file).finished
    except ExperimentError:
        return False


def without_password(url: str) -> str:
    """Return a storage's URL with its password hidden.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    url = re.sub(r"(://[^/:@]*):.*@", r"\1:***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", url)
