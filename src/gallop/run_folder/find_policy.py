"""From RUN, MILESTONE or ZIP, as given to commands, to a policy file and its task."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gallop.environments.identity import Identity, changes, read_identity
from gallop.environments.make import Task, evaluation_task
from gallop.environments.spaces import Env
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError, RunError
from gallop.experiments.settings import Physics, TaskArguments
from gallop.policies.normalizer_file import normalizer_path
from gallop.policies.policy import Policy
from gallop.policies.safe_archive import PolicyFileError
from gallop.policies.torch_checkpoint import SUFFIXES
from gallop.run_folder import manifest
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.lookup import all_runs, containing_run
from gallop.run_folder.run_paths import newest_inside
from gallop.run_folder.seed_group import SeedGroup, is_group

if TYPE_CHECKING:
    from gallop.policies.sb3_zip import Options


TIME_FEATURE = "gallop.environments.wrappers:time_feature"


class Named(NamedTuple):
    """A policy file and its task."""

    path: Path
    task: Task
    note: str = ""
    """How the task was determined, if not given explicitly; to be printed."""
    takes_raw: bool = False
    """The run did not normalise observations, whatever the file suggests."""
    trained_on: Identity | None = None
    """The task that its run began with, if the policy belongs to a run that recorded it."""

    @property
    def label(self) -> str:
        """Short, for a table: the last three parts of the path, or changes of the simulator."""
        if self.task.physics is not None:
            return f"with {self.task.physics.in_words()}"
        return "/".join(self.path.parts[-3:])

    def with_physics(self, physics: Physics) -> Named:
        """Return the policy on its task with a changed simulator."""
        return self._replace(task=replace(self.task, physics=physics))

    def task_note(self, now: Identity) -> str:
        """What has changed around its task since its run began, to be printed; else empty.

        Args:
            now: the task as it is on this machine.
        """
        changed = [] if self.trained_on is None else changes(self.trained_on, now)
        return f"trained on another task than it is scored on: {'; '.join(changed)}" * bool(changed)

    def read(self, options: Options | None = None) -> Policy:
        """Read the policy without running any code in the file.

        Args:
            options: how to read an SB3 zip.

        Raises:
            PolicyFileError: if the file cannot be read, or belongs to another task.
        """
        with watching(self.task.watchdog):
            env = self.task.closed()
        return self.read_for(env, options)

    def read_for(self, env: Env, options: Options | None = None) -> Policy:
        """Read the policy for an existing environment of its task."""
        from gallop.policies import onnx_policy, sb3_zip, torch_checkpoint

        if self.path.suffix == ".onnx":
            return onnx_policy.OnnxPolicy(self.path, env.observation_space, env.action_space)
        if self.path.suffix in torch_checkpoint.SUFFIXES:
            options = options or sb3_zip.Options()
            raw = options.normalizer == sb3_zip.NO_NORMALIZER
            spaces = env.observation_space, env.action_space
            return torch_checkpoint.read(self.path, *spaces, options.activation, raw)
        options = self._with_raw(options or sb3_zip.Options())
        return sb3_zip.read(self.path, env.observation_space, env.action_space, options)

    def normalizer_note(self, options: Options) -> str:
        """How its observations are normalised, to be printed; see `sb3_zip.normalizer_note`."""
        from gallop.policies import sb3_zip

        if self.path.suffix in (".onnx", *SUFFIXES):
            return ""
        return sb3_zip.normalizer_note(self.path, self._with_raw(options))

    def _with_raw(self, options: Options) -> Options:
        return options._replace(takes_raw=options.takes_raw or self.takes_raw)


def find_policy(
    what: Path | None = None,
    *,
    env: str | None = None,
    results: Path = Path("results"),
    reset_noise_scale: float | None = None,
    arguments: TaskArguments | None = None,
) -> Named:
    """Find the policy named by a user.

    Args:
        what: a run folder (its best policy), a milestone folder, or an SB3 zip; None: the newest
            run.
        env: the task; needed for a zip outside of run folders whose name does not contain it.
        results: the folder that holds all runs.
        reset_noise_scale: replaces the value of the task or the run.
        arguments: keyword arguments and wrappers of the task; see `with_arguments`.

    Raises:
        ExperimentError: if there is no such policy, or its task is not known.
    """
    path = policy_path(what, results)
    task, note = _task(path, env)
    with watching(task.watchdog):
        task = with_reset_noise(with_arguments(task, arguments), reset_noise_scale)
        folder = containing_run(path.parent) if env is None else None
        trained_on = None if folder is None else folder.read_task()
        takes_raw = env is None and _takes_raw(path)
        return _with_time_feature(Named(path, task, note, takes_raw, trained_on))


def with_arguments(task: Task, arguments: TaskArguments | None) -> Task:
    """Return the task with keyword arguments added and wrappers replaced.

    Args:
        task: the task.
        arguments: None leaves the task as it is.

    Raises:
        ExperimentError: if a wrapper cannot be made, or keeps running statistics.
    """
    if arguments is None:
        return task
    wrappers = task.wrappers if arguments.wrappers is None else arguments.wrappers
    changed = replace(
        task,
        kwargs={**task.kwargs, **arguments.env_kwargs},
        wrappers=wrappers,
        physics=arguments.physics,
    )
    if arguments.wrappers or arguments.physics is not None:
        changed.closed()
    return changed


def stands_alone(what: Sequence[Path], env: str | None) -> bool:
    """Whether --trust refers to the code in a zip.

    True for a single zip whose task does not come from a run folder; otherwise --trust refers to
    the code that the folder names.
    """
    if len(what) != 1 or not what[0].is_file():
        return False
    return env is not None or containing_run(what[0].parent) is None


def with_reset_noise(task: Task, scale: float | None) -> Task:
    """Return the task with another spread of initial states; None leaves it as it is.

    Raises:
        ExperimentError: if the scale is not a number of at least 0.
    """
    if scale is None:
        return task
    if not 0 <= scale < math.inf:
        raise ExperimentError(f"--reset-noise-scale {scale}: must be a number of at least 0")
    return replace(task, kwargs={**task.kwargs, "reset_noise_scale": scale})


def policy_path(what: Path | None, results: Path = Path("results")) -> Path:
    """Return the best policy of a run, the policy of a milestone, or the file itself.

    Args:
        what: None: the newest run.
        results: the folder that holds all runs.

    Raises:
        RunError: if there is none, or it is damaged.
    """
    path = _policy_path(what, results)
    manifest.check(path, normalizer_path(path))
    return path


def _policy_path(what: Path | None, results: Path) -> Path:
    if what is None:
        runs = [folder for folder in all_runs(results) if folder.best_model.exists()]
        if not runs:
            raise RunError(f"{results}: no run with a policy found; train one with gallop run")
        return runs[-1].best_model
    if what.is_dir():
        # A run without a finite evaluation has no best policy.
        run = RunDirectory(what)
        candidates = [run.best_model, Milestone(what).model, run.final_model]
        for path in candidates:
            if path.exists():
                return path
        if run.experiment_file.is_file():
            raise RunError(f"{what} has no policy yet, because it has not been evaluated")
        if is_group(what) and (seeds := SeedGroup(what).seeds_there()):
            one = SeedGroup(what).run(seeds[0])
            raise RunError(
                f"{what}: a group of training seeds, not a run; choose a run, such as {one.path}"
            )
        if (what / "rllib_checkpoint.json").is_file():
            raise RunError(
                f"{what}: a checkpoint of RLlib, made of pickles: export the policy as ONNX where "
                "RLlib is installed (torch.onnx.export of its RLModule)"
            )
        names = " or ".join(path.name for path in candidates[:2])
        raise RunError(f"{what}: not a run or milestone folder (no {names}){newest_inside(what)}")
    if not what.exists():
        raise RunError(f"{what}: no such file or folder")
    if what.suffix in (".pkl", ".pickle"):
        raise RunError(
            f"{what}: a pickle, which runs code when it is opened: export the policy as ONNX where "
            "its library is installed"
        )
    return what


def _task(path: Path, env: str | None) -> tuple[Task, str]:
    """Return the task of a policy file, and a note on how it was determined."""
    if env is not None:
        return Task(env, {}), ""
    folder = containing_run(path.parent)
    if folder is not None:
        return evaluation_task(folder.read_experiment()), ""
    found = task_in_name(path.stem)
    if path.suffix == ".onnx" and (recorded := _recorded_task(path)):
        return recorded
    if found is None:
        raise ExperimentError(
            f"{path}: task not known, as the file is not in a run folder; --env ID is required"
        )
    return Task(found, {}), f"task {found}, taken from the file name; --env chooses another"


def _recorded_task(path: Path) -> tuple[Task, str] | None:
    """The task that Gallop recorded in an ONNX file, if it is one of Gymnasium's own.

    Others name code, which only --env and --wrappers may do for a file that stands alone.
    """
    import gymnasium

    from gallop.policies.onnx_policy import recorded_task

    found = read_identity(recorded_task(path))
    if found is None or found.env not in gymnasium.registry or found.wrappers:
        return None
    kwargs = f" {found.env_kwargs}" if found.env_kwargs else ""
    return Task(found.env, found.env_kwargs), f"task {found.env}{kwargs}, as the file records"


def _takes_raw(path: Path) -> bool:
    """Whether the file was written by a run that does not normalise observations.

    In older runs that normalised only rewards, zips look as if observations were normalised.
    """
    folder = containing_run(path.parent)
    if folder is None:
        return False
    own = {folder.best_model.name, folder.final_model.name, Milestone(path.parent).model.name}
    return path.name in own and not folder.read_experiment().normalize.observations


def task_in_name(stem: str) -> str | None:
    """Return the task contained in a file's name, as in zips of the Zoo and the hub, or None.

    >>> task_in_name("ppo-Hopper-v5")
    'Hopper-v5'
    """
    import gymnasium

    for candidate in (stem, re.sub(r"^[A-Za-z0-9]+[-_]", "", stem)):
        if candidate in gymnasium.registry:
            return candidate
    return None


def _with_time_feature(named: Named) -> Named:
    """Add the time feature if the policy takes one observation more than the task gives: that is
    the remaining time of the episode."""
    from gallop.policies import sb3_zip

    if named.path.suffix in (".onnx", *SUFFIXES):
        return named
    try:
        shape = sb3_zip.observation_shape(named.path)
    except PolicyFileError:
        return named  # `read` reports the error
    env = named.task.closed()
    ours = env.observation_space.shape
    if not shape or len(shape) != 1 or ours != (shape[0] - 1,):
        return named
    limit = env.spec.max_episode_steps if env.spec is not None else None
    wrapper = {TIME_FEATURE: {"n_timesteps": limit or 1000}}
    task = replace(named.task, wrappers=(*named.task.wrappers, wrapper))
    note = (
        f"the policy takes {shape[0]} observations, one more than the task gives: assuming that "
        "the last one is the remaining time (if it is not, pass the right --env-kwargs)"
    )
    return named._replace(task=task, note="; ".join(filter(None, (named.note, note))))
