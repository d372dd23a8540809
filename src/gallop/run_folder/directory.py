"""A run's folder: every file name and format in it, and writes that are whole or absent.

results/<ALGO>_<ENV_ID>/<run>/ holds the experiment, its provenance, all numbers as plain CSV, NPZ
and JSON, figures, policy files, and the milestones under checkpoints/. Files that grow are written
anew and renamed, so that a reader, or a crash, never sees half of one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.errors import HeldError, RunError
from gallop.evaluation.episodes import Episodes
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import read_resolved, to_yaml
from gallop.policies.normalizer_file import normalizer_path
from gallop.run_folder import manifest
from gallop.run_folder.consent import read_trained
from gallop.run_folder.files import (
    Held,
    Json,
    hold,
    new_folder,
    read_json,
    remove_folder,
)
from gallop.run_folder.full_disk import is_full
from gallop.run_folder.holder import Holder, read_beside
from gallop.run_folder.manifest import write_json_result, write_npz_result, write_result
from gallop.run_folder.numbers import RunNumbers, read_rewards, rewards_arrays

GROUP_FILE = "group.yaml"  # what makes a folder a group of runs, one below it for each seed


class Diverged(NamedTuple):
    """Why a run has left the finite numbers; diverged.json."""

    timestep: int
    cause: str
    """As in `DivergedError`."""
    message: str
    evidence: Json
    """What led to it: the last row of the log, the last finite losses, unstable episodes."""

    @property
    def would_again(self) -> bool:
        """Whether the run, resumed, would diverge again: a task can be repaired, a training that
        gives the same bits cannot."""
        return self.cause not in ("observation", "reward")


class RunDirectory:
    """Paths and formats of one run. Making the object touches nothing on disk.

    It is path-like: whatever takes the path of a run takes this object, too.

    Attributes:
        path: the run's folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._held: Held | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    # --- names ---

    @property
    def group(self) -> Path | None:
        """The folder of the group of training seeds that this run belongs to, if it does."""
        return self.path.parent if (self.path.parent / GROUP_FILE).is_file() else None

    @property
    def name(self) -> str:
        """What it is called below results/<ALGO>_<ENV_ID>: `first`, or `group/seed-3`."""
        return self.path.name if self.group is None else f"{self.group.name}/{self.path.name}"

    @property
    def experiment_file(self) -> Path:
        """experiment.yaml: the resolved experiment."""
        return self.path / "experiment.yaml"

    @property
    def seeds_file(self) -> Path:
        """seeds.json: every family of seeds that the run uses."""
        return self.path / "seeds.json"

    @property
    def provenance_file(self) -> Path:
        """provenance.json: command, versions, machine, learner, start and end."""
        return self.path / "provenance.json"

    @property
    def log_file(self) -> Path:
        """run.log: the messages of all processes of the run."""
        return self.path / "run.log"

    @property
    def state(self) -> Path:
        """state/: what resuming needs."""
        return self.path / "state"

    @property
    def initial_model(self) -> Path:
        """A copy of the policy file that training started from, if it did."""
        return self.state / "initial_model.zip"

    @property
    def tensorboard(self) -> Path:
        """tensorboard/: the folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def _tracker_runs(self) -> Path:
        return self.state / "trackers.json"

    @property
    def best_model(self) -> Path:
        """best_model.zip: the policy that scored best on the validation seeds; an SB3 zip."""
        return self.path / "best_model.zip"

    @property
    def final_model(self) -> Path:
        """final_model.zip: the policy at the last timestep; an SB3 zip."""
        return self.path / "final_model.zip"

    @property
    def learning_curve(self) -> Path:
        """learning_curve.png: return of the evaluations during training."""
        return self.path / "learning_curve.png"

    @property
    def comparison(self) -> Path:
        """comparison.png: the learning curve with the random policy's returns."""
        return self.path / "comparison.png"

    @property
    def milestone_bars(self) -> Path:
        """checkpoint_means_barplot.png: mean return at each milestone."""
        return self.path / "checkpoint_means_barplot.png"

    def milestone(self, percent: int) -> Milestone:
        """The folder of one milestone."""
        return Milestone(self.path / "checkpoints" / f"{percent:03d}")

    def film_job(self, percent: int) -> Path:
        """What the film of a milestone is made from; it exists until the film does."""
        return self.state / "films" / f"{percent:03d}.npz"

    def film_jobs(self) -> list[Path]:
        """Films that are still to be made."""
        found = self.film_job(0).parent.glob("*.npz")
        return sorted(job for job in found if job.stem.isdecimal())

    @property
    def numbers(self) -> RunNumbers:
        """Its episodes, evaluations and log."""
        return RunNumbers(self.path)

    def results(self) -> list[Path]:
        """The files that a manifest vouches for, those that are there; no file of somebody else."""
        zips = (self.best_model, self.final_model, self.initial_model)
        found = [self.experiment_file, self.seeds_file, self.provenance_file, self.diverged_file]
        found += [self.learning_curve, self.comparison, self.milestone_bars, *self.numbers.files]
        found += [*zips, *map(normalizer_path, zips), self._tracker_runs, *self.film_jobs()]
        for folder in sorted(self.path.glob("checkpoints/[0-9]*")):
            milestone = Milestone(folder)
            found += [*milestone.files(), normalizer_path(milestone.model), milestone.meta]
        return [path for path in found if path.is_file()]

    # --- the run as a whole ---

    def create(
        self, experiment: Experiment, fill: Callable[[RunDirectory], None] | None = None
    ) -> None:
        """Make the folder with the resolved experiment; it appears whole or not at all.

        Args:
            fill: writes what else the run begins with, into the folder that is being made.

        Raises:
            RunError: if it exists already (a run is never overwritten) or cannot be written.
        """
        hint = "gallop run --resume goes on with it; --name gives another"
        exists = RunError(f"{self.path} exists already, and runs are never overwritten; {hint}")
        try:
            if self.is_leftover():
                remove_folder(self.path)
            if self.path.exists():
                raise exists
            with new_folder(self.path) as temporary:
                folder = RunDirectory(temporary)
                folder.state.mkdir()
                if fill is not None:
                    fill(folder)
                folder.write_experiment(experiment)
                manifest.begin(temporary)
        except FileExistsError:
            raise exists from None
        except OSError as error:
            if is_full(error):
                raise
            raise RunError(f"{self.path} cannot be made: {error.strerror}") from None

    def is_leftover(self) -> bool:
        """Whether the folder is what an earlier version left of a run that was killed in its first
        moment: no experiment and no result. It can be used again."""
        if not self.path.is_dir() or self.experiment_file.exists():
            return False
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(".new-")}
        inside = {path.name for path in self.state.glob("*") if not path.name.startswith(".new-")}
        first = {
            "lock",
            "lock.holder",
            self.initial_model.name,
            normalizer_path(self.initial_model).name,
        }
        return names <= {self.state.name} and inside <= first

    def write_experiment(self, experiment: Experiment) -> None:
        """Write experiment.yaml."""
        write_result(self.experiment_file, to_yaml(experiment).encode())

    def read_experiment(self) -> Experiment:
        """The resolved experiment that this run was started with, whose code may be run.

        Raises:
            RunError: if the folder holds no run.
            ConsentError: if it names code that this user has not agreed to run.
        """
        self._check_experiment_file()
        return read_trained(self.experiment_file)

    def look_at_experiment(self) -> Experiment:
        """The same, to be looked at: nothing that it names is run, and nobody is asked.

        Raises:
            RunError: if the folder holds no run.
        """
        self._check_experiment_file()
        return read_resolved(self.experiment_file)

    def _check_experiment_file(self) -> None:
        if not self.experiment_file.is_file():
            hint = ""
            if self.is_leftover():
                hint = " (a run was killed here in its first moment: a new one can have the name)"
            elif manifest.root_of(self.path) is not None:
                hint = " (it was deleted: put back a copy of it)"
            raise RunError(f"{self.path} is no run: it holds no experiment.yaml{hint}")
        manifest.check(self.experiment_file)

    @contextlib.contextmanager
    def locked(self, named: bool = True) -> Iterator[None]:
        """Hold the run; a second process that wants it is refused.

        Args:
            named: say beside the lock who holds it.

        Raises:
            HeldError: if another process is running it.
            RunError: if the folder cannot be written.
        """
        busy = HeldError(f"{self.path} is being run by another process")
        if named and self.path.is_dir():
            with contextlib.suppress(OSError):  # said below
                self.state.mkdir(exist_ok=True)  # somebody may have deleted it
        with hold(self.state / "lock", self.path, busy, named) as self._held:
            yield

    def killed_holder(self) -> Holder | None:
        """Who held the run last, if that process ended without giving it back: killed, or ended by
        its task. To be asked before the run is `locked`."""
        return None if self.is_locked() else read_beside(self.state / "lock")

    def check_held(self) -> None:
        """Called before each commit of a run that is `locked`.

        Raises:
            RunError: if the folder was moved, deleted or replaced since.
        """
        if self._held is not None:
            self._held.check()

    def is_locked(self) -> bool:
        """Whether another process is running it."""
        try:
            with self.locked(named=False):
                return False
        except HeldError:
            return True
        except RunError:  # whoever wants to run it will be told
            return False

    def is_finished(self) -> bool:
        """Whether it has come to its end."""
        try:
            return self.read_json("provenance.json").get("end") is not None
        except (OSError, ValueError):
            return False

    # --- records ---

    @property
    def diverged_file(self) -> Path:
        """Why the run has left the finite numbers; absent while it has not."""
        return self.path / "diverged.json"

    def write_diverged(self, diverged: Diverged) -> None:
        """Say why the run has diverged."""
        write_json_result(self.diverged_file, diverged._asdict())

    def forget_diverged(self) -> None:
        """The run goes on."""
        manifest.forget(self.path, [self.diverged_file.name])
        self.diverged_file.unlink(missing_ok=True)

    def read_diverged(self) -> Diverged | None:
        """Why the run has diverged, or None if it has not."""
        if not self.diverged_file.is_file():
            return None
        try:
            told = Diverged(**read_json(self.diverged_file))
            return told._replace(cause=str(told.cause), message=str(told.message))
        except (OSError, ValueError, TypeError):
            return Diverged(0, "training", "diverged.json cannot be read", {})

    def write_json(self, name: str, data: Mapping[str, object]) -> None:
        """seeds.json or provenance.json."""
        write_json_result(self.path / name, data)

    def read_json(self, name: str) -> Json:
        """What one of them holds.

        Raises:
            RunError: if it is damaged. (OSError if it cannot be read.)
        """
        return _read_json(self.path / name)

    def read_tracker_runs(self) -> dict[str, str]:
        """Tracker -> its own id of this run; those that have one so far."""
        return _read_json(self._tracker_runs) if self._tracker_runs.exists() else {}

    def write_tracker_run(self, tracker: str, run_id: str) -> None:
        """Remember a tracker's id of this run, so that a resumed run goes on with the same one."""
        write_json_result(self._tracker_runs, self.read_tracker_runs() | {tracker: run_id})


def _read_json(path: Path) -> Json:
    try:
        return read_json(path)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None


class Milestone:
    """One folder below checkpoints/. It is path-like.

    Attributes:
        path: the milestone's folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Milestone({str(self.path)!r})"

    @property
    def model(self) -> Path:
        """model.zip: the policy at this milestone; an SB3 zip."""
        return self.path / "model.zip"

    @property
    def boxplot(self) -> Path:
        """boxplot_trained_vs_random.png: returns of this policy and of the random policy."""
        return self.path / "boxplot_trained_vs_random.png"

    @property
    def histogram(self) -> Path:
        """trained_rewards_hist.png: histogram of the returns."""
        return self.path / "trained_rewards_hist.png"

    @property
    def film(self) -> Path:
        """rollout.mp4: one evaluation episode."""
        return self.path / "rollout.mp4"

    @property
    def gif(self) -> Path:
        """rollout.gif: the first seconds of the film."""
        return self.path / "rollout.gif"

    def files(self) -> list[Path]:
        """All that a milestone holds beside its meta.json."""
        return [self.model, self.rewards, self.boxplot, self.histogram, self.film, self.gif]

    @property
    def rewards(self) -> Path:
        """trained_rewards.npz: returns, seeds and lengths of the evaluation episodes."""
        return self.path / "trained_rewards.npz"

    def write_rewards(self, episodes: Episodes) -> None:
        """Write trained_rewards.npz."""
        write_npz_result(self.rewards, rewards_arrays(episodes))

    def read_rewards(self) -> NDArray[np.float64] | None:
        """Returns of the evaluation episodes, or None before they exist."""
        return read_rewards(self.rewards)

    @property
    def meta(self) -> Path:
        """meta.json: timesteps reached, seeds, statistics of the returns, versions."""
        return self.path / "meta.json"

    def write_meta(self, meta: Mapping[str, object]) -> None:
        """Write meta.json."""
        write_json_result(self.meta, meta)

    def read_meta(self) -> Json | None:
        """What is recorded of it, or None before it exists."""
        return _read_json(self.meta) if self.meta.exists() else None
