"""Tasks by id, from Gymnasium's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gallop.errors import ExperimentError, described, nearest
from gallop.experiments import own_code

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

UNLIMITED_EPISODE_TIMESTEPS = 1_000  # assumed for tasks without a time limit
LEAST_CUT = 10_000  # timesteps: evaluations cut no episode earlier


def cut_after(time_limit: int | None) -> int:
    """Timesteps after which an evaluation cuts an episode: ten times the task's own limit.

    >>> cut_after(None), cut_after(1_000), cut_after(50_000)
    (10000, 10000, 500000)
    """
    return max(LEAST_CUT, 10 * (time_limit or 0))


def task_spec(env: str) -> EnvSpec:
    """Gymnasium's specification of a task. If the id names a module, it is imported first.

    Raises:
        ExperimentError: if the task is not registered, with the nearest names.
    """
    import gymnasium

    module, _, name = env.rpartition(":")
    if module:
        try:
            own_code.import_module(module)
        except (Exception, SystemExit) as error:  # custom code may raise anything
            raise ExperimentError(
                f"{env!r}: {module!r} cannot be imported: {described(error)}", "env"
            ) from None
    try:
        return gymnasium.spec(name)
    except (gymnasium.error.Error, ValueError):
        known = [key for key in gymnasium.registry if not key.startswith(("GymV", "phys2d"))]
        hint = nearest(name, known)
        hint = hint if hint.startswith("did") else "`module:Name-v0` imports a custom task"
        raise ExperimentError(f"{env!r} is not registered in Gymnasium; {hint}", "env") from None
