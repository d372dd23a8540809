"""Types of Gymnasium's environments and spaces, and some facts about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import gymnasium

# A single observation or action of a task: an array, a number, or a dictionary of arrays.
Observation: TypeAlias = Any
Action: TypeAlias = Any

Env: TypeAlias = "gymnasium.Env[Observation, Action]"
Space: TypeAlias = "gymnasium.Space[Any]"


def time_limit(env: Env) -> int | None:
    """Timesteps after which an episode is truncated, if the task tells.

    It is read from Gymnasium's specification, else from an attribute with one of the usual names.
    None: no limit is known.
    """
    if env.spec is not None and env.spec.max_episode_steps:
        return int(env.spec.max_episode_steps)
    for name in ("max_episode_steps", "_max_episode_steps", "max_steps", "_max_steps"):
        try:
            value = getattr(env.unwrapped, name, None)
        except Exception:  # a property may run custom code
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def seconds_per_timestep(env: Env) -> float | None:
    """Simulated seconds of a timestep, if the task tells: as `dt`, as Gymnasium's MuJoCo tasks do,
    or as `control_timestep()`, as dm_control's do."""
    for holder in (env.unwrapped, getattr(env.unwrapped, "_env", None)):
        for name in ("dt", "control_timestep"):
            try:
                value = getattr(holder, name, None)
                value = value() if callable(value) else value
            except Exception:  # it may run custom code
                continue
            if isinstance(value, float | int) and 0 < value < 10:
                return float(value)
    return None


def is_unit_box(space: Space) -> bool:
    """Whether scaling actions from ±1 to the bounds changes nothing: they are ±1, or no Box."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    return low is None or high is None or bool((low == -1).all() and (high == 1).all())


def policy_class_index(observation_space: Space) -> int:
    """Index of the SB3 policy class for these observations: 0 MLP, 1 CNN, 2 several inputs.

    As in SB3, an image is a three-dimensional array of bytes.

    >>> from gymnasium import spaces
    >>> policy_class_index(spaces.Box(-1, 1, (17,)))
    0
    >>> policy_class_index(spaces.Box(0, 255, (96, 96, 3), "uint8"))
    1
    """
    if type(observation_space).__name__ == "Dict":
        return 2
    is_image = observation_space.dtype == "uint8" and len(observation_space.shape or ()) == 3
    return int(is_image)
