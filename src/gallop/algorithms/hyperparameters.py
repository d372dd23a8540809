"""Hyper-parameters that algorithms share, with SB3's names and defaults."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from gallop.errors import ExperimentError, counted
from gallop.fields import (
    MAX_TIMESTEPS,
    Arguments,
    Float,
    Int,
    LowerCase,
    PositiveInt,
    Schedule,
    Settings,
    Shown,
)

ActivationName = Literal["relu", "tanh", "elu", "leaky_relu", "silu", "gelu"]
Layers = Annotated[
    list[PositiveInt], Field(max_length=32), Shown(metavar="[N,...]", kind="list of widths")
]


class NetArch(Settings):
    """Hidden layers of the actor and of the critics, given separately."""

    pi: Layers
    """Widths of the actor's hidden layers."""
    qf: Layers | None = None
    """Widths of the critics' hidden layers, for off-policy algorithms."""
    vf: Layers | None = None
    """Widths of the value network's hidden layers, for PPO."""


class PolicyKwargs(Settings):
    """Keyword arguments of SB3's policy classes. A setting that is left out keeps SB3's default."""

    net_arch: Annotated[
        Layers | NetArch | None,
        Shown(metavar="LAYERS", kind="list of widths, or {pi: [...], qf: [...]}", rare=False),
    ] = None
    """Widths of the hidden layers, such as [256,256] or {pi: [64], qf: [256,256]} (PPO: vf instead
    of qf)."""
    activation_fn: Annotated[Annotated[ActivationName, LowerCase] | None, Shown(metavar="NAME")] = (
        None
    )
    """Activation function: relu, tanh, elu, leaky_relu, silu or gelu."""
    log_std_init: Float | None = None
    """Initial log standard deviation of actions (PPO, and gSDE of other algorithms). Default: 0 for
    PPO, -3 for others."""
    ortho_init: bool | None = None
    """Initialise weights with orthogonal matrices (PPO). Default: true."""
    use_expln: bool | None = None
    """gSDE: use expln() instead of exp() to keep standard deviations positive. Default: false."""
    clip_mean: Annotated[Float, Field(ge=0)] | None = None
    """gSDE of off-policy algorithms: clip the mean action before tanh. Default: 2."""
    n_critics: PositiveInt | None = None
    """Number of critics (off-policy algorithms). Default: 2."""
    share_features_extractor: bool | None = None
    """Use one feature extractor for actor and critic. Default: true for PPO, false for others."""
    normalize_images: bool | None = None
    """Divide images by 255. Default: true."""
    optimizer_kwargs: Arguments | None = None
    """Keyword arguments of Adam, such as {eps: 1.0e-5}. Default: SB3's."""


class Hyperparameters(Settings):
    """Hyper-parameters of every algorithm, with SB3's names and defaults."""

    policy: Literal["auto", "MlpPolicy", "MultiInputPolicy", "CnnPolicy"] = "auto"
    """SB3's policy class; auto chooses by the observation space."""
    policy_kwargs: PolicyKwargs = PolicyKwargs()
    """Keyword arguments of the policy's networks."""
    learning_rate: Annotated[Schedule, Shown(rare=False)] = 3e-4
    """Learning rate of Adam: constant, or lin_X to fall linearly from X to 0."""
    gamma: Annotated[Float, Field(ge=0, le=1), Shown(rare=False)] = 0.99
    """Discount factor."""

    if TYPE_CHECKING:
        batch_size: int = 0  # every algorithm has one, each with its own default

    def quantum(self, n_envs: int) -> int:
        """The update interval: timesteps between updates, over all environments."""
        raise NotImplementedError

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep after learning has started."""
        raise NotImplementedError

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps up to a timestep."""
        raise NotImplementedError


class OffPolicyHyperparameters(Hyperparameters):
    """Hyper-parameters of algorithms with a replay buffer."""

    buffer_size: PositiveInt = 1_000_000
    """Capacity of the replay buffer, in transitions of all environments."""
    learning_starts: Annotated[Int, Field(ge=0)] = 100
    """Timesteps before the first gradient step, with random actions."""
    batch_size: Annotated[PositiveInt, Shown(rare=False)] = 256
    """Transitions per gradient step."""
    train_freq: PositiveInt = 1
    """Timesteps of each environment between updates."""
    utd: Annotated[Float, Field(ge=0)] | None = None
    """UTD ratio: gradient steps per timestep, regardless of n_envs. Default: 1."""
    gradient_steps: Annotated[Int, Field(ge=-1)] | None = None
    """Instead of utd: gradient steps every train_freq × n_envs timesteps; -1: one per timestep.
    Default: given by utd."""
    noise_type: Literal["none", "normal", "ornstein-uhlenbeck"] = "none"
    """Noise added to actions in training."""
    noise_std: Annotated[Float, Field(ge=0)] = 0.1
    """Standard deviation of that noise, for actions scaled to [-1, 1]."""
    replay_buffer: Literal["uniform", "her"] = "uniform"
    """Transitions to learn from: uniform, or her (hindsight experience replay), for tasks with
    goals: most transitions get a goal that the same episode reached."""
    n_sampled_goal: PositiveInt = 4
    """HER: transitions with such a goal per transition with its own."""
    goal_selection_strategy: Literal["future", "final", "episode"] = "future"
    """HER: take goals from later in the episode, from its end, or from anywhere in it."""

    @model_validator(mode="after")
    def _one_of_utd_and_gradient_steps(self) -> OffPolicyHyperparameters:
        if self.utd is not None and self.gradient_steps is not None:
            raise ValueError(
                f"utd {self.utd:g} and gradient_steps {self.gradient_steps} are mutually "
                "exclusive: give one of them"
            )
        return self

    def quantum(self, n_envs: int) -> int:
        """The update interval: timesteps between updates, over all environments."""
        return self.train_freq * n_envs

    def gradient_steps_a_quantum(self, n_envs: int) -> int:
        """Gradient steps per update interval.

        >>> OffPolicyHyperparameters(utd=0.5).gradient_steps_a_quantum(n_envs=4)
        2

        Raises:
            ExperimentError: if the UTD ratio does not give a whole number.
        """
        quantum = self.quantum(n_envs)
        if self.gradient_steps is not None:
            return quantum if self.gradient_steps == -1 else self.gradient_steps
        wanted = (1.0 if self.utd is None else self.utd) * quantum
        if wanted > MAX_TIMESTEPS:
            raise ExperimentError(f"{self.utd:g} is too large", "hyperparameters.utd")
        if not math.isclose(wanted, round(wanted), abs_tol=1e-9):
            raise ExperimentError(
                f"{self.utd:g} gives {wanted:g} gradient steps per train_freq × n_envs = "
                f"{counted(quantum, 'timestep')}; the nearest whole numbers are utd "
                f"{math.floor(wanted) / quantum:g} and {math.ceil(wanted) / quantum:g}",
                "hyperparameters.utd",
            )
        return round(wanted)

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep after learning has started."""
        return self.gradient_steps_a_quantum(n_envs) / self.quantum(n_envs)

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps of the critics up to a timestep."""
        quantum = self.quantum(n_envs)
        rounds = timesteps // quantum - self.learning_starts // quantum
        return max(0, rounds) * self.gradient_steps_a_quantum(n_envs)


class TargetNetworkHyperparameters(OffPolicyHyperparameters):
    """Hyper-parameters of algorithms with target networks."""

    tau: Annotated[Float, Field(gt=0, le=1)] = 0.005
    """Polyak coefficient of the target networks."""
