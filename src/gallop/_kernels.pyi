"""The compiled kernels: networks and gradient steps over NumPy arrays."""

from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray

PANEL: int = 32

def instruction_sets() -> list[str]:
    """
    Instruction sets of this build that this processor has, the best first.
    """

def has_bf16() -> bool:
    """Whether the best of them multiplies numbers in bfloat16."""

def peak(*, engine: Engine, seconds: float) -> float:
    """
    FLOP a second that all threads of the engine reach together at best.

    Args:
        seconds: for how long to measure.
    """

def advantages(
    *,
    rewards: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    values: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    starts: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    last_values: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    last_starts: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    gamma: float,
    gae_lambda: float,
) -> NDArray[numpy.float32]:
    """
    Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438): [n_steps, n_envs].

    Args:
        rewards, values: [n_steps, n_envs].
        starts: [n_steps, n_envs], 1 where an episode begins and 0 elsewhere.
        last_values, last_starts: [n_envs], of the timestep that follows.
        gamma: discount factor, 0 to 1.
        gae_lambda: factor of the estimation, 0 to 1.
    """

class Engine:
    """An instruction set and the threads that use it."""

    def __init__(self, *, instruction_set: str, n_threads: int) -> None: ...
    @property
    def instruction_set(self) -> str:
        """One of instruction_sets()."""

    @property
    def n_threads(self) -> int: ...

class Mlp:
    """A multilayer perceptron over the caller's arrays."""

    def __init__(
        self,
        *,
        engine: Engine,
        widths: Sequence[int],
        hidden: str,
        last: str,
        precision: str = "float32",
        has_target: bool = True,
    ) -> None:
        """
        Args:
            widths: inputs, then outputs of every layer.
            hidden: activation of the layers between: relu, tanh or none.
            last: activation of the last layer.
            precision: in which the layers between hidden ones multiply: float32, bf16x3 or bf16.
            has_target: whether `use` may be given a target network.
        """

    def use(
        self,
        *,
        parameters: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        first_moment: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")] | None,
        second_moment: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")] | None,
        target: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")] | None,
    ) -> None:
        """
        Work on these arrays, [size] each.

        Args:
            first_moment, second_moment: Adam's; None where nothing learns.
            target: parameters of the target network, or None.
        """

    def refresh(self) -> None:
        """Follow parameters that were changed from outside."""

    def forward(
        self, x: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)]
    ) -> NDArray[numpy.float32]:
        """Outputs [n, outputs] of inputs [n, inputs]."""

    @property
    def layout(self) -> list[tuple[int, int, int, int]]:
        """
        Of each layer: inputs, outputs, and where its weights and its biases begin in the arrays.

        Weights lie in panels of PANEL columns; see network.hpp.
        """

    @property
    def size(self) -> int:
        """Floats in each array."""

class AdamSettings:
    """Adam (Kingma & Ba 2015), as in torch.optim.Adam."""

    def __init__(
        self, *, beta1: float, beta2: float, epsilon: float, weight_decay: float
    ) -> None: ...

class Normalizer:
    """
    How a learner normalises what it takes from the replay buffer.

    Observations: clip((x - mean) * scale). Rewards: clip(r * reward_scale).
    """

    def __init__(
        self,
        *,
        mean: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)]
        | None = None,
        scale: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)]
        | None = None,
        clip: float = 0.0,
        reward_scale: float = 0.0,
        reward_clip: float = 0.0,
    ) -> None:
        """
        Args:
            mean, scale: [observations]; None: observations stay as they are.
            clip: bound of a normalised observation.
            reward_scale: 0: rewards stay as they are.
            reward_clip: bound of a scaled reward.
        """

class Sac:
    """SAC's gradient steps."""

    def __init__(
        self,
        *,
        actor: Mlp,
        critics: Sequence[Mlp],
        entropy: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        adam: AdamSettings,
        batch: int,
        gamma: float,
        tau: float,
        learn_entropy: bool,
        target_entropy: float,
        target_update_interval: int,
    ) -> None:
        """
        Args:
            actor: gives the means, then the logarithms of the standard deviations.
            critics: each with a target network.
            entropy: [3], the logarithm of the entropy coefficient, and Adam's two moments of it.
            adam: of the networks.
            batch: transitions a gradient step.
            gamma: discount factor, 0 to 1.
            tau: Polyak factor of the target networks, 0 to 1.
            learn_entropy: whether the entropy coefficient is learnt.
            target_entropy: entropy that it aims at, in nats.
            target_update_interval: gradient steps between two updates of the target networks.
        """

    def step(
        self,
        *,
        indices: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        noise: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        learning_rate: float,
        n_done: int,
        n_before: int = 0,
        normalizer: Normalizer = ...,
    ) -> NDArray[numpy.float64]:
        """
        Gradient steps; losses [n, 4]: actor, critics, entropy coefficient (not a loss), its loss.

        Args:
            indices: [n, batch] rows of the replay buffer.
            noise: [n, 2, batch, actions], standard normal, for this observation and the next one.
            n_done: gradient steps before these.
            n_before: those of them since target_update_interval began to count.
        """

    def use_replay(
        self,
        *,
        observations: Annotated[
            NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)
        ],
        following: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        actions: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        rewards: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        ends: Annotated[NDArray[numpy.bool_], dict(order="C", device="cpu", writable=False)],
    ) -> None:
        """
        Learn from the transitions in these arrays from now on.

        Args:
            observations: [at least rows, observations].
            following: [rows], which row of the observations follows a transition.
            actions: [rows, actions], scaled to -1 ... 1.
            rewards: [rows].
            ends: [rows], whether no value follows; at a timeout one does.
        """

class Td3:
    """TD3's gradient steps."""

    def __init__(
        self,
        *,
        actor: Mlp,
        critics: Sequence[Mlp],
        adam: AdamSettings,
        batch: int,
        gamma: float,
        tau: float,
        target_noise: float,
        target_noise_clip: float,
        policy_delay: int,
    ) -> None:
        """
        Args:
            actor, critics: each with a target network.
            adam: of all networks.
            batch: transitions a gradient step.
            gamma: discount factor, 0 to 1.
            tau: Polyak factor of the target networks, 0 to 1.
            target_noise: standard deviation of the target policy's smoothing noise.
            target_noise_clip: bound of that noise.
            policy_delay: gradient steps of the critics for one of the actor.
        """

    def step(
        self,
        *,
        indices: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        noise: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        learning_rate: float,
        n_done: int,
        normalizer: Normalizer = ...,
    ) -> NDArray[numpy.float64]:
        """
        Gradient steps; losses [n, 2]: actor (NaN where it does not learn), critics.

        Args:
            indices: [n, batch] rows of the replay buffer.
            noise: [n, batch, actions], standard normal.
            n_done: gradient steps before these.
        """

    def use_replay(
        self,
        *,
        observations: Annotated[
            NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)
        ],
        following: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        actions: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        rewards: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        ends: Annotated[NDArray[numpy.bool_], dict(order="C", device="cpu", writable=False)],
    ) -> None:
        """
        Learn from the transitions in these arrays from now on.

        Args:
            observations: [at least rows, observations].
            following: [rows], which row of the observations follows a transition.
            actions: [rows, actions], scaled to -1 ... 1.
            rewards: [rows].
            ends: [rows], whether no value follows; at a timeout one does.
        """

class Ppo:
    """PPO's epochs."""

    def __init__(
        self,
        *,
        policy: Mlp,
        value: Mlp,
        log_std: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        log_std_first_moment: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        log_std_second_moment: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        adam: AdamSettings,
        batch: int,
        discrete: bool,
        normalize_advantage: bool,
        entropy_weight: float,
        value_weight: float,
        max_gradient_norm: float,
        target_kl: float,
    ) -> None:
        """
        Args:
            policy: gives the means of a Gaussian, or the logits of choices.
            log_std: [actions], padded to a panel: the logarithm of the standard deviation.
                It is unused where actions are choices, and so are its moments.
            adam: of both networks and log_std.
            batch: transitions a gradient step.
            discrete: whether actions are choices.
            normalize_advantage: to mean 0 and standard deviation 1 in each minibatch.
            entropy_weight, value_weight: of these two losses beside the policy's.
            max_gradient_norm: bound of the gradient's norm.
            target_kl: KL divergence, in nats, beyond 1.5 times which an epoch ends early; 0: none.
        """

    def epoch(
        self,
        *,
        indices: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        observations: Annotated[
            NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)
        ],
        actions: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        values: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        log_probs: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        advantages: Annotated[
            NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)
        ],
        returns: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        learning_rate: float,
        n_done: int,
        clip_range: float,
        clip_range_value: float = 0.0,
    ) -> tuple[NDArray[numpy.float64], int]:
        """
        One pass over a rollout of n transitions.

        Returns the losses [minibatches, 6]: policy, value, entropy, share of clipped ratios,
        approximate KL divergence in nats, weighted sum of the first three; and the number of
        minibatches that changed the networks, fewer than there are once target_kl is passed.

        Args:
            indices: the rollout's rows, in the order to learn from them.
            observations: [n, observations], normalised already.
            actions: [n, actions], or [n, 1] choices.
            values, log_probs: [n], when they were collected.
            advantages, returns: [n].
            n_done: gradient steps before these.
            clip_range: of the probability ratio.
            clip_range_value: of the value function, in its own units; 0: not clipped.
        """
