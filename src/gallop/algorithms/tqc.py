"""Truncated quantile critics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gallop.algorithms.hyperparameters import PolicyKwargs
from gallop.algorithms.policy_networks import (
    PolicyNetworks,
    Shapes,
    gaussian_arch,
    has_gaussian_actor,
    n_critics,
    n_quantiles,
)
from gallop.algorithms.sac import SACHyperparameters
from gallop.algorithms.spec import AlgorithmSpec, Cost
from gallop.fields import Int, PositiveInt

N_QUANTILES = 25  # sb3-contrib's default


class TQCPolicyKwargs(PolicyKwargs):
    """Keyword arguments of sb3-contrib's policy classes of TQC."""

    n_quantiles: PositiveInt | None = None
    """Quantiles of the return that each critic estimates. Default: 25."""


class TQCHyperparameters(SACHyperparameters):
    """Truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269), as in sb3-contrib."""

    policy_kwargs: TQCPolicyKwargs = TQCPolicyKwargs()
    """Keyword arguments of the policy's networks."""
    top_quantiles_to_drop_per_net: Annotated[Int, Field(ge=0)] = 2
    """Number of each critic's largest quantiles that the target leaves out."""

    @model_validator(mode="after")
    def _leaves_a_quantile(self) -> TQCHyperparameters:
        n = self.policy_kwargs.n_quantiles or N_QUANTILES
        if self.top_quantiles_to_drop_per_net >= n:
            raise ValueError(
                f"top_quantiles_to_drop_per_net {self.top_quantiles_to_drop_per_net} must be less "
                f"than the number of quantiles, {n} (policy_kwargs.n_quantiles)"
            )
        return self


def _recognises(shapes: Shapes) -> bool:
    return has_gaussian_actor(shapes) and n_quantiles(shapes) > 1


TQC = AlgorithmSpec(
    name="tqc",
    hyperparameters=TQCHyperparameters,
    action_spaces=("Box",),
    sb3_class="sb3_contrib:TQC",
    networks=PolicyNetworks(
        policy_classes=(
            "sb3_contrib.tqc.policies:TQCPolicy",
            "sb3_contrib.tqc.policies:CnnPolicy",
            "sb3_contrib.tqc.policies:MultiInputPolicy",
        ),
        recognises=_recognises,
        net_arch=gaussian_arch,
        arguments=lambda shapes: {
            "n_critics": n_critics(shapes),
            "n_quantiles": n_quantiles(shapes),
        },
        has_sde=True,
    ),
    why_not_native="the native learner does not support TQC",
    # Measured: 103 and 40 SPS with batches of 64 and 256, one thread of a busy AMD EPYC,
    # HalfCheetah-v5.
    sb3_cost=Cost(gradient_step=0.0038, row=7.9e-5, timestep=0.0009),
)
