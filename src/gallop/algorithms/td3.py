"""Twin delayed DDPG."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from gallop.algorithms.hyperparameters import TargetNetworkHyperparameters
from gallop.algorithms.policy_networks import (
    Arch,
    PolicyNetworks,
    Shapes,
    has_gaussian_actor,
    n_critics,
    widths,
)
from gallop.algorithms.spec import AlgorithmSpec, Cost
from gallop.fields import Float, PositiveInt, Schedule


class TD3Hyperparameters(TargetNetworkHyperparameters):
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


def _recognises(shapes: Shapes) -> bool:
    return "actor.mu.0.weight" in shapes and not has_gaussian_actor(shapes)


def _net_arch(shapes: Shapes) -> Arch:
    return {"pi": widths(shapes, "actor.mu")[:-1], "qf": widths(shapes, "critic.qf0")[:-1]}


TD3 = AlgorithmSpec(
    name="td3",
    hyperparameters=TD3Hyperparameters,
    action_spaces=("Box",),
    sb3_class="stable_baselines3:TD3",
    networks=PolicyNetworks(
        policy_classes=(
            "stable_baselines3.td3.policies:TD3Policy",
            "stable_baselines3.td3.policies:CnnPolicy",
            "stable_baselines3.td3.policies:MultiInputPolicy",
        ),
        recognises=_recognises,
        net_arch=_net_arch,
        arguments=lambda shapes: {"n_critics": n_critics(shapes)},
        actor_outputs="scaled",
    ),
    native_class="gallop.learners.native_td3:NativeTD3",
    # Guessed from SAC's figures and those of other machines, for networks of 256×256.
    sb3_cost=Cost(gradient_step=0.0052, row=2.6e-5, timestep=0.0009),
    native_cost=Cost(gradient_step=0.0, row=0.9e-5, timestep=0.00025),
    default_net_arch=[400, 300],
)
