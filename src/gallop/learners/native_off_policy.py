"""The native learner's loop for SAC and TD3: act, step, store, learn, in SB3's order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from gallop.algorithms.hyperparameters import TargetNetworkHyperparameters
from gallop.experiments.settings import Experiment
from gallop.learners.native import Infos, NativeLearner, Optimized, as_array
from gallop.learners.native_replay import NativeReplay
from gallop.policies.mlp_policy import as_rows, unscale
from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array

if TYPE_CHECKING:
    from gallop import _kernels

NOISE_BLOCK = 64  # gradient steps whose noise is sampled at once, to save calls of NumPy


H = TypeVar("H", bound=TargetNetworkHyperparameters)


class SharedArguments(TypedDict):
    """Arguments of both kernels."""

    actor: _kernels.Mlp
    critics: list[_kernels.Mlp]
    adam: _kernels.AdamSettings
    batch: int
    gamma: float
    tau: float


class NativeOffPolicy(NativeLearner[H]):
    """The common part of SAC and TD3."""

    _targets = True
    _noise_arrays: int  # arrays of standard normal noise per gradient step
    _kernel: _kernels.Sac | _kernels.Td3
    replay: NativeReplay

    def __init__(
        self, experiment: Experiment, environments: VecEnv, seed: int, engine: _kernels.Engine
    ) -> None:
        super().__init__(experiment, environments, seed, engine)
        settings = self._settings
        self._n_actions = int(np.prod(environments.action_space.shape or ()))
        n_observations = int(np.prod(environments.observation_space.shape or ()))
        self.replay = NativeReplay(
            settings.buffer_size, experiment.n_envs, n_observations, self._n_actions
        )
        self._n_round = settings.gradient_steps_a_quantum(experiment.n_envs)
        self._drawn: _Drawn | None = None
        self._losses: NDArray[np.float64] | None = None
        self._learning_rate = 0.0  # of the gradient steps that have begun or come next
        self._logged_rate = 0.0  # of those whose losses are known

    def _learn(
        self,
        environments: VecEnv,
        rng: np.random.Generator,
        end: int,
        horizon: int,
        tick: Callable[[int], None],
    ) -> None:
        n_envs, settings, replay = environments.num_envs, self._settings, self.replay
        log_interval = self._experiment.log_interval or 4
        normalized = environments if isinstance(environments, VecNormalize) else None
        noise = _Noise(rng, self._noise_shape())
        shape = environments.action_space.shape or ()
        observations = environments.reset()
        raw = _raw(environments, observations)
        try:
            while self.timestep < end:
                for i in range(settings.train_freq):
                    scaled = self._choose(observations, n_envs, rng)
                    actions = unscale(scaled, self._low, self._high)
                    replay.begin(as_rows(raw))
                    if i == settings.train_freq - 1 and normalized is None:
                        self._begin_round(noise, rng, horizon)
                    observations, rewards, dones, infos = environments.step(
                        actions.reshape(n_envs, *shape)
                    )
                    self.timestep += n_envs
                    tick(self.timestep)
                    next_raw = _raw(environments, observations)
                    if normalized is not None:
                        rewards = normalized.get_original_reward()
                    stored, ends = next_raw, dones
                    if dones.any():
                        stored, ends = _before_reset(next_raw, dones, infos, normalized)
                    replay.add(
                        next_observations=as_rows(stored),
                        actions=scaled,
                        rewards=rewards,
                        ends=ends,
                    )
                    raw = next_raw
                    for _ in range(self._note_episodes(dones, infos) if dones.any() else 0):
                        self._n_episodes += 1
                        if self._n_episodes % log_interval == 0:
                            self._dump(self.timestep)
                if self.timestep > settings.learning_starts and self._n_round:
                    self._train_round(noise, rng, horizon)
        finally:
            self._drop_round()

    def _choose(
        self, observations: VecEnvObs, n: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Actions [n, actions] in [-1, 1] to step with: uniform ones until learning starts."""
        settings = self._settings
        if self.timestep < settings.learning_starts:
            scaled = rng.uniform(-1, 1, (n, self._n_actions)).astype(np.float32)
        else:
            scaled = self._explore(as_rows(as_array(observations)), rng)
        if settings.noise_type == "normal":
            disturbance = rng.normal(0, settings.noise_std, scaled.shape)
            scaled = np.clip(scaled + disturbance, -1, 1).astype(np.float32)
        return scaled

    def _begin_round(self, noise: _Noise, rng: np.random.Generator, horizon: int) -> None:
        """Begin the gradient steps that follow the next timestep, while the environments step.

        Draws the same random numbers as `_train_round` would, which completes the round. If the
        timestep's own transition is among those drawn, only that begins the gradient steps.
        """
        n, n_envs = self._n_round, self._experiment.n_envs
        if not 0 < n <= NOISE_BLOCK or self.timestep + n_envs <= self._settings.learning_starts:
            return
        self._learning_rate = self._rate(self._settings.learning_rate, horizon, n_envs)
        indices = self.replay.sample(rng, (n, self._settings.batch_size), n_coming=1)
        self._drawn = _Drawn(indices, noise.take(n), begun=not self.replay.includes_next(indices))
        if self._drawn.begun:
            self._begin(indices, self._drawn.noise, 0)

    def _drop_round(self) -> None:
        """Wait for gradient steps that have begun, and forget them: the segment has failed."""
        if self._drawn is not None and self._drawn.begun:
            self._kernel.finish()
        self._drawn = None

    def _train_round(self, noise: _Noise, rng: np.random.Generator, horizon: int) -> None:
        """Take the gradient steps that follow train_freq timesteps, in blocks of NOISE_BLOCK."""
        if (drawn := self._drawn) is not None:
            self._drawn = None
            if not drawn.begun:
                self._begin(drawn.indices, drawn.noise, 0)
            self._losses = self._finish()
        else:
            self._learning_rate = self._rate(self._settings.learning_rate, horizon)
            parts = []
            for first in range(0, self._n_round, NOISE_BLOCK):
                n = min(NOISE_BLOCK, self._n_round - first)
                indices = self.replay.sample(rng, (n, self._settings.batch_size))
                parts.append(self._train(indices, noise.take(n), first))
            self._losses = np.concatenate(parts)
        self._logged_rate = self._learning_rate
        if not np.isfinite(self._losses[-1, 1]):
            raise self._diverged()

    def _explore(
        self, observations: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Actions [n, actions] in [-1, 1] to step with, before action noise."""
        raise NotImplementedError

    def _train(
        self, indices: NDArray[np.int64], noise: NDArray[np.float32], n_before: int = 0
    ) -> NDArray[np.float64]:
        """Take gradient steps.

        Args:
            indices: [gradient steps, batch], rows of the replay buffer.
            noise: [gradient steps, arrays, batch, actions].
            n_before: earlier gradient steps of the same round.

        Returns:
            Losses [gradient steps, kinds of loss].
        """
        self._begin(indices, noise, n_before)
        return self._finish()

    def _begin(self, indices: NDArray[np.int64], noise: NDArray[np.float32], n_before: int) -> None:
        """Begin gradient steps on the kernels' other threads; the arguments are `_train`'s."""
        raise NotImplementedError

    def _finish(self) -> NDArray[np.float64]:
        """Complete the gradient steps that have begun; return what `_train` does."""
        losses = self._kernel.finish()
        self._n_updates += len(losses)
        self.n_gradient_steps += len(losses)
        return losses

    def _shared_arguments(self) -> SharedArguments:
        settings = self._settings
        return {
            "actor": self.networks["actor"].kernel,
            "critics": [mlp.kernel for name, mlp in self.networks.items() if name != "actor"],
            "adam": self._adam(),
            "batch": settings.batch_size,
            "gamma": settings.gamma,
            "tau": settings.tau,
        }

    def _normalizer_of_batches(self) -> _kernels.Normalizer:
        """How the kernels normalise what they read from the replay buffer."""
        from gallop import _kernels

        settings = self._experiment.normalize
        mean = scale = None
        if settings.observations:
            statistics = self._normalization.observations
            mean = statistics.mean.reshape(-1).astype(np.float32)
            scale = 1 / np.sqrt(statistics.var + Normalizer.epsilon)
            scale = scale.reshape(-1).astype(np.float32)
        reward_scale = 0.0
        if settings.rewards:
            reward_scale = float(1 / np.sqrt(self._normalization.returns.var + Normalizer.epsilon))
        return _kernels.Normalizer(
            mean=mean,
            scale=scale,
            clip=settings.clip_observations,
            reward_scale=reward_scale,
            reward_clip=settings.clip_rewards,
        )

    def _optimizers(self) -> list[Optimized]:
        policy = self._template.policy
        assert isinstance(policy, SACPolicy | TD3Policy)
        return [
            Optimized({f"{name}.{n}": p for n, p in part.named_parameters()}, part.optimizer)
            for name, part in (("actor", policy.actor), ("critic", policy.critic))
        ]

    def _noise_shape(self) -> tuple[int, ...]:
        return (self._noise_arrays, self._settings.batch_size, self._n_actions)

    def load_state(self, folder: Path) -> None:
        """Restore a saved state; see `Learner.load_state`."""
        super().load_state(folder)
        self.replay.n_added = self.timestep // self._experiment.n_envs

    def _dump(self, timestep: int) -> None:
        log = self._log
        log.record("time/episodes", self._n_episodes)
        if self._losses is not None:
            log.record("train/learning_rate", self._logged_rate)
            log.record("train/n_updates", self.n_gradient_steps)
            for name, value in self._logged_losses(self._losses).items():
                log.record(f"train/{name}", value)
            learning = timestep - self._settings.learning_starts
            log.record("train/utd", (self.n_gradient_steps - self._n_before) / learning)
            self._losses = None
        super()._dump(timestep)

    def _logged_losses(self, losses: NDArray[np.float64]) -> dict[str, float]:
        raise NotImplementedError


class _Drawn(NamedTuple):
    """A round of gradient steps whose random numbers are drawn."""

    indices: NDArray[np.int64]
    noise: NDArray[np.float32]
    begun: bool


class _Noise:
    """Standard normal noise for gradient steps, sampled for many of them at once."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self._rng, self._shape = rng, shape
        self._drawn = np.zeros((0, *shape), np.float32)

    def take(self, n: int) -> NDArray[np.float32]:
        """Return fresh noise for n gradient steps, [n, ...]; n is at most NOISE_BLOCK."""
        if len(self._drawn) < n:
            self._drawn = self._rng.standard_normal((NOISE_BLOCK, *self._shape), np.float32)
        taken, self._drawn = self._drawn[:n], self._drawn[n:]
        return taken


def _raw(environments: VecEnv, observations: VecEnvObs) -> Array:
    """The task's own observations: the replay buffer stores them before normalisation."""
    if isinstance(environments, VecNormalize):
        return as_array(environments.get_original_obs())
    return as_array(observations)


def _before_reset(
    observations: Array,
    dones: Array,
    infos: Infos,
    normalized: VecNormalize | None,
) -> tuple[Array, Array]:
    """Replace observations of finished episodes by their last ones, and find true ends.

    After an episode, a vectorised environment returns the first observation of the next one.

    Returns:
        The observations, and whether each episode has terminated: a time limit does not count.
    """
    observations, ends = observations.copy(), dones.copy()
    for i in np.flatnonzero(dones):
        last = infos[i].get("terminal_observation")
        if last is not None:
            observations[i] = last if normalized is None else normalized.unnormalize_obs(last)
        if infos[i].get("TimeLimit.truncated", False):
            ends[i] = False
    return observations, ends
