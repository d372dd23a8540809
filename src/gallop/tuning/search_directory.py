"""A search's folders: every file name in them.

optuna_results/plots/<ALGO>_<ENV>/<timestamp>/      one folder a round; the second names its parent
├── search.yaml        the whole search; reading it back gives the same object
├── round.json         which round this is, its parent, storage and study
├── study.db           Optuna's storage, unless another was asked for
├── trials/007/seed-0/ a training each: experiment.yaml, seeds.json, evaluations.npz, …
├── again/…/seed-0/    the best ones on fresh seeds (in the last round's folder)
├── history.png  importances.png  parallel.png  slice.png
├── study.html         the same, to hover over, and what was trained again
├── results.json       best_params, best_value, every trial's data
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
    """What round.json holds."""

    number: int
    """From 0."""
    parent: str | None
    """Folder name of the round before."""
    storage: str
    """URL without its password; relative SQLite files lie in the folder."""
    study_name: str
    start: str
    reproducible: bool
    winner: dict[str, Value] | None = None
    """Of the round before: values as searched, by name."""


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
        """The folder of one seed of a trial."""
        return RunDirectory(self.path / "trials" / f"{trial:03d}" / f"seed-{seed_index}")

    def retraining(self, name: str, seed_index: int) -> RunDirectory:
        """The folder of one fresh seed of what is trained again."""
        return RunDirectory(self.path / "again" / name / f"seed-{seed_index}")

    def forget_states(self) -> None:
        """Delete what trials could be resumed from, when all of them have been told of."""
        for state in self.path.glob("trials/*/*/state"):
            resume_state.forget(state)

    def exists(self) -> bool:
        """Whether the round has begun."""
        return self.record_file.exists()

    def create(self, search: Search, record: RoundRecord) -> None:
        """Write search.yaml and round.json; round.json last: a folder without it is no round.

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
        """A full disk becomes one line: the file, what is free, what is kept, how to go on.

        Raises:
            DiskFullError: instead of whatever a library raised for it.
        """
        try:
            yield
        except Exception as error:
            if not is_full(error):
                raise
            rest = ""
            if self.exists():
                rest = "); nothing is lost: every trial is kept up to its last boundary; "
                rest += f"when there is room: gallop tune --resume {self.path}"
            raise DiskFullError(file_of(error, self.path), rest, error) from error

    def read_search(self) -> Search:
        """The search that this round belongs to, whose code may be run.

        Raises:
            ConsentError: if it names code that this user has not agreed to run.
        """
        require(self.search_file, read_setting(self.search_file, "experiment"))
        return load(self.search_file)

    def read_record(self) -> RoundRecord:
        """What round.json holds.

        Raises:
            RunError: if the folder is no round of a search.
        """
        try:
            record = RoundRecord(**read_json(self.record_file))
        except (OSError, ValueError, TypeError):
            raise RunError(f"{self.path} is no search: it holds no round.json") from None
        texts = [record.storage, record.study_name, record.start, record.parent or "-"]
        are_texts = all(isinstance(text, str) and text for text in texts)
        # The parent is a folder beside this one, not one that a path leads to.
        if not isinstance(record.number, int) or not are_texts or not is_a_name(texts[-1]):
            raise RunError(f"{self.path} is no search: its round.json is damaged")
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the search; a second coordinator is refused.

        Raises:
            HeldError: if another process holds it.
        """
        busy = HeldError(f"{self.path} is being searched by another process")
        with hold(self.path / ".lock", self.path, busy):
            yield

    def next_round(self) -> RoundDirectory | None:
        """The round that has this one as its parent, if it has begun."""
        for file in sorted(self.path.parent.glob("*/round.json")):
            with contextlib.suppress(RunError):
                if RoundDirectory(file.parent).read_record().parent == self.path.name:
                    return RoundDirectory(file.parent)
        return None

    def first_round(self) -> RoundDirectory:
        """The round that the search began with."""
        record = self.read_record()
        if record.parent is None:
            return self
        before = RoundDirectory(self.path.parent / record.parent)
        if before.read_record().number >= record.number:
            raise RunError(f"{self.path} is no search: its round.json is damaged")
        return before.first_round()


def search_folder(root: Path, algo: str, env: str, name: str) -> RoundDirectory:
    """optuna_results/plots/<ALGO>_<ENV>/<name>.

    Raises:
        RunError: if the name is no single path component.
    """
    return RoundDirectory(run_path(root / "plots", algo, env, name))


def newest_search(root: Path) -> RoundDirectory:
    """The first round of the newest search that has not come to its end.

    Raises:
        ExperimentError: if there is none.
    """
    files = sorted(root.glob("plots/*/*/round.json"), key=lambda f: (f.stat().st_mtime, str(f)))
    for file in reversed(files):
        with contextlib.suppress(ExperimentError):  # a damaged one hides no other
            first = RoundDirectory(file.parent).first_round()
            if not is_finished(first):
                return first
    raise ExperimentError(f"there is no unfinished search below {root}")


def is_finished(first: RoundDirectory) -> bool:
    """Whether the search's last round has come to its end."""
    # Only looked at: what a search names is code, and this one may not be the one that is wanted.
    data, last = read_yaml(first.search_file)[0], first
    rounds, experiment = data.get("rounds"), data.get("experiment")
    if not isinstance(rounds, list) or not isinstance(experiment, dict):
        raise RunError(f"{first.search_file} holds no search")
    while (following := last.next_round()) is not None:
        last = following
    if last.read_record().number < len(rounds) - 1:
        return False
    try:
        return search_results.read(last.results_file).finished
    except ExperimentError:
        return False


def without_password(url: str) -> str:
    """A storage's URL as it may be written down.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    url = re.sub(r"(://[^/:@]*):.*@", r"\1:***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", url)
