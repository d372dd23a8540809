"""Soft actor-critic."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator

from gallop.algorithms.hyperparameters import TargetNetworkHyperparameters
from gallop.algorithms.policy_networks import (
    PolicyNetworks,
    Shapes,
    gaussian_arch,
    has_gaussian_actor,
    has_target_critics,
    n_critics,
    n_quantiles,
)
from gallop.algorithms.spec import AlgorithmSpec, Cost
from gallop.fields import Int, PositiveInt, Shown


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
    raise ValueError("must be a number of at least 0, auto, or auto_NUMBER")


def _target_entropy(value: Any) -> float | str:
    if value == "auto":
        return "auto"
    try:
        if not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError("must be a number or auto")


EntropyCoefficient = Annotated[
    float | str,
    BeforeValidator(_entropy_coefficient),
    Shown(metavar="X|auto|auto_X", kind="number of at least 0, auto, or auto_NUMBER"),
]
TargetEntropy = Annotated[
    float | str,
    BeforeValidator(_target_entropy),
    Shown(metavar="X|auto", kind="number or auto"),
]


class SACHyperparameters(TargetNetworkHyperparameters):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), as in SB3."""

    ent_coef: EntropyCoefficient = "auto"
    """Entropy coefficient: a number, auto (learnt), or auto_X (learnt, with initial value X)."""
    target_entropy: TargetEntropy = "auto"
    """Target of a learnt entropy coefficient; auto: minus the number of action dimensions."""
    target_update_interval: PositiveInt = 1
    """Gradient steps between updates of the target networks."""
    use_sde: bool = False
    """Use generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between new noise matrices; -1: only at the start of a rollout."""
    use_sde_at_warmup: bool = False
    """Use gSDE instead of random actions before learning starts."""


def _recognises(shapes: Shapes) -> bool:
    return has_gaussian_actor(shapes) and has_target_critics(shapes) and n_quantiles(shapes) == 1


SAC = AlgorithmSpec(
    name="sac",
    hyperparameters=SACHyperparameters,
    action_spaces=("Box",),
    sb3_class="stable_baselines3:SAC",
    networks=PolicyNetworks(
        policy_classes=(
            "stable_baselines3.sac.policies:SACPolicy",
            "stable_baselines3.sac.policies:CnnPolicy",
            "stable_baselines3.sac.policies:MultiInputPolicy",
        ),
        recognises=_recognises,
        net_arch=gaussian_arch,
        arguments=lambda shapes: {"n_critics": n_critics(shapes)},
        has_sde=True,
    ),
    native_class="gallop.learners.native_sac:NativeSAC",
    # Batch 128, 76 to 103 SPS on one core of an AMD EPYC: benchmarks/sps_against_sb3.csv.
    sb3_cost=Cost(gradient_step=0.0062, row=3.2e-5, timestep=0.0009),
    # benchmarks/native_against_peers.csv, the same machine.
    native_cost=Cost(gradient_step=0.0, row=1.2e-5, timestep=0.00025),
)
