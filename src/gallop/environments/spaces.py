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


def policy_class_index(observation_space: Space) -> int:
    """Which of SB3's three policy classes takes these observations: 0 MLP, 1 CNN, 2 several inputs.

    As in SB3, images are bytes in three dimensions.
    """
    if type(observation_space).__name__ == "Dict":
        return 2
    is_image = observation_space.dtype == "uint8" and len(observation_space.shape or ()) == 3
    return int(is_image)
