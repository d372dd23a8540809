"""Twin delayed DDPG."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
from gallop.fields import Float, PositiveInt, Schedule, Shown


class TD3Hyperparameters(TargetNetworkHyperparameters):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), as in SB3, but with noise."""

    learning_rate: Annotated[Schedule, Shown(rare=False)] = 1e-3
    """Learning rate of Adam: constant, or lin_X to fall linearly from X to 0."""
    # Not SB3's default: without noise, TD3 does not explore after learning starts.
    noise_type: Literal["none", "normal", "ornstein-uhlenbeck"] = "normal"
    """Noise added to actions in training."""
    policy_delay: PositiveInt = 2
    """Gradient steps of the critics per gradient step of the actor."""
    target_policy_noise: Annotated[Float, Field(ge=0)] = 0.2
    """Standard deviation of the noise that smooths the target policy."""
    target_noise_clip: Annotated[Float, Field(ge=0)] = 0.5
    """Clip that noise to this absolute value."""


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
    # Estimated from the figures of SAC and of other machines, for networks of 256×256.
    sb3_cost=Cost(gradient_step=0.0052, row=2.6e-5, timestep=0.0009),
    native_cost=Cost(gradient_step=0.0, row=0.9e-5, timestep=0.00025),
    default_net_arch=[400, 300],
)
