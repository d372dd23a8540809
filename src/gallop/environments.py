"""Environments: one by one, stepping together for training, and the normalisation of observations.

Importing this module is cheap: Gymnasium, MuJoCo and SB3 are imported where they are used.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gallop.settings import Experiment, ExperimentError, task_spec

if TYPE_CHECKING:
    import gymnasium
    from stable_baselines3.common.vec_env import VecEnv

Observations = Any
"""A batch [n, ...] of observations, or a dictionary of such batches (Dict spaces)."""

# mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC: MuJoCo has found NaN or infinity and has silently
# put the simulator back to its first state.
_UNSTABLE = slice(3, 6)


def make_env(
    task: str,
    *,
    seed: int | None,
    frame_skip: int | None = None,
    reset_noise_scale: float | None = None,
    render_mode: str | None = None,
    wrappers: Sequence[Mapping[str, Mapping[str, Any]]] = (),
    **task_kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """One environment of a Gymnasium task, its random streams seeded.

    Args:
        task: Gymnasium's id, such as "HalfCheetah-v5".
        seed: of the environment and of its action space; None leaves both unseeded.
        frame_skip: physics steps a timestep; None means the task's own (HalfCheetah: 5).
        reset_noise_scale: spread of the first states; None means the task's own (HalfCheetah: 0.1).
        render_mode: as in Gymnasium; a MuJoCo task is then seen by a camera that follows it.
        wrappers: {"package.module:Class": keyword arguments} each, the first applied first.
        task_kwargs: any other keyword argument of the task.

    Raises:
        ExperimentError: for a keyword that the task does not have, with those it has, and for a
            wrapper that cannot be imported.
    """
    import gymnasium

    chosen = {"frame_skip": frame_skip, "reset_noise_scale": reset_noise_scale}
    kwargs = {name: value for name, value in chosen.items() if value is not None} | task_kwargs
    known = _task_keywords(task)
    for name in kwargs:
        if known and name not in known:
            raise ExperimentError(
                f"{task} has no keyword {name!r}; it has {', '.join(known)}", "env_kwargs"
            )
    if render_mode is not None:  # a task of one's own need not have that keyword
        kwargs["render_mode"] = render_mode
    try:
        env = gymnasium.make(task, disable_env_checker=True, **kwargs)
    except (TypeError, ValueError, AssertionError, OSError, gymnasium.error.Error) as error:
        raise ExperimentError(
            f"{task} cannot be made with {kwargs}: {error}", "env_kwargs"
        ) from None
    if hasattr(env.unwrapped, "mujoco_renderer"):
        env = _stop_at_unstable_physics(env)
        if render_mode is not None:
            _follow(env)
    for wrapper in wrappers:
        for path, wrapper_kwargs in wrapper.items():
            wrap = _import(path)
            try:
                env = wrap(env, **wrapper_kwargs)
            except Exception as error:  # it is somebody's code
                raise ExperimentError(f"{path} cannot wrap {task}: {error}", "wrappers") from None
    if seed is not None:
        env.reset(seed=seed)
        env.action_space.seed(seed)
    return env


@dataclass(frozen=True)
class Task:
    """All that makes an environment, except its seed."""

    env: str
    kwargs: Mapping[str, Any]
    wrappers: tuple[Mapping[str, Mapping[str, Any]], ...] = ()

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """One environment; seed it by `reset`."""
        return make_env(
            self.env, seed=None, render_mode=render_mode, wrappers=self.wrappers, **self.kwargs
        )


def evaluation_task(experiment: Experiment) -> Task:
    """The task as every evaluation of this experiment uses it."""
    return Task(experiment.env, experiment.evaluation_env_kwargs, experiment.wrappers)


def evaluation_env(
    experiment: Experiment, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """One environment as every evaluation of this experiment uses it; seed it by `reset`."""
    return evaluation_task(experiment).make(render_mode)


def try_out(experiment: Experiment) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Step the task once as in training and as in evaluation; its observation and action space.

    Raises:
        ExperimentError: if the task does not work with the experiment's keyword arguments.
    """
    for kwargs in (experiment.env_kwargs, experiment.evaluation_env_kwargs):
        env = make_env(experiment.env, seed=None, wrappers=experiment.wrappers, **kwargs)
        try:
            env.reset(seed=0)
            env.action_space.seed(0)
            env.step(env.action_space.sample())
        except Exception as error:  # it may be anybody's code
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ExperimentError(
                f"{experiment.env} does not work with {kwargs}: {reason}", "env_kwargs"
            ) from None
        finally:
            env.close()
    return env.observation_space, env.action_space


@cache
def _task_keywords(task: str) -> tuple[str, ...]:
    """Keyword arguments of a task's class, its parents' included; empty where they are unknown."""
    entry_point = task_spec(task).entry_point
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        try:
            entry_point = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ExperimentError(f"{task} cannot be imported: {error}", "env") from None
    if entry_point is None:
        return ()
    inits: list[Any] = [entry_point]
    if inspect.isclass(entry_point):
        inits = [vars(c)["__init__"] for c in entry_point.__mro__ if "__init__" in vars(c)]
    found: dict[str, None] = {}
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        found |= {p.name: None for p in parameters if p.kind in named}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # this class passes nothing on to its parents
    gymnasiums_own = {"max_episode_steps": None}  # of gymnasium.make
    hidden = {"self", "render_mode", "model_path", "observation_space"}
    return tuple(name for name in found | gymnasiums_own if name not in hidden)


def _import(path: str) -> Callable[..., gymnasium.Env[Any, Any]]:
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found: Callable[..., gymnasium.Env[Any, Any]] = getattr(
            importlib.import_module(module), name
        )
    except Exception as error:  # it is somebody's code
        raise ExperimentError(f"{path} cannot be imported: {error}", "wrappers") from None
    if not callable(found):
        raise ExperimentError(f"{path} is no wrapper: it cannot be called", "wrappers")
    return found


def time_feature(env: gymnasium.Env[Any, Any], n_timesteps: int = 1000) -> Any:
    """A wrapper: one more observation, 1 − t / n_timesteps, the time that is left of an episode.

    Older policies of the Zoo were trained with it: 18 inputs on Walker2d, 112 on Ant.
    Source: Pardo et al. 2018 (arXiv:1712.00378); the Zoo's TimeFeatureWrapper.
    """
    import gymnasium

    inner: Any = env.observation_space
    low, high = (
        np.append(bound, end).astype(inner.dtype)
        for bound, end in ((inner.low, 0.0), (inner.high, 1.0))
    )
    space = gymnasium.spaces.Box(low, high, dtype=inner.dtype)

    class TimeFeature(gymnasium.Wrapper[Any, Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(env)
            self.observation_space = space
            self._timestep = 0

        def reset(self, **kwargs: Any) -> Any:
            observation, info = self.env.reset(**kwargs)
            self._timestep = 0
            return self._with_time(observation), info

        def step(self, action: Any) -> Any:
            observation, *rest = self.env.step(action)
            self._timestep += 1
            return self._with_time(observation), *rest

        def _with_time(self, observation: Any) -> Any:
            return np.append(observation, 1 - self._timestep / n_timesteps).astype(space.dtype)

    return TimeFeature()


def _stop_at_unstable_physics(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Truncate the episode in which MuJoCo's physics blows up, and say so in `info`."""
    import gymnasium
    import mujoco

    simulator: Any = env.unwrapped

    class StopAtUnstablePhysics(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = self.env.step(action)
            if simulator.data.warning.number[_UNSTABLE].any():
                truncated, info["unstable_physics"] = True, True
            return observation, reward, terminated, truncated, info

    mujoco.set_mju_user_warning(lambda message: None)  # else it writes MUJOCO_LOG.TXT where we are
    return StopAtUnstablePhysics(env)


def _follow(env: gymnasium.Env[Any, Any]) -> None:
    """Point both of Gymnasium's cameras (film, window) at the body that the task's own tracks."""
    import mujoco

    simulator: Any = env.unwrapped
    renderer, model = simulator.mujoco_renderer, simulator.model
    camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera
        renderer.default_cam_config = {
            **(renderer.default_cam_config or {}),
            "type": int(mujoco.mjtCamera.mjCAMERA_TRACKING),
            "trackbodyid": int(model.cam_bodyid[camera]),
        }


# --- stepping together, for training -------------------------------------------------------------


def training_environments(experiment: Experiment) -> VecEnv:
    """The experiment's `n_envs` environments, as SB3 wants them, in this process or in workers.

    They live as long as the run. `rebuild` makes the simulators inside them anew, which is what
    each segment begins with; worker processes, slow to start, stay.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    make = partial(
        make_env,
        experiment.env,
        seed=None,
        wrappers=experiment.wrappers,
        **experiment.env_kwargs,
    )
    makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [
        partial(_rebuildable, make) for _ in range(experiment.n_envs)
    ]
    return SubprocVecEnv(makers) if experiment.vec_env == "subproc" else DummyVecEnv(makers)


def rebuild(environments: VecEnv) -> None:
    """Make every simulator anew, so that nothing of a former segment is left inside."""
    environments.env_method("rebuild")


def _rebuildable(make: Callable[[], gymnasium.Env[Any, Any]]) -> gymnasium.Env[Any, Any]:
    import multiprocessing
    import signal

    import gymnasium
    from stable_baselines3.common.monitor import Monitor

    class Rebuildable(gymnasium.Wrapper[Any, Any, Any, Any]):
        def rebuild(self) -> None:
            self.env.close()
            self.env = Monitor(make())

    if multiprocessing.parent_process() is not None:
        # Ctrl-C reaches the whole process group; the parent alone decides when workers end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Rebuildable(Monitor(make()))


# --- normalisation -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalizer:
    """Statistics of observations at one moment of training: what a policy file needs beside it.

    Same arithmetic as SB3's VecNormalize: clip((x − mean) / sqrt(variance + epsilon)).
    Dict spaces have one entry a key; Box spaces have the one key "".
    """

    mean: Mapping[str, NDArray[np.float64]]
    variance: Mapping[str, NDArray[np.float64]]
    count: float
    clip: float
    epsilon: float = 1e-8

    def __call__(self, observations: Observations) -> Observations:
        """Normalise a batch of raw observations; float32, as SB3's networks take them."""
        if isinstance(observations, Mapping):
            return {key: self._normalise(key, batch) for key, batch in observations.items()}
        return self._normalise("", observations)

    def _normalise(self, key: str, batch: NDArray[Any]) -> NDArray[Any]:
        if key not in self.mean:
            return batch
        scaled = (batch - self.mean[key]) / np.sqrt(self.variance[key] + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write plain arrays, no pickle."""
        arrays = {f"mean/{key}": value for key, value in self.mean.items()}
        arrays |= {f"variance/{key}": value for key, value in self.variance.items()}
        scalars = {"count": self.count, "clip": self.clip, "epsilon": self.epsilon}
        np.savez(path, allow_pickle=False, **arrays, **{k: np.array(v) for k, v in scalars.items()})

    @classmethod
    def load(cls, path: Path) -> Normalizer:
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is something else.
        """
        with np.load(path, allow_pickle=False) as file:
            try:
                return cls(
                    mean={k.partition("/")[2]: file[k] for k in file if k.startswith("mean/")},
                    variance={
                        k.partition("/")[2]: file[k] for k in file if k.startswith("variance/")
                    },
                    count=float(file["count"]),
                    clip=float(file["clip"]),
                    epsilon=float(file["epsilon"]),
                )
            except KeyError as error:
                raise ValueError(f"{path}: is no normaliser: {error} is missing") from None
