"""Gymnasium's environments and spaces as types. What is in them is the task's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import gymnasium

Env: TypeAlias = "gymnasium.Env[Any, Any]"
Space: TypeAlias = "gymnasium.Space[Any]"


def place_of_policy_class(observation_space: Space) -> int:
    """Which of SB3's three policy classes takes these observations: 0 MLP, 1 CNN, 2 several inputs.

    As in SB3, images are bytes in three dimensions.
    """
    if type(observation_space).__name__ == "Dict":
        return 2
    is_image = observation_space.dtype == "uint8" and len(observation_space.shape or ()) == 3
    return int(is_image)
