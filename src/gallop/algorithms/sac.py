"""Soft actor-critic."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
)

from gallop.algorithms.hyperparameters import OffPolicyHyperparameters
from gallop.fields import Int, PositiveInt


def _entropy_coefficient(value: Any) -> float | str:
    if isinstance(value, str) and value.startswith("auto"):
        start = value.removeprefix("auto").removeprefix("_") or "1"
        try:
            if float(start) > 0:
                return value
        except ValueError:
            pass
    else:
        try:
            if not isinstance(value, bool) and 0 <= float(value) < math.inf:
                return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ValueError("a number of at least 0, auto, or auto_NUMBER is needed")


def _target_entropy(value: Any) -> float | str:
    if value == "auto":
        return "auto"
    try:
        if not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError("a number or auto is needed")


class SACHyperparameters(OffPolicyHyperparameters):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), as in SB3."""

    ent_coef: Annotated[float | str, BeforeValidator(_entropy_coefficient)] = "auto"
    """Entropy coefficient: a number, auto (learnt), or auto_X (learnt from X on)."""
    target_entropy: Annotated[float | str, BeforeValidator(_target_entropy)] = "auto"
    """Entropy that auto aims at; auto: minus the number of actions."""
    target_update_interval: PositiveInt = 1
    """Gradient steps between two updates of the target networks."""
    use_sde: bool = False
    """Generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between two noise matrices; -1: one a rollout."""
    use_sde_at_warmup: bool = False
    """gSDE instead of random actions before learning starts."""
