"""The compiled kernels: networks and gradient steps over NumPy arrays."""

from collections.abc import Sequence
from typing import Annotated, Any, overload

import numpy
from numpy.typing import NDArray

PANEL: int = 32

def instruction_sets() -> list[str]:
    """
    Instruction sets of this build that this processor supports, best first.
    """

def peak(*, engine: Engine, seconds: float) -> float:
    """
    Measure the peak FLOP per second of all threads of the engine together.

    Args:
        engine: the instruction set and threads to measure.
        seconds: duration of the measurement.
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
    Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438).

    Args:
        rewards, values: [n_steps, n_envs].
        starts: [n_steps, n_envs], 1 where an episode begins and 0 elsewhere.
        last_values, last_starts: [n_envs], of the timestep after the rollout.
        gamma: discount factor, 0 to 1.
        gae_lambda: decay factor lambda of the estimator, 0 to 1.

    Returns:
        Advantages, [n_steps, n_envs].
    """

class Engine:
    """An instruction set and the threads that use it."""

    def __init__(
        self, *, instruction_set: str, n_threads: int, sparse_below: float | None = None
    ) -> None:
        """
        Args:
            instruction_set: one of instruction_sets().
            n_threads: the caller's and n - 1 others, which live as long as the engine.
            sparse_below: density below which products leave out zeros, which changes no bit;
                0: never; None: where it pays.
        """

    @property
    def instruction_set(self) -> str:
        """One of instruction_sets()."""

    @property
    def n_threads(self) -> int: ...

class Mlp:
    """A multilayer perceptron whose parameters are arrays of the caller."""

    def __init__(self, *, engine: Engine, widths: Sequence[int], hidden: str, last: str) -> None:
        """
        Args:
            engine: the instruction set and threads to use.
            widths: number of inputs, then the outputs of every layer.
            hidden: activation of the hidden layers: relu, tanh or none.
            last: activation of the last layer.
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
        Use these arrays, [size] each.

        Args:
            parameters: weights and biases; see `layout`.
            first_moment, second_moment: moments of Adam; None if the network does not learn.
            target: parameters of the target network, or None.
        """

    def refresh(self) -> None:
        """Update internal copies after the parameters were changed from outside."""

    def forward(
        self, x: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)]
    ) -> NDArray[numpy.float32]:
        """Compute outputs [n, outputs] of inputs [n, inputs]."""

    @property
    def layout(self) -> list[tuple[int, int, int, int]]:
        """
        For each layer: inputs, outputs, offset of its weights and of its biases in the arrays.

        Weights are stored in panels of PANEL columns; see network.hpp.
        """

    @property
    def size(self) -> int:
        """Floats per array."""

class AdamSettings:
    """Adam (Kingma & Ba 2015), as in torch.optim.Adam."""

    def __init__(
        self, *, beta1: float, beta2: float, epsilon: float, weight_decay: float
    ) -> None: ...

class Normalizer:
    """
    How a learner normalises observations and rewards from the replay buffer.

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
            mean, scale: [observations]; None: observations are not normalised.
            clip: bound of a normalised observation.
            reward_scale: factor of rewards; 0: rewards are not normalised.
            reward_clip: bound of a scaled reward.
        """

class Sac:
    """Gradient steps of SAC."""

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
            actor: returns the means, then the logarithms of the standard deviations.
            critics: each with a target network.
            entropy: [3], the logarithm of the entropy coefficient and its two moments in Adam.
            adam: Adam of the networks.
            batch: transitions per gradient step.
            gamma: discount factor, 0 to 1.
            tau: Polyak factor of the target networks, 0 to 1.
            learn_entropy: whether the entropy coefficient is learnt.
            target_entropy: target of that learning, in nats.
            target_update_interval: gradient steps between two updates of the target networks.
        """

    def begin(
        self,
        *,
        indices: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        noise: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        learning_rate: float,
        n_done: int,
        n_before: int = 0,
        normalizer: Normalizer = ...,
    ) -> None:
        """
        Begin n gradient steps on the engine's other threads; `finish` must follow.

        Until then, the rows of the replay buffer in `indices` must not change, nor the rows of
        their next observations, and nothing else may use the networks.

        Args:
            indices: [n, batch] rows of the replay buffer.
            noise: [n, 2, batch, actions], standard normal, for this observation and the next one.
            learning_rate: of all networks and the entropy coefficient.
            n_done: gradient steps so far.
            n_before: gradient steps before these in the same round of training, which is where
                target_update_interval starts to count.
            normalizer: of observations and rewards.
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
        """Do n gradient steps: `begin` and `finish` in one call."""

    def finish(self) -> NDArray[numpy.float64]:
        """
        Complete the gradient steps that have begun.

        Returns:
            [n, 4]: loss of the actor, loss of the critics, entropy coefficient, its loss.
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
        Learn from the transitions in these arrays in all further gradient steps.

        Args:
            observations: [at least rows, observations].
            following: [rows], the row in `observations` of each transition's next observation.
            actions: [rows, actions], scaled to -1 ... 1.
            rewards: [rows].
            ends: [rows], whether the episode terminated; not set where it was truncated.
        """

class Td3:
    """Gradient steps of TD3."""

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
            adam: Adam of all networks.
            batch: transitions per gradient step.
            gamma: discount factor, 0 to 1.
            tau: Polyak factor of the target networks, 0 to 1.
            target_noise: standard deviation of the target policy's smoothing noise.
            target_noise_clip: bound of that noise.
            policy_delay: gradient steps of the critics per gradient step of the actor.
        """

    def begin(
        self,
        *,
        indices: Annotated[NDArray[numpy.int64], dict(order="C", device="cpu", writable=False)],
        noise: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
        learning_rate: float,
        n_done: int,
        normalizer: Normalizer = ...,
    ) -> None:
        """
        Begin n gradient steps on the engine's other threads; `finish` must follow, as in Sac.

        Args:
            indices: [n, batch] rows of the replay buffer.
            noise: [n, batch, actions], standard normal.
            learning_rate: of all networks.
            n_done: gradient steps so far.
            normalizer: of observations and rewards.
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
        """Do n gradient steps: `begin` and `finish` in one call."""

    def finish(self) -> NDArray[numpy.float64]:
        """
        Complete the gradient steps that have begun.

        Returns:
            [n, 2]: loss of the actor (NaN in steps where it does not learn), loss of the critics.
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
        Learn from the transitions in these arrays in all further gradient steps.

        Args:
            observations: [at least rows, observations].
            following: [rows], the row in `observations` of each transition's next observation.
            actions: [rows, actions], scaled to -1 ... 1.
            rewards: [rows].
            ends: [rows], whether the episode terminated; not set where it was truncated.
        """

class Ppo:
    """Epochs of PPO."""

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
            policy: returns the means of a Gaussian, or the logits of discrete actions.
            value: returns one value.
            log_std: [actions], padded to a panel: the logarithm of the standard deviation.
                Unused for discrete actions, like its two moments.
            adam: Adam of both networks and log_std.
            batch: transitions per gradient step.
            discrete: whether actions are discrete.
            normalize_advantage: to mean 0 and standard deviation 1 in each minibatch.
            entropy_weight, value_weight: weights of these two losses; the policy's has weight 1.
            max_gradient_norm: bound of the gradient's norm.
            target_kl: an epoch ends early if the KL divergence exceeds 1.5 times this; in nats;
                0: never.
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
        Do one pass over a rollout of n transitions.

        Args:
            indices: rows of the rollout, in the order to learn from them.
            observations: [n, observations], already normalised.
            actions: [n, actions], or [n, 1] if they are discrete.
            values, log_probs: [n], from when the rollout was collected.
            advantages, returns: [n].
            learning_rate: of both networks and log_std.
            n_done: gradient steps so far.
            clip_range: of the probability ratio.
            clip_range_value: of the value function, in its own units; 0: not clipped.

        Returns:
            The losses [minibatches, 6]: policy, value, entropy, share of clipped ratios,
            approximate KL divergence in nats, weighted sum of the first three; and the number of
            minibatches that changed the networks, which is smaller if target_kl was exceeded.
        """

TERMINATED: int = 1

TIME_LIMIT: int = 2

UNSTABLE: int = 4

BAD_ACTION: int = 8

BAD_OBSERVATION: int = 16

BAD_REWARD: int = 32

FAILED: int = 64

class Physics:
    """
    Timesteps of Gymnasium's MuJoCo tasks, several environments at once.

    Physics, observations and rewards have the bits of Gymnasium's own code. Resets are Gymnasium's.
    """

    def __init__(
        self,
        *,
        mj_step: int,
        mj_rne_post_constraint: int,
        mju_user_error: int,
        observations: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        rewards: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu")],
        events: Annotated[NDArray[numpy.uint8], dict(order="C", device="cpu")],
        n_observations: int,
        n_actions: int,
        largest_reward: float,
        n_threads: int,
    ) -> None:
        """
        Args:
            mj_step, mj_rne_post_constraint, mju_user_error: addresses of these functions, and of
                this variable, in the MuJoCo library of the process.
            observations: [environments, n_observations]; `step` fills this and the next two arrays.
            rewards: [environments].
            events: [environments], sums of TERMINATED, TIME_LIMIT, UNSTABLE, BAD_ACTION,
                BAD_OBSERVATION, BAD_REWARD and FAILED.
            n_observations, n_actions: of one environment.
            largest_reward: limit of a reward's absolute value.
            n_threads: threads that share the environments.
        """

    def add(
        self,
        *,
        model: int,
        data: int,
        frame_skip: int,
        seconds: float,
        controls: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        unstable: Annotated[
            NDArray[numpy.int32], dict(shape=(None,), device="cpu", writable=False)
        ],
        time_limit: int,
        observation: Sequence[
            tuple[
                Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
                float,
                float,
            ]
        ],
        position: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
        mass: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)]
        | None = None,
        total_mass: float = 0.0,
        health: Sequence[
            tuple[
                Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
                float,
                float,
                bool,
            ]
        ] = [],
        terminates: bool = False,
        forward_weight: float,
        healthy_reward: float | None = None,
        control_weight: float,
        control_in_double: bool = False,
        contact_weight: float = 0.0,
        contact_forces: tuple[
            Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
            float,
            float,
        ]
        | None = None,
        contact_cost: tuple[float, float] = (float("-inf"), float("inf")),
    ) -> None:
        """
        Add an environment. Arrays are views of its MjModel and MjData, which the caller keeps.

        Args:
            model, data: addresses of the environment's MjModel and MjData.
            frame_skip: physics steps of a timestep.
            seconds: duration of a timestep.
            controls: MjData.ctrl, [n_actions].
            unstable: three counters of MjData's warnings; the physics is unstable if one is not 0.
            time_limit: timesteps of an episode; 0: none.
            observation: its parts in their order, as (numbers, low, high): clipped to these bounds.
            position: x of the body; or, with `mass`, the centres [bodies, 3] of all bodies.
            mass: [bodies]; the velocity is then that of the centre of mass.
            total_mass: sum of `mass`.
            health: conditions (numbers, low, high, inclusive), all of which a healthy body meets.
            terminates: whether an episode ends when the body is not healthy.
            forward_weight: of the velocity in the reward.
            healthy_reward: of a timestep in health; None: no such term.
            control_weight: of the sum of squared actions, subtracted.
            control_in_double: take that sum over `controls`, not in the precision of the actions.
            contact_weight: of the sum of squared contact forces, subtracted.
            contact_forces: (forces, low, high): clipped to these bounds; None: no such term.
            contact_cost: bounds (low, high) of the contact cost.
        """

    def begin(self, index: int) -> None:
        """Begin an episode of this environment, which the caller has reset."""

    def pause(self, index: int) -> None:
        """Leave this environment out of `step`, until its next episode begins."""

    @overload
    def step(
        self,
        actions: Annotated[NDArray[numpy.float32], dict(order="C", device="cpu", writable=False)],
    ) -> bool: ...
    @overload
    def step(
        self,
        actions: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu", writable=False)],
    ) -> bool:
        """
        Step all environments that are not paused; return whether there is an event.

        Environments from the first one with a BAD_ACTION on are not stepped. Those that are not
        stepped have no event, and their rows keep their values.

        Args:
            actions: [environments, n_actions].
        """

    def rewards(self, index: int) -> list[float]:
        """Rewards of this environment since its episode began."""

    def sums(self, index: int) -> dict[str, float]:
        """
        Sums of the reward and of its terms since this environment's episode began.

        The names are those in Gymnasium's `info`. A timestep with a BAD_OBSERVATION does not count.
        """

    def error(self, index: int) -> str:
        """MuJoCo's message of the latest FAILED step of this environment."""

class PhysicsLog:
    """
    What MuJoCo's MjData holds at every physics step, copied while the steps are taken.
    """

    def __init__(
        self,
        *,
        mj_step: int,
        mj_forward: int,
        mj_forward_skip: int,
        mj_check_pos: int,
        mj_check_vel: int,
        mj_check_acc: int,
        mj_contact_force: int,
        mj_integrate_pos: int,
        mju_add_to_scl: int,
        mju_user_error: int,
        time: int,
        ncon: int,
        contact: int,
        contact_size: int,
        pos: int,
        frame: int,
        dist: int,
        geom: int,
        model: int,
        data: int,
        qpos: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        qvel: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        qacc: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        qacc_warmstart: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        row: Sequence[Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")]],
        geom_bodyid: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        body_rootid: Annotated[NDArray[numpy.int32], dict(order="C", device="cpu", writable=False)],
        xpos: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        xmat: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        cvel: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        subtree_com: Annotated[NDArray[numpy.float64], dict(order="C", device="cpu")],
        timestep: float,
        is_rk4: bool,
    ) -> None:
        """
        Args:
            mj_step, mj_forward, mj_forward_skip, mj_check_pos, mj_check_vel, mj_check_acc,
                mj_contact_force, mj_integrate_pos, mju_add_to_scl: addresses of these functions in
                the MuJoCo library of the process.
            mju_user_error: address of this variable.
            time, ncon, contact: offsets of these fields in an mjData.
            contact_size, pos, frame, dist, geom: size of an mjContact, and offsets of its fields.
            model, data: addresses of the mjModel and mjData.
            qpos, qvel, qacc, qacc_warmstart: arrays of that mjData.
            row: arrays of it that are copied at every step, one after the other.
            geom_bodyid, body_rootid: arrays of the mjModel.
            xpos, xmat, cvel, subtree_com: arrays of the mjData; rows of pushed bodies are copied.
            timestep: of the physics, in s.
            is_rk4: whether the integrator is RK4: a row is then added for each of its four stages.
        """

    def step(self, n: int) -> None:
        """
        Take physics steps, and add a row for each.

        Raises:
            RuntimeError: with MuJoCo's message, if it fails.
        """

    def arrays(self) -> dict[str, NDArray[Any]]:
        """
        Return copies of what was recorded.

        Returns:
            `rows` [rows, numbers]; and of each contact that pushes: its row in `contact_rows`; its
            `geoms` [contacts, 2]; `contacts` [contacts, 16]: position, three axes, distance, and
            force along each axis; `bodies` [contacts, 42]: of each geom's body the position,
            rotation and spatial velocity, and the centre of mass of its tree.
        """
