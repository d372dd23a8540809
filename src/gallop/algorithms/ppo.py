"""Proximal policy optimisation."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from gallop.algorithms.hyperparameters import Hyperparameters
from gallop.algorithms.policy_networks import Arch, PolicyNetworks, Shapes, widths
from gallop.algorithms.spec import AlgorithmSpec, Cost
from gallop.fields import Float, Int, PositiveInt, Schedule


class PPOHyperparameters(Hyperparameters):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), as in SB3."""

    n_steps: PositiveInt = 2048
    """Timesteps of every environment a rollout."""
    batch_size: Annotated[Int, Field(ge=2)] = 64
    """Transitions a gradient step."""
    n_epochs: PositiveInt = 10
    """Passes over each rollout."""
    gae_lambda: Annotated[Float, Field(ge=0, le=1)] = 0.95
    """Factor of generalised advantage estimation, 0 to 1."""
    clip_range: Schedule = 0.2
    """Clipping of the probability ratio, constant or lin_X."""
    clip_range_vf: Schedule | None = None
    """Clipping of the value function; none by default."""
    normalize_advantage: bool = True
    """Advantages to mean 0 and standard deviation 1 in each minibatch."""
    ent_coef: Annotated[Float, Field(ge=0)] = 0.0
    """Weight of the entropy bonus."""
    vf_coef: Annotated[Float, Field(ge=0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[Float, Field(gt=0)] = 0.5
    """Bound of the gradient's norm."""
    use_sde: bool = False
    """Generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between two noise matrices; -1: one a rollout."""
    target_kl: Annotated[Float, Field(gt=0)] | None = None
    """End a round's epochs early beyond this KL divergence."""

    def quantum(self, n_envs: int) -> int:
        """Timesteps that training cannot divide: one rollout."""
        return self.n_steps * n_envs

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep."""
        rollout = self.quantum(n_envs)
        return self.n_epochs * math.ceil(rollout / self.batch_size) / rollout

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps until that timestep (fewer where target_kl ends a round early)."""
        return round(timesteps * self.utd_ratio(n_envs))


def _net_arch(shapes: Shapes) -> Arch:
    nets = {"pi": "mlp_extractor.policy_net", "vf": "mlp_extractor.value_net"}
    return {key: widths(shapes, prefix) for key, prefix in nets.items()}


PPO = AlgorithmSpec(
    name="ppo",
    hyperparameters=PPOHyperparameters,
    action_spaces=("Box", "Discrete", "MultiDiscrete", "MultiBinary"),
    sb3_class="stable_baselines3:PPO",
    networks=PolicyNetworks(  # A2C's are the same
        policy_classes=(
            "stable_baselines3.common.policies:ActorCriticPolicy",
            "stable_baselines3.common.policies:ActorCriticCnnPolicy",
            "stable_baselines3.common.policies:MultiInputActorCriticPolicy",
        ),
        recognises=lambda shapes: "action_net.weight" in shapes,
        net_arch=_net_arch,
        arguments=lambda shapes: {"ortho_init": False},  # the weights come from the file
        has_sde=True,
        actor_outputs="plain",
    ),
    native_class="gallop.learners.native_ppo:NativePPO",
    # Guessed from SAC's figures and those of other machines, for networks of 64×64.
    sb3_cost=Cost(gradient_step=0.0016, row=2e-6, timestep=0.0009),
    native_cost=Cost(gradient_step=0.0, row=1e-6, timestep=0.00025),
    default_net_arch=[64, 64],
    default_activation="tanh",
    network_words={"tiny": [64], "small": [64, 64], "medium": [256, 256]},
)
