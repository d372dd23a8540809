"""Proximal policy optimisation."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from gallop.algorithms.hyperparameters import Hyperparameters
from gallop.algorithms.policy_networks import Arch, PolicyNetworks, Shapes, widths
from gallop.algorithms.spec import AlgorithmSpec, Cost
from gallop.fields import Float, Int, PositiveInt, Schedule, Shown


class PPOHyperparameters(Hyperparameters):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), as in SB3."""

    n_steps: PositiveInt = 2048
    """Timesteps of each environment per rollout."""
    batch_size: Annotated[Int, Field(ge=2), Shown(rare=False)] = 64
    """Transitions per gradient step."""
    n_epochs: PositiveInt = 10
    """Epochs over each rollout."""
    gae_lambda: Annotated[Float, Field(ge=0, le=1)] = 0.95
    """Lambda of generalised advantage estimation."""
    clip_range: Schedule = 0.2
    """Clip range of the probability ratio: constant, or lin_X."""
    clip_range_vf: Schedule | None = None
    """Clip range of the value function: constant, or lin_X. Default: no clipping."""
    normalize_advantage: bool = True
    """Normalise the advantages of each minibatch to mean 0 and standard deviation 1."""
    ent_coef: Annotated[Float, Field(ge=0)] = 0.0
    """Weight of the entropy bonus."""
    vf_coef: Annotated[Float, Field(ge=0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[Float, Field(gt=0)] = 0.5
    """Clip the norm of the gradient to this value."""
    use_sde: bool = False
    """Use generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between new noise matrices; -1: only at the start of a rollout."""
    target_kl: Annotated[Float, Field(gt=0)] | None = None
    """Stop the epochs of a rollout early when the KL divergence exceeds 1.5 times this. Default: no
    early stopping."""

    def quantum(self, n_envs: int) -> int:
        """The update interval: timesteps of one rollout, over all environments."""
        return self.n_steps * n_envs

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep."""
        rollout = self.quantum(n_envs)
        return self.n_epochs * math.ceil(rollout / self.batch_size) / rollout

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps up to a timestep (fewer if target_kl stops epochs early)."""
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
    # Estimated from the figures of SAC and of other machines, for networks of 64×64.
    sb3_cost=Cost(gradient_step=0.0016, row=2e-6, timestep=0.0009),
    native_cost=Cost(gradient_step=0.0, row=1e-6, timestep=0.00025),
    default_net_arch=[64, 64],
    default_activation="tanh",
    network_words={"tiny": [64], "small": [64, 64], "medium": [256, 256]},
)
