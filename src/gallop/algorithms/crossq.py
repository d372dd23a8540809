"""CrossQ: soft actor-critic with batch normalisation instead of target networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gallop.algorithms.hyperparameters import OffPolicyHyperparameters, PolicyKwargs
from gallop.algorithms.policy_networks import (
    PolicyNetworks,
    Shapes,
    gaussian_arch,
    has_gaussian_actor,
    has_target_critics,
    n_critics,
)
from gallop.algorithms.sac import EntropyCoefficient, TargetEntropy
from gallop.algorithms.spec import OFF_POLICY_NETWORKS, AlgorithmSpec, Cost
from gallop.fields import Float, Int, PositiveInt, Schedule, Shown


class CrossQPolicyKwargs(PolicyKwargs):
    """Keyword arguments of sb3-contrib's policy class of CrossQ."""

    batch_norm: bool | None = None
    """Use batch renormalisation in the networks. Default: true."""
    batch_norm_momentum: Annotated[Float, Field(gt=0, le=1)] | None = None
    """Weight of a batch in the running statistics. Default: 0.01."""
    batch_norm_eps: Annotated[Float, Field(gt=0)] | None = None
    """Added to the running variance. Default: 0.001."""
    renorm_warmup_steps: Annotated[Int, Field(ge=0)] | None = None
    """Initial gradient steps that use only the statistics of the batch. Default: 100_000."""


class CrossQHyperparameters(OffPolicyHyperparameters):
    """CrossQ (Bhatt et al. 2024, arXiv:1902.05605), as in sb3-contrib."""

    # sb3-contrib has no CrossQ policy for images or Dict observations.
    policy: Literal["auto", "MlpPolicy"] = "auto"
    """SB3's policy class; auto chooses by the observation space."""
    policy_kwargs: CrossQPolicyKwargs = CrossQPolicyKwargs()
    """Keyword arguments of the policy's networks."""
    learning_rate: Annotated[Schedule, Shown(rare=False)] = 1e-3
    """Learning rate of Adam: constant, or lin_X to fall linearly from X to 0."""
    ent_coef: EntropyCoefficient = "auto"
    """Entropy coefficient: a number, auto (learnt), or auto_X (learnt, with initial value X)."""
    target_entropy: TargetEntropy = "auto"
    """Target of a learnt entropy coefficient; auto: minus the number of action dimensions."""
    policy_delay: PositiveInt = 3
    """Gradient steps of the critics per gradient step of the actor."""
    use_sde: bool = False
    """Use generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between new noise matrices; -1: only at the start of a rollout."""
    use_sde_at_warmup: bool = False
    """Use gSDE instead of random actions before learning starts."""


def _recognises(shapes: Shapes) -> bool:
    return has_gaussian_actor(shapes) and not has_target_critics(shapes)


CROSSQ = AlgorithmSpec(
    name="crossq",
    hyperparameters=CrossQHyperparameters,
    action_spaces=("Box",),
    sb3_class="sb3_contrib:CrossQ",
    networks=PolicyNetworks(
        policy_classes=("sb3_contrib.crossq.policies:CrossQPolicy",),
        recognises=_recognises,
        net_arch=gaussian_arch,
        arguments=lambda shapes: {"n_critics": n_critics(shapes)},
        has_sde=True,
        plain_arguments=(
            *("batch_norm", "batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps"),
        ),
        actor_is_mlp=False,
    ),
    why_not_native="the native learner does not support CrossQ",
    # Measured: 22 and 8 SPS with batches of 64 and 256, one thread of a busy AMD EPYC,
    # HalfCheetah-v5.
    sb3_cost=Cost(gradient_step=0.0177, row=4.2e-4, timestep=0.0009),
    default_net_arch={"pi": [256, 256], "qf": [1024, 1024]},
    network_words={**OFF_POLICY_NETWORKS, "wide": {"pi": [256, 256], "qf": [1024, 1024]}},
)
