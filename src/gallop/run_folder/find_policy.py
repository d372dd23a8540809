"""RUN, MILESTONE or ZIP → a policy file and the task that it plays: what commands are given."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gallop.environments.make import Task, evaluation_task
from gallop.environments.spaces import Env
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError, RunError
from gallop.experiments.settings import TaskArguments
from gallop.policies.normalizer_file import normalizer_path
from gallop.policies.policy import Policy
from gallop.policies.safe_archive import PolicyFileError
from gallop.run_folder import manifest
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.lookup import all_runs, containing_run

if TYPE_CHECKING:
    from gallop.policies.sb3_zip import Options


TIME_FEATURE = "gallop.environments.wrappers:time_feature"


class Named(NamedTuple):
    """A policy file and its task."""

    path: Path
    task: Task
    note: str = ""
    """What was found out about the task beside what was asked for; to be said."""
    takes_raw: bool = False
    """Its run did not normalise observations, whatever the file looks like."""

    @property
    def label(self) -> str:
        """Short, for a table: the last three parts of the path."""
        return "/".join(self.path.parts[-3:])

    def read(self, options: Options | None = None) -> Policy:
        """The policy, read safely.

        Raises:
            PolicyFileError: if the file cannot be read, or is one of another task.
        """
        with watching(self.task.watchdog):
            env = self.task.closed()
        return self.read_for(env, options)

    def read_for(self, env: Env, options: Options | None = None) -> Policy:
        """The same, for an environment of its task that is there already."""
        from gallop.policies import sb3_zip

        options = options or sb3_zip.Options()
        options = options._replace(takes_raw=options.takes_raw or self.takes_raw)
        return sb3_zip.read(self.path, env.observation_space, env.action_space, options)


def find_policy(
    what: Path | None = None,
    *,
    env: str | None = None,
    results: Path = Path("results"),
    reset_noise_scale: float | None = None,
    arguments: TaskArguments | None = None,
) -> Named:
    """The policy that a user names.

    Args:
        what: a run's folder (its best policy), a milestone's, or an SB3 zip; None: the newest run.
        env: the task, for a zip that lies in no run's folder and does not carry it in its name.
        results: the folder of all runs.
        reset_noise_scale: instead of the task's or the run's own.
        arguments: keyword arguments and wrappers of the task; see `with_arguments`.

    Raises:
        ExperimentError: if there is no such policy, or its task is not known.
    """
    path = policy_path(what, results)
    task, note = _task(path, env)
    with watching(task.watchdog):
        task = with_reset_noise(with_arguments(task, arguments), reset_noise_scale)
        return _with_time_feature(Named(path, task, note, env is None and _takes_raw(path)))


def with_arguments(task: Task, arguments: TaskArguments | None) -> Task:
    """The task with keyword arguments on top of its own, and with wrappers instead of its own.

    Raises:
        ExperimentError: if such a wrapper cannot be made, or keeps running statistics.
    """
    if arguments is None:
        return task
    wrappers = task.wrappers if arguments.wrappers is None else arguments.wrappers
    changed = replace(task, kwargs={**task.kwargs, **arguments.env_kwargs}, wrappers=wrappers)
    if arguments.wrappers:
        changed.closed()
    return changed


def stands_alone(what: Sequence[Path], env: str | None) -> bool:
    """Whether trust in what is named can mean the code in a zip: it is one zip, and its task does
    not come from a folder, whose own code would be meant."""
    if len(what) != 1 or not what[0].is_file():
        return False
    return env is not None or containing_run(what[0].parent) is None


def with_reset_noise(task: Task, scale: float | None) -> Task:
    """The task with another spread of first states; None leaves it as it is.

    Raises:
        ExperimentError: for a scale that is none.
    """
    if scale is None:
        return task
    if not 0 <= scale < math.inf:
        raise ExperimentError(f"--reset-noise-scale {scale}: a number of at least 0 is needed")
    return replace(task, kwargs={**task.kwargs, "reset_noise_scale": scale})


def policy_path(what: Path | None, results: Path = Path("results")) -> Path:
    """A run's best policy, a milestone's, or the file itself; None: the newest run's.

    Raises:
        RunError: if there is none, or it is not as its run has written it.
    """
    path = _policy_path(what, results)
    manifest.check(path, normalizer_path(path))
    return path


def _policy_path(what: Path | None, results: Path) -> Path:
    if what is None:
        runs = [folder for folder in all_runs(results) if folder.best_model.exists()]
        if not runs:
            raise RunError(f"there is no run with a policy below {results}; gallop run makes one")
        return runs[-1].best_model
    if what.is_dir():
        # A run whose evaluations were never finite has no best policy.
        run = RunDirectory(what)
        candidates = [run.best_model, Milestone(what).model, run.final_model]
        for path in candidates:
            if path.exists():
                return path
        if run.experiment_file.is_file():
            raise RunError(f"{what} has no policy yet: it was not evaluated so far")
        names = " nor ".join(path.name for path in candidates[:2])
        raise RunError(f"{what} is neither a run nor a milestone: it holds neither {names}")
    if not what.exists():
        raise RunError(f"{what}: there is no such file or folder")
    return what


def _task(path: Path, env: str | None) -> tuple[Task, str]:
    """The task that a policy file plays, and what to say about how it was found."""
    if env is not None:
        return Task(env, {}), ""
    folder = containing_run(path.parent)
    if folder is not None:
        return evaluation_task(folder.read_experiment()), ""
    found = task_in_name(path.stem)
    if found is None:
        raise ExperimentError(f"{path} lies in no run's folder: name its task with --env")
    return Task(found, {}), f"{found}, as its name says; --env names another task"


def _takes_raw(path: Path) -> bool:
    """Whether the file is a run's own, and the run says that observations are not normalised.

    Older runs that normalised rewards alone left zips that look as if observations were.
    """
    folder = containing_run(path.parent)
    if folder is None:
        return False
    own = {folder.best_model.name, folder.final_model.name, Milestone(path.parent).model.name}
    return path.name in own and not folder.read_experiment().normalize.observations


def task_in_name(stem: str) -> str | None:
    """The task that a file's name carries, as the Zoo and the hub name their zips.

    >>> task_in_name("ppo-Hopper-v5")
    'Hopper-v5'
    """
    import gymnasium

    for candidate in (stem, re.sub(r"^[A-Za-z0-9]+[-_]", "", stem)):
        if candidate in gymnasium.registry:
            return candidate
    return None


def _with_time_feature(named: Named) -> Named:
    """One observation more than the task gives is the time that is left of an episode."""
    from gallop.policies import sb3_zip

    try:
        shape = sb3_zip.observation_shape(named.path)
    except PolicyFileError:
        return named  # `read` says what is wrong
    env = named.task.closed()
    ours = env.observation_space.shape
    if not shape or len(shape) != 1 or ours != (shape[0] - 1,):
        return named
    limit = env.spec.max_episode_steps if env.spec is not None else None
    wrapper = {TIME_FEATURE: {"n_timesteps": limit or 1000}}
    task = replace(named.task, wrappers=(*named.task.wrappers, wrapper))
    note = (
        f"{shape[0]} observations, one more than the task gives: taken as the time that is left "
        "(--env-kwargs names an argument that makes it another)"
    )
    return named._replace(task=task, note="; ".join(filter(None, (named.note, note))))
