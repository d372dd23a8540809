"""One environment of a task: how it is made, checked and wrapped.

Importing this module is cheap: Gymnasium, MuJoCo and SB3 are imported where they are used.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gallop.environments.spaces import Env, Space, time_limit
from gallop.environments.task_errors import close, innermost, is_ours, place_of
from gallop.environments.watchdog import Making, inside
from gallop.errors import ExperimentError, TaskError, described, did_you_mean
from gallop.experiments import own_code, packages
from gallop.experiments.settings import Experiment, Physics
from gallop.experiments.task import cut_after, task_spec

Keywords: TypeAlias = Mapping[str, Any]


def make_env(
    task: str,
    *,
    seed: int | None,
    frame_skip: int | None = None,
    reset_noise_scale: float | None = None,
    render_mode: str | None = None,
    wrappers: Sequence[Mapping[str, Keywords]] = (),
    own_rewards: bool = False,
    env_kwargs: Keywords | None = None,
    seed_resets: bool = False,
    **task_kwargs: Any,
) -> Env:
    """Make one environment of a Gymnasium task, with its random streams seeded.

    Its `step` accepts actions as policies return them: a Discrete action as an index from 0, and
    floats for integer actions, which it rounds (see `gallop.environments.actions`).

    Args:
        task: Gymnasium's id of the task, such as "HalfCheetah-v5".
        seed: seed of the environment and of its action space; None leaves both unseeded.
        frame_skip: physics steps per timestep; None: the task's own (HalfCheetah: 5).
        reset_noise_scale: spread of the initial states; None: the task's own (HalfCheetah: 0.1).
        render_mode: as in Gymnasium. With it, the camera of a MuJoCo task follows the body.
        wrappers: one mapping {"package.module:Class": keyword arguments} per wrapper; the first is
            applied first.
        own_rewards: leave out wrappers that change nothing but rewards, so that returns are the
            task's own.
        env_kwargs: keyword arguments of the task, whatever their names are.
        seed_resets: give each later reset a seed, too, from the stream that the first one begins.
        **task_kwargs: the same, for those that are not named like an argument of this function.

    Returns:
        A `gymnasium.Env`. Without a seed, call `reset` before the first `step`.

    Raises:
        ExperimentError: for a keyword that the task does not have (the message lists those it has),
            and for a wrapper that cannot be imported.

    Example:
        Gallop's random streams and Gymnasium's interface::

            import gallop

            env = gallop.make_env("HalfCheetah-v5", seed=0, frame_skip=5)
            observation, info = env.reset()
            observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
            env.close()
    """
    from gallop.environments.actions import for_policies
    from gallop.environments.rewards import changes_rewards_alone
    from gallop.environments.wrappers import Marked, SeededResets

    chosen = {"frame_skip": frame_skip, "reset_noise_scale": reset_noise_scale}
    kwargs = {name: value for name, value in chosen.items() if value is not None} | task_kwargs
    env = _unwrapped(task, render_mode, kwargs | dict(env_kwargs or {}))
    with _closing_if_it_fails(env, task):
        for path, wrapper_kwargs in _each(wrappers):
            outer = _wrapped(env, task, path, wrapper_kwargs)
            if not (own_rewards and changes_rewards_alone(outer, env)):
                env = outer
        if seed_resets:
            env = SeededResets(env)
        env = for_policies(Marked(env, task))
        if seed is not None:
            env.reset(seed=seed)
            env.action_space.seed(seed)
    return env


def _unwrapped(task: str, render_mode: str | None, chosen: Keywords) -> Env:
    """Make the task without the user's wrappers. It takes its own actions, and is not seeded."""
    import gymnasium

    from gallop.environments.camera import follow
    from gallop.environments.wrappers import StopAtUnstablePhysics

    with inside(Making(task), "importing it"):
        known = task_keywords(task)
    for name in chosen:
        if name == "render_mode":
            raise ExperimentError(
                "render_mode: Gallop sets it itself, for films and windows", "env_kwargs"
            )
        if known and name not in known:
            raise ExperimentError(
                f"{task} has no keyword argument {name!r}; it has {', '.join(known)}",
                "env_kwargs",
            )
    kwargs = copy.deepcopy(dict(chosen))  # a task may modify its arguments
    if render_mode is not None:  # a custom task may lack this keyword
        kwargs["render_mode"] = render_mode
    # In the specification, no name of an argument can be taken for one of gymnasium.make's own.
    spec, limit = copy.copy(task_spec(task)), kwargs.get("max_episode_steps")
    if "max_episode_steps" not in _own_keywords(task):
        kwargs.pop("max_episode_steps", None)  # Gymnasium's, for its wrapper TimeLimit
    spec.kwargs = {**spec.kwargs, **kwargs}
    try:
        with inside(Making(task), "making it"):
            env: Env = gymnasium.make(spec, limit, disable_env_checker=True)
    except (Exception, SystemExit) as error:  # it may be custom code
        if is_ours(error):
            raise
        raise ExperimentError(
            f"{task} cannot be made with {dict(chosen)}: {_described(error)}"
            f"{_files_here(chosen)}{packages.about_opengl(error)}{packages.about_versions(error)}",
            "env_kwargs",
        ) from error
    if hasattr(env.unwrapped, "mujoco_renderer"):
        env = StopAtUnstablePhysics(env)
        if render_mode is not None:
            follow(env)
    return env


def _files_here(kwargs: Keywords) -> str:
    """A hint for files of the current folder: Gymnasium looks for `x.xml` among its own models."""
    names = [v for v in kwargs.values() if isinstance(v, str) and Path(v).is_file()]
    right = [f"./{name}" for name in names if not name.startswith((".", "/", "~"))]
    return f"; for the file in this folder, write {' and '.join(right)}" if right else ""


@contextlib.contextmanager
def _closing_if_it_fails(env: Env, task: str) -> Iterator[None]:
    """Close the environment if the body raises."""
    try:
        yield
    except BaseException:
        with inside(Making(task), "close()"):
            close(env)
        raise


def _described(error: BaseException) -> str:
    """Describe an exception of custom code, with the file and line that raised it."""
    place = place_of(error) or ("" if str(error) else innermost(error))
    return described(error) + (f" ({place})" if place else "")


def _each(wrappers: Sequence[Mapping[str, Keywords]]) -> Iterator[tuple[str, Keywords]]:
    """Import paths and keyword arguments of the wrappers, the first applied first."""
    for wrapper in wrappers:
        yield from wrapper.items()


def _wrapped(env: Env, task: str, path: str, kwargs: Keywords) -> Env:
    with inside(Making(task), f"wrapping it in {path}"):
        wrap = _import(path)
        try:
            wrapped = wrap(env, **copy.deepcopy(dict(kwargs)))
        except (Exception, SystemExit) as error:  # it is custom code
            if is_ours(error):
                raise
            from gallop.environments.rewards import refuse_statistics

            if isinstance(wrap, type):  # wrappers of vector environments fail on a single one
                refuse_statistics(wrap)
            raise ExperimentError(
                f"{path} cannot wrap {task}: {_described(error)}", "wrappers"
            ) from None
    import gymnasium

    if not isinstance(wrapped, gymnasium.Env):
        raise ExperimentError(
            f"{path} is not a wrapper: it returns a {type(wrapped).__name__}, expected a "
            "gymnasium.Env",
            "wrappers",
        )
    return wrapped


class RewardWrappers(NamedTuple):
    """Wrappers of a task that change its rewards, by import path."""

    left_out: tuple[str, ...] = ()
    """Those that change nothing else: used in training, left out of evaluations."""
    kept: tuple[str, ...] = ()
    """Those that change more than rewards: used in evaluations, too, which report their rewards."""

    @property
    def note(self) -> str:
        """What evaluations report as returns; empty if no wrapper changes rewards.

        >>> RewardWrappers(left_out=("robots:Scaled",)).note
        "the task's own in evaluations; robots:Scaled changes them in training"
        """
        parts = []
        if self.left_out:
            verb = "changes" if len(self.left_out) == 1 else "change"
            names = ", ".join(self.left_out)
            parts.append(f"the task's own in evaluations; {names} {verb} them in training")
        if self.kept:
            parts.append(f"changed by {', '.join(self.kept)}, in evaluations too")
        return "; ".join(parts)


@dataclass(frozen=True)
class Task:
    """Everything that defines an environment for evaluation, except its seed."""

    env: str
    """Gymnasium's id of the task."""
    kwargs: Keywords
    """Keyword arguments of the task."""
    wrappers: tuple[Mapping[str, Keywords], ...] = ()
    """Import path -> keyword arguments, one mapping per wrapper; the first is applied first."""
    watchdog: float = 300.0
    """Seconds that a call into the task may take; 0: no limit."""
    max_episode_timesteps: int | None = None
    """Timesteps after which an episode is cut; None: derived from the task's time limit."""
    physics: Physics | None = None
    """Changes of the simulator; None leaves it as it is."""

    def make(self, render_mode: str | None = None) -> Env:
        """Make one environment, unseeded: pass a seed to `reset`.

        Raises:
            ExperimentError: if it cannot be made, or a wrapper keeps running statistics.
        """
        from gallop.environments.rewards import refuse_statistics
        from gallop.environments.simulator import with_physics

        env = make_env(
            self.env,
            seed=None,
            render_mode=render_mode,
            wrappers=self.wrappers,
            own_rewards=True,
            env_kwargs=self.kwargs,
        )
        with _closing_if_it_fails(env, self.env):
            refuse_statistics(env)
            return env if self.physics is None else with_physics(env, self.env, self.physics)

    def closed(self) -> Env:
        """Make one environment and close it: for its spaces and other attributes.

        Raises:
            ExperimentError: as `make` does.
        """
        env = self.make()
        close(env)
        return env

    def cut_after(self, env: Env) -> int:
        """Timesteps after which an episode is cut.

        Args:
            env: an environment of this task, for its time limit.
        """
        return self.max_episode_timesteps or cut_after(time_limit(env))

    def reward_wrappers(self) -> RewardWrappers:
        """Find the wrappers that change rewards, from their classes and from a few timesteps.

        Raises:
            ExperimentError: if a wrapper cannot be made.
        """
        if not self.wrappers:
            return RewardWrappers()
        from gallop.environments.rewards import compared

        wraps = [
            (path, partial(_wrapped, task=self.env, path=path, kwargs=kwargs))
            for path, kwargs in _each(self.wrappers)
        ]
        env = _unwrapped(self.env, None, self.kwargs)
        return RewardWrappers(*compared(self.env, env, wraps))


def evaluation_task(experiment: Experiment) -> Task:
    """Return the task as every evaluation of this experiment uses it."""
    return Task(
        experiment.env,
        experiment.evaluation_env_kwargs,
        experiment.wrappers,
        experiment.watchdog,
        experiment.evaluation.max_episode_timesteps,
    )


def evaluation_env(experiment: Experiment, render_mode: str | None = None) -> Env:
    """Make one environment as every evaluation of this experiment uses it, unseeded."""
    return evaluation_task(experiment).make(render_mode)


class TriedOut(NamedTuple):
    """What `try_out` found out about a task."""

    observation_space: Space
    """As in training."""
    action_space: Space
    """As policies see it."""
    time_limit: int | None
    """Timesteps of an episode; None: no limit is known."""


def try_out(experiment: Experiment) -> TriedOut:
    """Step the task once as in training and once as in evaluation.

    Returns:
        Its spaces and time limit.

    Raises:
        ExperimentError: if the task does not work with the experiment's keyword arguments, or a
            wrapper keeps running statistics.
    """
    from gallop.environments.guard import Guard
    from gallop.environments.rewards import refuse_statistics

    for kwargs in (experiment.env_kwargs, experiment.evaluation_env_kwargs):
        made = make_env(experiment.env, seed=None, wrappers=experiment.wrappers, env_kwargs=kwargs)
        env = Guard(made, experiment.env)
        try:
            refuse_statistics(made)
            env.reset(seed=0)
            env.action_space.seed(0)
            env.step(env.action_space.sample())
        except TaskError as error:
            place = f" ({error.place})" if error.place else ""
            raise ExperimentError(
                f"{experiment.env} does not work with {kwargs}: {error.problem}{place}",
                "env_kwargs",
            ) from error
        finally:
            env.close()
    return TriedOut(env.observation_space, env.action_space, time_limit(env))


@cache
def task_keywords(task: str) -> tuple[str, ...]:
    """Keyword arguments of a task, including Gymnasium's own; empty if they are unknown, or if it
    takes any.
    """
    own = _own_keywords(task)
    return tuple(dict.fromkeys([*own, "max_episode_steps"])) if own != ANY else ()


ANY = ("",)
"""The keyword arguments of a task that takes any, or whose arguments are unknown."""


@cache
def _own_keywords(task: str) -> tuple[str, ...]:
    """Keyword arguments of a task's class or function, including its parents'; else `ANY`."""
    entry_point = task_spec(task).entry_point
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        try:
            entry_point = getattr(own_code.import_module(module), name)
        except (Exception, SystemExit) as error:  # it may be custom code
            hint = packages.about_mujoco() if "mujoco" in str(error) else ""
            raise ExperimentError(
                f"{task} cannot be imported: {_described(error)}{hint}", "env"
            ) from None
    if entry_point is None:
        return ANY
    inits: list[Callable[..., object]] = [entry_point]
    if inspect.isclass(entry_point):
        inits = [vars(c)["__init__"] for c in entry_point.__mro__ if "__init__" in vars(c)]
    found: dict[str, None] = {}
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in parameters if p.kind in named]
        if found:  # Gymnasium's MujocoEnv gets these two from its children
            names = [name for name in names if name not in ("model_path", "observation_space")]
        found |= dict.fromkeys(names)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # this class passes nothing on to its parents
        # Those of built-in classes have no module.
        if not getattr(init, "__module__", "gymnasium.").startswith(("gymnasium.", "gallop.")):
            return ANY  # it may use them itself
    else:
        return ANY
    return tuple(name for name in found if name not in ("self", "render_mode"))


def _import(path: str) -> Callable[..., Env]:
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        imported = own_code.import_module(module)
    except (Exception, SystemExit) as error:  # it is custom code
        if right := own_code.module_of_file(path[: -len(name) - 1]):
            raise ExperimentError(f"{path}: leave out .py: {right}:{name}", "wrappers") from None
        raise ExperimentError(
            f"{path} cannot be imported: {_described(error)}", "wrappers"
        ) from None
    try:
        found: Callable[..., Env] = getattr(imported, name)
    except (Exception, SystemExit) as error:
        known = [key for key, value in vars(imported).items() if callable(value)]
        hint = did_you_mean(name, known)
        raise ExperimentError(
            f"{path} cannot be imported: {_described(error)}{'; ' * bool(hint)}{hint}", "wrappers"
        ) from None
    if not callable(found):
        raise ExperimentError(f"{path} is not a wrapper: it is not callable", "wrappers")
    return found
