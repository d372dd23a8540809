"""The folder of a group: runs of one experiment with several training seeds.

results/<ALGO>_<ENV_ID>/<name>/
├── group.yaml            the resolved experiment, with the first training seed
├── seeds.json            the training seeds, which are recorded only here
├── seed-0/, seed-1/, …   ordinary runs, accepted by any command
├── curve.csv, learning_curve.png
├── summary.json
├── report.html
└── manifest.json         the SHA-256 of these files; each run has its own
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from gallop.errors import ExperimentError, RunError
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import read_resolved, to_yaml
from gallop.run_folder import manifest
from gallop.run_folder.consent import read_trained
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import hold_folder, read_json
from gallop.run_folder.manifest import write_json_result, write_result
from gallop.run_folder.run_paths import GROUP_FILE, REPORT

LOCK = "lock"


class SeedGroup:
    """Paths and formats of one group. Creating the object does not touch the disk.

    It is path-like: functions that take the path of a group also take this object.

    Attributes:
        path: the group's folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"SeedGroup({str(self.path)!r})"

    @property
    def experiment_file(self) -> Path:
        """Path of group.yaml, the resolved experiment, with the first training seed."""
        return self.path / GROUP_FILE

    @property
    def seeds_file(self) -> Path:
        """Path of seeds.json, with the training seeds."""
        return self.path / "seeds.json"

    @property
    def learning_curve(self) -> Path:
        """Path of learning_curve.png, a plot of the evaluations over the training seeds."""
        return self.path / "learning_curve.png"

    @property
    def curve_file(self) -> Path:
        """Path of curve.csv, with the numbers of the learning curve."""
        return self.path / "curve.csv"

    @property
    def summary_file(self) -> Path:
        """Path of summary.json, with statistics over the training seeds."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """Path of report.html, a page with everything about the group, to send to anyone."""
        return self.path / REPORT

    def run(self, seed: int) -> RunDirectory:
        """Return the run of one training seed, whether it exists or not."""
        return RunDirectory(self.path / f"seed-{seed}")

    def write(self, experiment: Experiment, seeds: Sequence[int]) -> None:
        """Write the seeds, then the experiment, whose file marks the folder as a group."""
        if manifest.root_of(self.path) is None:
            manifest.begin(self.path, self.results())
        before = read_json(self.seeds_file) if self.seeds_file.exists() else {}
        record = {"training_seeds": list(seeds), "manifest": manifest.NAME}
        write_json_result(self.seeds_file, before | record)
        write_result(self.experiment_file, to_yaml(experiment).encode())

    def results(self) -> list[Path]:
        """Return the group's own files that exist and are covered by its manifest."""
        known = (self.experiment_file, self.seeds_file, self.curve_file, self.learning_curve)
        return [p for p in (*known, self.summary_file, self.report) if p.is_file()]

    def read_experiment(self) -> Experiment:
        """Read the resolved experiment, with the first seed, after checking that its code may be
        run.

        Raises:
            RunError: if the folder is not a group.
            ConsentError: if it names code that this user has not agreed to run.
        """
        self._check_experiment_file()
        return read_trained(self.experiment_file)

    def look_at_experiment(self) -> Experiment:
        """Read the resolved experiment without running the code it names; no consent needed.

        Raises:
            RunError: if the folder is not a group.
        """
        self._check_experiment_file()
        return read_resolved(self.experiment_file)

    def _check_experiment_file(self) -> None:
        if not is_group(self.path):
            raise RunError(f"{self.path}: not a group of training seeds (no {GROUP_FILE})")
        manifest.check(self.experiment_file, self.seeds_file)

    def read_seeds(self) -> list[int]:
        """Read the training seeds, in the order in which they were given.

        Raises:
            RunError: if seeds.json is damaged.
        """
        try:
            seeds = read_json(self.seeds_file)["training_seeds"]
            return each_once([int(seed) for seed in seeds])
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{self.seeds_file} has no valid training seeds: {reason}") from None

    def seeds_there(self) -> list[int]:
        """Return the training seeds of existing runs, judging by the names of their folders."""
        names = [path.name.removeprefix("seed-") for path in self.path.glob("seed-*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def runs(self) -> dict[int, RunDirectory]:
        """Return the run of each training seed, whether it exists or not.

        Raises:
            RunError: if seeds.json is damaged.
        """
        return {seed: self.run(seed) for seed in self.read_seeds()}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the group's lock within the block; its folder is made if needed.

        Raises:
            HeldError: if another process is running it.
            RunError: if the folder cannot be written.
        """
        with hold_folder(self.path, LOCK):
            yield


def is_group(path: Path) -> bool:
    """Whether a folder is a group of training seeds."""
    return (path / GROUP_FILE).is_file()


def each_once(seeds: Sequence[int]) -> list[int]:
    """Check the training seeds of a group.

    Raises:
        ExperimentError: if there is none, or one is given twice.
    """
    if not seeds:
        raise ExperimentError("--seeds: at least one training seed is required, such as 0..9")
    twice = [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]
    if twice:
        raise ExperimentError(f"--seeds: training seed {twice[0]} is given twice")
    return list(seeds)
