"""Gymnasium's environments and spaces as types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import gymnasium

# One of each, as the task gives and takes it: an array, a number, or a dictionary of arrays.
Observation: TypeAlias = Any
Action: TypeAlias = Any

Env: TypeAlias = "gymnasium.Env[Observation, Action]"
Space: TypeAlias = "gymnasium.Space[Any]"


def time_limit(env: Env) -> int | None:
    """Timesteps after which an episode is truncated, as far as the task tells: by Gymnasium's
    specification, or by an attribute of a usual name. None where nothing is known."""
    if env.spec is not None and env.spec.max_episode_steps:
        return int(env.spec.max_episode_steps)
    for name in ("max_episode_steps", "_max_episode_steps", "max_steps", "_max_steps"):
        try:
            value = getattr(env.unwrapped, name, None)
        except Exception:  # a property may be anybody's code
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def policy_class_index(observation_space: Space) -> int:
    """Which of SB3's three policy classes takes these observations: 0 MLP, 1 CNN, 2 several inputs.

    As in SB3, images are bytes in three dimensions.
    """
    if type(observation_space).__name__ == "Dict":
        return 2
    is_image = observation_space.dtype == "uint8" and len(observation_space.shape or ()) == 3
    return int(is_image)
