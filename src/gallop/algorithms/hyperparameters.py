"""Hyper-parameters that algorithms share. Names and defaults are SB3's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from gallop.errors import ExperimentError
from gallop.fields import (
    MAX_TIMESTEPS,
    Arguments,
    Float,
    Int,
    LowerCase,
    PositiveInt,
    Schedule,
    Settings,
)

ActivationName = Literal["relu", "tanh", "elu", "leaky_relu", "silu", "gelu"]
Layers = Annotated[list[PositiveInt], Field(max_length=32)]


class NetArch(Settings):
    """Hidden layers of the actor and of the critics, apart."""

    pi: Layers
    qf: Layers | None = None
    vf: Layers | None = None


class PolicyKwargs(Settings):
    """What SB3's policy classes accept. Settings left out keep SB3's own default."""

    net_arch: Layers | NetArch | None = None
    """Hidden layers: a list of widths, or {pi: [...], qf: [...]} (PPO: vf)."""
    activation_fn: Annotated[ActivationName, LowerCase] | None = None
    """Activation function by name."""
    log_std_init: Float | None = None
    """First value of the log standard deviation (PPO, gSDE)."""
    ortho_init: bool | None = None
    """Orthogonal initialisation (PPO)."""
    use_expln: bool | None = None
    """gSDE: expln() instead of exp() for positive standard deviations."""
    clip_mean: Annotated[Float, Field(ge=0)] | None = None
    """gSDE of SAC: bound of the mean action before tanh."""
    n_critics: PositiveInt | None = None
    """Number of critics (SAC, TD3)."""
    share_features_extractor: bool | None = None
    """One feature extractor for actor and critic."""
    normalize_images: bool | None = None
    """Divide images by 255."""
    optimizer_kwargs: Arguments | None = None
    """Keyword arguments of Adam, such as {eps: 1.0e-5}."""


class Hyperparameters(Settings):
    """What every algorithm has. Names and defaults are SB3's."""

    policy: Literal["auto", "MlpPolicy", "MultiInputPolicy", "CnnPolicy"] = "auto"
    """SB3's policy class; auto: by the observation space."""
    policy_kwargs: PolicyKwargs = PolicyKwargs()
    """Networks."""
    learning_rate: Schedule = 3e-4
    """Adam's step size, constant or lin_X."""
    gamma: Annotated[Float, Field(ge=0, le=1)] = 0.99
    """Discount factor, 0 to 1."""

    if TYPE_CHECKING:
        batch_size: int = 0  # every algorithm has one, each with its own default

    def quantum(self, n_envs: int) -> int:
        """Timesteps that training cannot divide."""
        raise NotImplementedError

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep once learning has started."""
        raise NotImplementedError

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps until that timestep."""
        raise NotImplementedError


class OffPolicyHyperparameters(Hyperparameters):
    """What algorithms with a replay buffer share."""

    buffer_size: PositiveInt = 1_000_000
    """Replay buffer, transitions over all environments."""
    learning_starts: Annotated[Int, Field(ge=0)] = 100
    """Timesteps with random actions and without gradient steps."""
    batch_size: PositiveInt = 256
    """Transitions a gradient step."""
    train_freq: PositiveInt = 1
    """Timesteps of every environment between two rounds of gradient steps."""
    utd: Annotated[Float, Field(ge=0)] | None = None
    """UTD ratio: gradient steps per timestep, whatever n_envs is; default 1."""
    gradient_steps: Annotated[Int, Field(ge=-1)] | None = None
    """Gradient steps every train_freq × n_envs timesteps, instead of utd; -1: as many."""
    noise_type: Literal["none", "normal", "ornstein-uhlenbeck"] = "none"
    """Noise added to actions while training."""
    noise_std: Annotated[Float, Field(ge=0)] = 0.1
    """Standard deviation of that noise, in actions scaled to -1 … 1."""

    @model_validator(mode="after")
    def _one_of_utd_and_gradient_steps(self) -> OffPolicyHyperparameters:
        if self.utd is not None and self.gradient_steps is not None:
            raise ValueError(
                f"utd {self.utd:g} and gradient_steps {self.gradient_steps} are two names for one "
                "thing: give one of them"
            )
        return self

    def quantum(self, n_envs: int) -> int:
        """Timesteps that training cannot divide."""
        return self.train_freq * n_envs

    def gradient_steps_a_quantum(self, n_envs: int) -> int:
        """Gradient steps every `quantum` timesteps.

        >>> OffPolicyHyperparameters(utd=0.5).gradient_steps_a_quantum(n_envs=4)
        2

        Raises:
            ExperimentError: where the UTD ratio gives no whole number of them.
        """
        quantum = self.quantum(n_envs)
        if self.gradient_steps is not None:
            return quantum if self.gradient_steps == -1 else self.gradient_steps
        wanted = (1.0 if self.utd is None else self.utd) * quantum
        if wanted > MAX_TIMESTEPS:
            raise ExperimentError(f"{self.utd:g} is more than is possible", "hyperparameters.utd")
        if not math.isclose(wanted, round(wanted), abs_tol=1e-9):
            raise ExperimentError(
                f"{self.utd:g} gives {wanted:g} gradient steps every train_freq × n_envs = "
                f"{quantum} timesteps; the nearest whole numbers are utd "
                f"{math.floor(wanted) / quantum:g} and {math.ceil(wanted) / quantum:g}",
                "hyperparameters.utd",
            )
        return round(wanted)

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep once learning has started."""
        return self.gradient_steps_a_quantum(n_envs) / self.quantum(n_envs)

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps of the critics until that timestep."""
        quantum = self.quantum(n_envs)
        rounds = timesteps // quantum - self.learning_starts // quantum
        return max(0, rounds) * self.gradient_steps_a_quantum(n_envs)


class TargetNetworkHyperparameters(OffPolicyHyperparameters):
    """What algorithms with target networks share."""

    tau: Annotated[Float, Field(gt=0, le=1)] = 0.005
    """Polyak factor of the target networks, 0 to 1."""
