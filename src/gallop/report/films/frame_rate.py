"""How many frames per second make a film run in real time: one frame per action of the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from gallop.environments.spaces import Env, seconds_per_timestep
from gallop.errors import counted
from gallop.report.films.frames import MOST_FPS, frames_a_second

LARGEST = 100_000  # denominator of a timestep in seconds: 1/60 and 0.0125 are exact


def frame_rate(env: Env, n_timesteps: int = 1) -> tuple[Fraction, str]:
    """Return the frame rate of a film in real time, and a note if the task names another one.

    The duration of a timestep decides; a task that does not tell it has its `render_fps`. The rate
    is a fraction, because a rounded one would let a long film drift from the seconds of its audit.

    Args:
        env: the environment that is filmed.
        n_timesteps: timesteps of the task per action, as `timesteps_per_action` counts them.
    """
    metadata = getattr(env, "metadata", None)
    said, seconds = frames_a_second(metadata), seconds_per_timestep(env)
    if seconds is None:
        return Fraction(said, n_timesteps), ""
    timestep = max(Fraction(seconds).limit_denominator(LARGEST), Fraction(1, MOST_FPS))
    declared = metadata.get("render_fps") if isinstance(metadata, Mapping) else None
    rate = 1 / (timestep * n_timesteps)
    if declared is None or abs(said - 1 / timestep) <= 1:
        return rate, ""
    frames = f"{float(rate):.4g} frame{'' if rate == 1 else 's'} per second"
    reason = f"a timestep lasts {seconds:.3g} s"
    if n_timesteps > 1:
        reason += f" and an action {counted(n_timesteps, 'timestep')}"
    return rate, f"{frames}, because {reason}; the task's render_fps is {declared}"


def timesteps_per_action(make: Callable[[], Env]) -> int:
    """Return how many timesteps of the task its wrappers take for one action.

    Wrappers do not tell, so it is counted in the first action of an environment of its own.

    Args:
        make: makes an environment with its wrappers.
    """
    env = make()
    try:
        env.reset(seed=0)
        env.action_space.seed(0)
        task: Any = env.unwrapped
        step, n = task.step, 0

        def counting(action: Any) -> Any:
            nonlocal n
            n += 1
            return step(action)

        task.step = counting
        env.step(env.action_space.sample())
    finally:
        env.close()
    return max(1, n)
