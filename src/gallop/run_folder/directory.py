"""A run's folder: all its file names and formats, and atomic writes.

results/<ALGO>_<ENV_ID>/<run>/ holds the experiment, its provenance, all numbers as plain CSV, NPZ
and JSON, figures, policy files, and the milestones under checkpoints/. Files that grow are
rewritten and renamed, so that neither a reader nor a crash ever sees a partial file.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments.identity import Identity, read_identity
from gallop.environments.probe import Probed, read_probed
from gallop.errors import HeldError, RunError
from gallop.evaluation.episodes import Episodes
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import read_resolved, to_yaml
from gallop.policies.normalizer_file import normalizer_path
from gallop.run_folder import fence, manifest
from gallop.run_folder.consent import read_trained
from gallop.run_folder.files import (
    Held,
    Json,
    hold,
    new_folder,
    read_json,
    remove_file,
    remove_folder,
)
from gallop.run_folder.full_disk import is_full
from gallop.run_folder.holder import Holder, read_beside
from gallop.run_folder.manifest import write_json_result, write_npz_result, write_result
from gallop.run_folder.model_files import FOLDER, keep, model_file, with_kept_model
from gallop.run_folder.numbers import RunNumbers, read_rewards, rewards_arrays
from gallop.run_folder.run_paths import GROUP_FILE, REPORT, TEMPORARY, newest_inside


class Diverged(NamedTuple):
    """Why a run diverged: the content of diverged.json."""

    timestep: int
    cause: str
    """As in `DivergedError`."""
    message: str
    evidence: Json
    """The moments before: the last row of the log, the last finite losses, unstable episodes."""

    @property
    def would_again(self) -> bool:
        """Whether the run would diverge again if resumed: a task can be fixed, but deterministic
        training repeats itself."""
        return self.cause not in ("observation", "reward")


class RunDirectory:
    """Paths and formats of one run. Creating the object does not touch the disk.

    It is path-like: functions that take the path of a run also take this object.

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
        """The folder of the group of training seeds to which this run belongs, if any."""
        return self.path.parent if (self.path.parent / GROUP_FILE).is_file() else None

    @property
    def name(self) -> str:
        """The path below results/<ALGO>_<ENV_ID>, such as `first` or `group/seed-3`."""
        return self.path.name if self.group is None else f"{self.group.name}/{self.path.name}"

    @property
    def experiment_file(self) -> Path:
        """Path of experiment.yaml, the resolved experiment."""
        return self.path / "experiment.yaml"

    @property
    def seeds_file(self) -> Path:
        """Path of seeds.json, with every family of seeds that the run uses."""
        return self.path / "seeds.json"

    @property
    def provenance_file(self) -> Path:
        """Path of provenance.json, with command, versions, machine, learner, start and end."""
        return self.path / "provenance.json"

    @property
    def log_file(self) -> Path:
        """Path of run.log, with messages and warnings during the run."""
        return self.path / "run.log"

    @property
    def state(self) -> Path:
        """Path of state/, with the resume states."""
        return self.path / "state"

    @property
    def initial_model(self) -> Path:
        """A copy of the initial policy, if the run has one."""
        return self.state / "initial_model.zip"

    @property
    def tensorboard(self) -> Path:
        """Path of tensorboard/, with TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def _tracker_runs(self) -> Path:
        return self.state / "trackers.json"

    @property
    def best_model(self) -> Path:
        """Path of best_model.zip, the best policy on the validation seeds; an SB3 zip."""
        return self.path / "best_model.zip"

    @property
    def final_model(self) -> Path:
        """Path of final_model.zip, the policy at the last timestep; an SB3 zip."""
        return self.path / "final_model.zip"

    @property
    def learning_curve(self) -> Path:
        """Path of learning_curve.png, a plot of the evaluations during training."""
        return self.path / "learning_curve.png"

    @property
    def comparison(self) -> Path:
        """Path of comparison.png, the learning curve with the random policy's returns."""
        return self.path / "comparison.png"

    @property
    def milestone_bars(self) -> Path:
        """Path of checkpoint_means_barplot.png, a plot of the mean return at each milestone."""
        return self.path / "checkpoint_means_barplot.png"

    @property
    def progress_film(self) -> Path:
        """Path of progress.mp4, the milestones' films side by side."""
        return self.path / "progress.mp4"

    @property
    def progress_gif(self) -> Path:
        """Path of progress.gif, the first seconds of that film."""
        return self.path / "progress.gif"

    @property
    def report(self) -> Path:
        """Path of report.html, a page with everything about the run, to send to anyone."""
        return self.path / REPORT

    def milestone(self, percent: int) -> Milestone:
        """Return the milestone at a percentage of the run, whether it exists or not."""
        return Milestone(self.path / "checkpoints" / f"{percent:03d}")

    def film_job(self, percent: int) -> Path:
        """Return the file from which a milestone's film is made; it is deleted after filming."""
        return self.state / "films" / f"{percent:03d}.npz"

    def film_jobs(self) -> list[Path]:
        """Return the jobs of films that are not made yet, in the order to make them."""
        jobs = _jobs_of_milestones(self.film_job(0).parent)
        return [*jobs, self.progress_job] if self.progress_job.is_file() else jobs

    @property
    def progress_job(self) -> Path:
        """The file from which the progress film is made; it is deleted after filming."""
        return self.state / "films" / "progress.npz"

    def audit_job(self, percent: int) -> Path:
        """Return the file from which a milestone is audited; it is deleted after that."""
        return self.state / "audits" / f"{percent:03d}.npz"

    def audit_jobs(self) -> list[Path]:
        """Return the jobs of audits that are not made yet."""
        return _jobs_of_milestones(self.audit_job(0).parent)

    @property
    def numbers(self) -> RunNumbers:
        """The run's episodes, evaluations and log."""
        return RunNumbers(self.path)

    def results(self) -> list[Path]:
        """Return the existing files covered by the manifest; files added by others are not."""
        zips = (self.best_model, self.final_model, self.initial_model)
        found = [self.experiment_file, self.seeds_file, self.provenance_file, self.diverged_file]
        found += [self.learning_curve, self.comparison, self.milestone_bars, self.report]
        found += [*self.numbers.files, self.progress_film, self.progress_gif]
        found += [*zips, *map(normalizer_path, zips), self._tracker_runs]
        found += [*self.film_jobs(), *self.audit_jobs()]
        found += [path for path in sorted((self.path / FOLDER).rglob("*")) if path.is_file()]
        for folder in sorted(self.path.glob("checkpoints/[0-9]*")):
            milestone = Milestone(folder)
            found += [*milestone.files(), normalizer_path(milestone.model), milestone.meta]
        return [path for path in found if path.is_file()]

    def read_task(self) -> Identity | None:
        """Read what task the run began with; None if it is not recorded, as in older runs."""
        try:
            return read_identity(self.read_json(self.provenance_file.name).get("task"))
        except (OSError, ValueError):
            return None

    def read_probed(self) -> Probed:
        """Read what was found out about the task when the run began, from seeds.json.

        A run of an earlier version has no such record: its task is taken to behave.
        """
        try:
            return read_probed(self.read_json(self.seeds_file.name).get("probe"))
        except (OSError, ValueError):
            return Probed()

    # --- the run as a whole ---

    def check_is_new(self) -> None:
        """Check that a new run can be made here.

        Raises:
            RunError: if the folder already exists, because runs are never overwritten.
        """
        try:
            exists = self.path.exists() and not self.is_leftover()
        except OSError as error:
            raise RunError(f"{self.path} cannot be created: {error.strerror}") from None
        if exists:
            raise self.exists_error()

    def exists_error(self) -> RunError:
        """Return the error for a new run where a folder already exists."""
        hint = "choose another --name"
        if self.is_finished():
            hint = f"extend it with gallop run --extend {self.path} -n TIMESTEPS, or {hint}"
        elif self.experiment_file.exists():
            hint = f"resume it with gallop run --resume {self.path}, or {hint}"
        return RunError(f"{self.path} already exists, and runs are never overwritten; {hint}")

    def create(
        self, experiment: Experiment, fill: Callable[[RunDirectory], None] | None = None
    ) -> None:
        """Make the folder with the resolved experiment; it appears complete or not at all.

        Args:
            experiment: the resolved experiment.
            fill: writes further initial files into the folder being made.

        Raises:
            RunError: if the folder already exists (runs are never overwritten) or cannot be
                written.
        """
        try:
            if self.is_leftover():
                remove_folder(self.path)
            self.check_is_new()
            with new_folder(self.path) as temporary:
                folder = RunDirectory(temporary)
                folder.state.mkdir()
                if fill is not None:
                    fill(folder)
                if found := model_file(experiment.evaluation_env_kwargs):
                    name, model = found
                    keep(model, folder.path / FOLDER / name)
                folder.write_experiment(experiment)
                manifest.begin(temporary)
        except FileExistsError:
            raise self.exists_error() from None
        except OSError as error:
            if is_full(error):
                raise
            raise RunError(f"{self.path} cannot be created: {error.strerror}") from None

    def is_leftover(self) -> bool:
        """Whether the folder was left by an earlier version that was killed just after its start.

        It has neither an experiment nor results, and can be used again.
        """
        if not self.path.is_dir() or self.experiment_file.exists():
            return False
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(TEMPORARY)}
        inside = {path.name for path in self.state.glob("*") if not path.name.startswith(TEMPORARY)}
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
        """Read the run's resolved experiment, after checking that its code may be run.

        Raises:
            RunError: if the folder is not a run folder.
            ConsentError: if it names code that this user has not agreed to run.
        """
        self._check_experiment_file()
        return with_kept_model(read_trained(self.experiment_file), self.path)

    def look_at_experiment(self) -> Experiment:
        """Read the run's resolved experiment without running the code it names; no consent needed.

        Raises:
            RunError: if the folder is not a run folder.
        """
        self._check_experiment_file()
        return read_resolved(self.experiment_file)

    def _check_experiment_file(self) -> None:
        if not self.experiment_file.is_file():
            hint = ""
            if self.is_leftover():
                hint = "; its run was killed just after its start, and the name can be used again"
            elif manifest.root_of(self.path) is not None:
                hint = "; it was deleted: restore it from a copy"
            inside = newest_inside(self.path)
            raise RunError(f"{self.path}: not a run folder (no experiment.yaml{hint}){inside}")
        manifest.check(self.experiment_file)

    @contextlib.contextmanager
    def locked(self, named: bool = True) -> Iterator[None]:
        """Hold the run's lock within the block.

        Args:
            named: record next to the lock which process holds it.

        Raises:
            HeldError: if another process holds it.
            FencedError: if the run was given to another process, now or within the block.
            RunError: if the folder cannot be written.
        """
        busy = HeldError(f"{self.path} is being run by another process")
        if named and self.path.is_dir():
            with contextlib.suppress(OSError):  # reported below
                self.state.mkdir(exist_ok=True)  # it may have been deleted
        with hold(self.state / "lock", self.path, busy, named) as self._held:
            if named:
                fence.enter(self.path)
            try:
                yield
            except Exception:
                fence.check(self.path)  # if it was taken from us, that explains the error
                raise

    def killed_holder(self) -> Holder | None:
        """Return the last holder if that process ended without releasing the lock: it was killed,
        or ended by its task. Call this before `locked`."""
        return None if self.is_locked() else read_beside(self.state / "lock")

    def check_held(self) -> None:
        """Check, before each commit of a locked run, that the folder is still the same.

        Raises:
            RunError: if the folder was moved, deleted or replaced.
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
        except RunError:  # reported when someone tries to run it
            return False

    def is_finished(self) -> bool:
        """Whether the run has reached its end."""
        try:
            return self.read_json("provenance.json").get("end") is not None
        except (OSError, ValueError):
            return False

    # --- records ---

    @property
    def diverged_file(self) -> Path:
        """Why the run diverged; exists only if it did."""
        return self.path / "diverged.json"

    def write_diverged(self, diverged: Diverged) -> None:
        """Record why the run diverged."""
        write_json_result(self.diverged_file, diverged._asdict())

    def forget_diverged(self) -> None:
        """Delete diverged.json, because the run continues."""
        manifest.forget(self.path, [self.diverged_file.name])
        remove_file(self.diverged_file)

    def read_diverged(self) -> Diverged | None:
        """Return why the run diverged; None if it did not."""
        if not self.diverged_file.is_file():
            return None
        try:
            told = Diverged(**read_json(self.diverged_file))
            return told._replace(cause=str(told.cause), message=str(told.message))
        except (OSError, ValueError, TypeError):
            return Diverged(0, "training", "diverged.json cannot be read", {})

    def write_json(self, name: str, data: Mapping[str, object]) -> None:
        """Replace seeds.json or provenance.json."""
        write_json_result(self.path / name, data)

    def read_json(self, name: str) -> Json:
        """Read seeds.json or provenance.json.

        Raises:
            RunError: if it is damaged.
            OSError: if it cannot be read.
        """
        return _read_json(self.path / name)

    def read_tracker_runs(self) -> dict[str, str]:
        """Return the ids of this run at the trackers that have assigned one."""
        return _read_json(self._tracker_runs) if self._tracker_runs.exists() else {}

    def write_tracker_run(self, tracker: str, run_id: str) -> None:
        """Remember a tracker's id of this run, so that a resumed run continues under it."""
        write_json_result(self._tracker_runs, self.read_tracker_runs() | {tracker: run_id})


def _jobs_of_milestones(folder: Path) -> list[Path]:
    """The jobs of a folder that are named as ours are, such as 050.npz; `int` reads more digits."""
    named = (path for path in folder.glob("*.npz") if re.fullmatch(r"[0-9]{3}\.npz", path.name))
    return sorted(named)


def _read_json(path: Path) -> Json:
    try:
        return read_json(path)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None


class Milestone:
    """A milestone: one folder in checkpoints/. It is path-like.

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
        """Path of model.zip, the policy at this milestone; an SB3 zip."""
        return self.path / "model.zip"

    @property
    def boxplot(self) -> Path:
        """Path of boxplot_trained_vs_random.png, returns of this policy and of the random one."""
        return self.path / "boxplot_trained_vs_random.png"

    @property
    def histogram(self) -> Path:
        """Path of trained_rewards_hist.png, a histogram of the returns."""
        return self.path / "trained_rewards_hist.png"

    @property
    def film(self) -> Path:
        """Path of rollout.mp4, one evaluation episode."""
        return self.path / "rollout.mp4"

    @property
    def gif(self) -> Path:
        """Path of rollout.gif, the first seconds of the film."""
        return self.path / "rollout.gif"

    @property
    def audit(self) -> Path:
        """Path of audit.json, how the policy moves (MuJoCo tasks)."""
        return self.path / "audit.json"

    @property
    def trajectory(self) -> Path:
        """Path of trajectory.npz, the filmed episode at every physics step."""
        return self.path / "trajectory.npz"

    @property
    def sensitivity(self) -> Path:
        """Path of sensitivity.png, the return on changed simulators, at the last milestone."""
        return self.path / "sensitivity.png"

    def audit_files(self) -> list[Path]:
        """Return the paths of audit.json and what belongs to it."""
        figures = [self.path / "gait.png", self.path / "pitch.png", self.sensitivity]
        return [self.audit, self.trajectory, *figures]

    def files(self) -> list[Path]:
        """Return the paths of all files of a milestone except meta.json."""
        numbers = [self.model, self.rewards, self.boxplot, self.histogram]
        return [*numbers, self.film, self.gif, *self.audit_files()]

    @property
    def rewards(self) -> Path:
        """Path of trained_rewards.npz, with returns, seeds and lengths of evaluation episodes."""
        return self.path / "trained_rewards.npz"

    def write_rewards(self, episodes: Episodes) -> None:
        """Write trained_rewards.npz."""
        write_npz_result(self.rewards, rewards_arrays(episodes))

    def read_rewards(self) -> NDArray[np.float64] | None:
        """Read the returns of the evaluation episodes; None if there are none yet."""
        return read_rewards(self.rewards)

    @property
    def meta(self) -> Path:
        """Path of meta.json, with timesteps reached, seeds, statistics of the returns, versions."""
        return self.path / "meta.json"

    def write_meta(self, meta: Mapping[str, object]) -> None:
        """Write meta.json."""
        write_json_result(self.meta, meta)

    def read_meta(self) -> Json | None:
        """Read meta.json; None if it does not exist yet."""
        return _read_json(self.meta) if self.meta.exists() else None

    def note_missing(self, changes: Mapping[str, str | None]) -> None:
        """Write into meta.json why files are missing.

        Args:
            changes: name of a file -> the reason; None if it is no longer missing.
        """
        meta = self.read_meta()
        if meta is None:
            return
        missing = {**meta.get("missing", {}), **changes}
        missing = {name: reason for name, reason in missing.items() if reason is not None}
        self.write_meta(meta | {"missing": missing})
