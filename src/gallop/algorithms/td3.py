"""Twin delayed DDPG."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from gallop.algorithms.hyperparameters import OffPolicyHyperparameters
from gallop.fields import Float, PositiveInt, Schedule


class TD3Hyperparameters(OffPolicyHyperparameters):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), as in SB3, with noise."""

    learning_rate: Schedule = 1e-3
    """Adam's step size, constant or lin_X."""
    noise_type: Literal["none", "normal", "ornstein-uhlenbeck"] = "normal"
    """Noise added to actions while training (SB3's default, none, never explores)."""
    policy_delay: PositiveInt = 2
    """Gradient steps of the critics for one of the actor."""
    target_policy_noise: Annotated[Float, Field(ge=0)] = 0.2
    """Standard deviation of the target policy's smoothing noise."""
    target_noise_clip: Annotated[Float, Field(ge=0)] = 0.5
    """Bound of that noise."""
