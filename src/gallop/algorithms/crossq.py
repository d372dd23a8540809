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
from gallop.fields import Float, Int, PositiveInt, Schedule


class CrossQPolicyKwargs(PolicyKwargs):
    """What sb3-contrib's policy class of CrossQ accepts."""

    batch_norm: bool | None = None
    """Batch renormalisation in the networks (CrossQ); default true."""
    batch_norm_momentum: Annotated[Float, Field(gt=0, le=1)] | None = None
    """Share of a batch in the running statistics (CrossQ); default 0.01."""
    batch_norm_eps: Annotated[Float, Field(gt=0)] | None = None
    """Added to the running variance (CrossQ); default 0.001."""
    renorm_warmup_steps: Annotated[Int, Field(ge=0)] | None = None
    """Gradient steps on the statistics of the batch alone (CrossQ); default 100,000."""


class CrossQHyperparameters(OffPolicyHyperparameters):
    """CrossQ (Bhatt et al. 2024, arXiv:1902.05605), as in sb3-contrib."""

    policy: Literal["auto", "MlpPolicy"] = "auto"
    """SB3's policy class; CrossQ has networks for Box observations alone."""
    policy_kwargs: CrossQPolicyKwargs = CrossQPolicyKwargs()
    """Networks; default {pi: [256, 256], qf: [1024, 1024]}."""
    learning_rate: Schedule = 1e-3
    """Adam's step size, constant or lin_X."""
    ent_coef: EntropyCoefficient = "auto"
    """Entropy coefficient: a number, auto (learnt), or auto_X (learnt from X on)."""
    target_entropy: TargetEntropy = "auto"
    """Entropy that auto aims at; auto: minus the number of actions."""
    policy_delay: PositiveInt = 3
    """Gradient steps of the critics for one of the actor."""
    use_sde: bool = False
    """Generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between two noise matrices; -1: one a rollout."""
    use_sde_at_warmup: bool = False
    """gSDE instead of random actions before learning starts."""


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
    # 22 and 8 SPS with batches of 64 and 256, one thread of a busy AMD EPYC (HalfCheetah-v5).
    sb3_cost=Cost(gradient_step=0.0177, row=4.2e-4, timestep=0.0009),
    default_net_arch={"pi": [256, 256], "qf": [1024, 1024]},
    network_words={**OFF_POLICY_NETWORKS, "wide": {"pi": [256, 256], "qf": [1024, 1024]}},
)
