"""See a policy move: in a window, or into a film where there is no display."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from gallop import video
from gallop.display import Display
from gallop.environments import evaluation_env
from gallop.evaluation import stack
from gallop.experiment_file import from_dict
from gallop.learners.learner import Policy
from gallop.run_directory import Milestone, RunDirectory, RunError, all_runs, containing_run
from gallop.settings import Experiment, ExperimentError

if TYPE_CHECKING:
    import gymnasium


def watch(
    what: Path | None = None,
    *,
    env: str | None = None,
    n_episodes: int = 3,
    seed: int = 0,
    output: Path | None = None,
    results: Path = Path("results"),
) -> int:
    """Play a policy for a few episodes, and print their returns.

    Args:
        what: a run's folder, a milestone's, or an SB3 zip; None: the newest run.
        env: the task, for a zip that lies in no run's folder.
        n_episodes: how many.
        seed: of the first episode's start; the next ones count on.
        output: an .mp4 to write instead of opening a window.
        results: the folder of all runs.

    Returns:
        An exit code: 0, or 1 where nothing can be drawn on this machine.

    Raises:
        ExperimentError: if there is no such policy, or it is one of another task.
    """
    if n_episodes < 1:
        raise ExperimentError(f"--episodes {n_episodes}: at least 1 is needed")
    if output is not None and output.suffix != ".mp4":
        raise ExperimentError(f"{output}: films are written as .mp4")
    path = _policy_path(what, results)
    experiment = _experiment_of(path, env)
    if not video.has_display():
        output = output or path.with_name(f"{path.stem}_watch.mp4")
    display = Display()
    if output is not None:
        backend = video.find_backend()
        if backend is not None:
            os.environ["MUJOCO_GL"] = backend.name  # counts only before MuJoCo is imported
        elif video.is_mujoco(experiment.env):
            display.say(f"{video.NO_BACKEND}; to mend it: {video.mend()}")
            return 1
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        software = backend is not None and backend.is_software
        _film(path, experiment, n_episodes, seed, output, software, display)
    else:
        _show(path, experiment, n_episodes, seed, display)
    return 0


def _policy_path(what: Path | None, results: Path) -> Path:
    if what is None:
        runs = [folder for folder in all_runs(results) if folder.best_model.exists()]
        if not runs:
            raise RunError(f"there is no run with a policy below {results}; gallop run makes one")
        return runs[-1].best_model
    if what.is_dir():
        candidates = [RunDirectory(what).best_model, Milestone(what).model]
        for path in candidates:
            if path.exists():
                return path
        names = " nor ".join(path.name for path in candidates)
        raise RunError(f"{what} holds neither {names}")
    if not what.exists():
        raise RunError(f"{what}: there is no such file or folder")
    return what


def _experiment_of(path: Path, env: str | None) -> Experiment:
    """The experiment whose task the policy plays."""
    if env is not None:
        return from_dict({"algo": "ppo", "env": env, "total_timesteps": 10_000_000})
    folder = containing_run(path.parent)
    if folder is None:
        raise ExperimentError(f"{path} lies in no run's folder: name its task with --env")
    return folder.read_experiment()


def _read(path: Path, env: gymnasium.Env[Any, Any]) -> Policy:
    from gallop.learners import policy_file

    return policy_file.read(path, env.observation_space, env.action_space)


def _show(path: Path, experiment: Experiment, n: int, seed: int, display: Display) -> None:
    env = evaluation_env(experiment, render_mode="human")
    policy = _read(path, env)
    display.say(f"{path} on {experiment.env}; Ctrl-C ends")
    for number in range(n):
        for _ in _episode(policy, env, seed + number, display):
            pass
    env.close()


def _film(
    path: Path,
    experiment: Experiment,
    n: int,
    seed: int,
    output: Path,
    software: bool,
    display: Display,
) -> None:
    mujoco = video.is_mujoco(experiment.env)
    env = evaluation_env(experiment, render_mode=None if mujoco else "rgb_array")
    policy = _read(path, env)
    camera = video.Camera(env, software)

    def frames() -> Iterator[NDArray[np.uint8]]:
        for number in track(range(n), "filming", console=display.console):
            for _ in _episode(policy, env, seed + number, display):
                yield camera.frame()

    try:
        video.record(frames(), output, video.fps(env))
    finally:
        camera.close()
        env.close()
    display.say(f"film    {output}")


def _episode(
    policy: Policy, env: gymnasium.Env[Any, Any], seed: int, display: Display
) -> Iterator[None]:
    """Play one episode, yielding at its start and after each timestep."""
    observation, _ = env.reset(seed=seed)
    total, length, ended = 0.0, 0, False
    yield
    while not ended:
        action = policy.act(stack([observation]))[0]
        observation, reward, terminated, truncated, _ = env.step(
            action.item() if action.ndim == 0 else action
        )
        total, length, ended = total + float(reward), length + 1, terminated or truncated
        yield
    display.say(f"seed {seed}: return {total:,.1f} in {length:,} timesteps")
