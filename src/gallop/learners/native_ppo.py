"""The native learner's loop for PPO: rollout, advantages, epochs of minibatches, in SB3's order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from gallop.algorithms.ppo import PPOHyperparameters
from gallop.experiments.settings import Experiment
from gallop.learners.native import Infos, NativeLearner, Optimized, as_array
from gallop.policies import sb3_zip
from gallop.policies.kernels import aligned_zeros
from gallop.policies.mlp_policy import as_rows
from gallop.policies.policy import Array

if TYPE_CHECKING:
    from gallop import _kernels

LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)
VALUE_BLOCK = 1024  # rows
LOSSES = ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "approx_kl")


class Rollout(TypedDict):
    """The data of an epoch, with n = n_steps × n_envs rows."""

    observations: NDArray[np.float32]
    """[n, size of an observation], normalised if the experiment says so."""
    actions: NDArray[np.float32]
    """[n, actions], before clipping; [n, 1] for Discrete spaces."""
    values: NDArray[np.float32]
    """[n], estimated while acting."""
    log_probs: NDArray[np.float32]
    """[n], of the actions."""
    advantages: NDArray[np.float32]
    """[n], by generalised advantage estimation."""
    returns: NDArray[np.float32]
    """[n], advantages + values."""


class NativePPO(NativeLearner[PPOHyperparameters]):
    """Proximal policy optimisation; the gradient step is native/ppo.hpp."""

    _hyperparameters = PPOHyperparameters

    def __init__(
        self, experiment: Experiment, environments: VecEnv, seed: int, engine: _kernels.Engine
    ) -> None:
        super().__init__(experiment, environments, seed, engine)
        from gallop import _kernels

        self._discrete = self._head == "choice"
        n_actions = self.networks["actor"].kernel.layout[-1][1]
        self._n_actions = n_actions
        padded = -(-n_actions // _kernels.PANEL) * _kernels.PANEL
        # log_std and Adam's two moments of it; unused for Discrete actions.
        self.log_std = [aligned_zeros(padded, 0) for _ in range(3)]
        if not self._discrete:
            self.log_std[0][:n_actions] = self._policy.log_std.detach().numpy()
        settings = self._settings
        self._kernel = _kernels.Ppo(
            policy=self.networks["actor"].kernel,
            value=self.networks["value"].kernel,
            log_std=self.log_std[0],
            log_std_first_moment=self.log_std[1],
            log_std_second_moment=self.log_std[2],
            adam=self._adam(),
            batch=settings.batch_size,
            discrete=self._discrete,
            normalize_advantage=settings.normalize_advantage,
            entropy_weight=settings.ent_coef,
            value_weight=settings.vf_coef,
            max_gradient_norm=settings.max_grad_norm,
            target_kl=settings.target_kl or 0.0,
        )
        self._diagnostics: dict[str, float] = {}

    def _learn(
        self,
        environments: VecEnv,
        rng: np.random.Generator,
        end: int,
        horizon: int,
        tick: Callable[[int], None],
    ) -> None:
        log_interval = self._experiment.log_interval or 1
        observations = as_array(environments.reset())
        starts = np.ones(environments.num_envs, np.float32)
        iteration = 0
        while self.timestep < end:
            rollout, observations, starts = self._collect(
                environments, observations, starts, rng, tick
            )
            iteration += 1
            if iteration % log_interval == 0:
                self._log.record("time/iterations", iteration)
                self._dump(self.timestep)
            self._train(rollout, rng, horizon)
            if not all(np.isfinite(value) for value in self._diagnostics.values()):
                raise self._diverged()
            for name, value in self._diagnostics.items():
                self._log.record(name, value)

    def _collect(
        self,
        environments: VecEnv,
        observations: Array,
        starts: NDArray[np.float32],
        rng: np.random.Generator,
        tick: Callable[[int], None],
    ) -> tuple[Rollout, Array, NDArray[np.float32]]:
        """Collect n_steps timesteps of every environment.

        Returns:
            The rollout, the observations that follow, and whether these start an episode.
        """
        n_steps, n_envs = self._settings.n_steps, environments.num_envs
        actor = self.networks["actor"]
        n_actions = 1 if self._discrete else self._n_actions
        n_observations = actor.kernel.layout[0][0]
        of_rows = {
            "observations": np.empty((n_steps, n_envs, n_observations), np.float32),
            "outputs": np.empty((n_steps, n_envs, self._n_actions), np.float32),
            "actions": np.empty((n_steps, n_envs, n_actions), np.float32),
        }
        of_steps = {name: np.empty((n_steps, n_envs), np.float32) for name in ("rewards", "starts")}
        shape = environments.action_space.shape or ()
        noise = self._exploration_noise(rng, n_steps, n_envs)
        added = noise if self._discrete else np.exp(self._log_std) * noise
        for step in range(n_steps):
            rows = as_rows(observations)
            outputs = actor.forward(rows)
            of_rows["observations"][step] = rows
            of_rows["outputs"][step] = outputs
            of_steps["starts"][step] = starts
            if self._discrete:
                taken: Array = (outputs + added[step]).argmax(axis=1)
                of_rows["actions"][step, :, 0] = taken
            else:
                actions = outputs + added[step]
                of_rows["actions"][step] = actions
                taken = np.clip(actions, self._low, self._high).reshape(n_envs, *shape)
            following, rewards, dones, infos = environments.step(taken)
            observations = as_array(following)
            self.timestep += n_envs
            tick(self.timestep)
            if dones.any():
                self._n_episodes += self._note_episodes(dones, infos)
                rewards = self._bootstrapped(rewards, dones, infos)
            of_steps["rewards"][step] = rewards
            starts = dones.astype(np.float32)
        n = n_steps * n_envs
        flat = {name: array.reshape(n, -1) for name, array in of_rows.items()}
        # At once for all timesteps: the bits of a row do not depend on the other rows.
        of_steps["values"] = self._values(flat["observations"]).reshape(n_steps, n_envs)
        log_probs = self._log_probs(flat["outputs"], flat["actions"], noise.reshape(n, -1))
        of_steps["advantages"] = self._advantages(of_steps, as_rows(observations), starts)
        rollout: Rollout = {
            "observations": flat["observations"],
            "actions": flat["actions"],
            "values": of_steps["values"].reshape(n),
            "log_probs": log_probs,
            "advantages": of_steps["advantages"].reshape(n),
            "returns": (of_steps["advantages"] + of_steps["values"]).reshape(n),
        }
        return rollout, observations, starts

    def _values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The value function at observations [n, ...], in blocks that need little memory."""
        blocks = range(0, len(observations), VALUE_BLOCK)
        forward = self.networks["value"].forward
        return np.concatenate([forward(observations[i : i + VALUE_BLOCK])[:, 0] for i in blocks])

    def _advantages(
        self,
        of_steps: Mapping[str, NDArray[np.float32]],
        last_observations: NDArray[np.float32],
        last_starts: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        from gallop import _kernels

        return _kernels.advantages(
            rewards=of_steps["rewards"],
            values=of_steps["values"],
            starts=of_steps["starts"],
            last_values=np.ascontiguousarray(
                self.networks["value"].forward(last_observations)[:, 0]
            ),
            last_starts=last_starts,
            gamma=self._settings.gamma,
            gae_lambda=self._settings.gae_lambda,
        )

    def _exploration_noise(
        self, rng: np.random.Generator, n_steps: int, n_envs: int
    ) -> NDArray[np.float32]:
        """Noise [n_steps, n_envs, actions]: standard normal, or Gumbel for Discrete actions.

        The index of the largest logit plus Gumbel noise is a sample of the softmax.
        Source: Gumbel 1954; Maddison et al. 2014 (arXiv:1411.0030).
        """
        shape = (n_steps, n_envs, self._n_actions)
        if not self._discrete:
            return rng.standard_normal(shape, np.float32)
        return rng.gumbel(size=shape).astype(np.float32)

    def _log_probs(
        self,
        outputs: NDArray[np.float32],
        actions: NDArray[np.float32],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Log-probabilities [n] of actions [n, ...] sampled from these outputs with this noise."""
        if self._discrete:
            shifted = outputs - outputs.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            chosen: NDArray[np.float32] = log_p[
                np.arange(len(log_p)), actions[:, 0].astype(np.int64)
            ]
            return chosen
        constant = self._log_std.sum() + np.float32(self._n_actions * LOG_SQRT_2_PI)
        return np.asarray(np.float32(-0.5) * (noise * noise).sum(axis=1) - constant, np.float32)

    @property
    def _log_std(self) -> NDArray[np.float32]:
        """The logarithm of the Gaussian's standard deviation, [actions]."""
        return self.log_std[0][: self._n_actions]

    def _bootstrapped(self, rewards: Array, dones: Array, infos: Infos) -> Array:
        """Add the discounted value of the last observation where a time limit ended the episode."""
        rewards = rewards.copy()
        for i in np.flatnonzero(dones):
            last = infos[i].get("terminal_observation")
            if last is not None and infos[i].get("TimeLimit.truncated", False):
                following = self.networks["value"].forward(as_rows(last[None]))
                rewards[i] += self._settings.gamma * following[0, 0]
        return rewards

    def _train(self, rollout: Rollout, rng: np.random.Generator, horizon: int) -> None:
        settings = self._settings
        learning_rate = self._rate(settings.learning_rate, horizon)
        clip_range = self._rate(settings.clip_range, horizon)
        clip_range_value = 0.0
        if settings.clip_range_vf is not None:
            clip_range_value = self._rate(settings.clip_range_vf, horizon)
        n = len(rollout["values"])
        n_batches = -(-n // settings.batch_size)
        tables = []
        for _ in range(settings.n_epochs):
            losses, n_learnt = self._kernel.epoch(
                indices=rng.permutation(n),
                **rollout,
                learning_rate=learning_rate,
                n_done=self.n_gradient_steps,
                clip_range=clip_range,
                clip_range_value=clip_range_value,
            )
            tables.append(losses)
            self.n_gradient_steps += n_learnt
            self._n_updates += 1
            if n_learnt < n_batches:
                break
        means = np.concatenate(tables).mean(axis=0)
        record = {f"train/{name}": float(means[i]) for i, name in enumerate(LOSSES)}
        record["train/approx_kl"] = float(tables[-1][:, 4].mean())  # SB3: of the last epoch
        record["train/loss"] = float(tables[-1][-1, 5])
        explained = _explained_variance(rollout["values"], rollout["returns"])
        if np.isfinite(explained):
            record["train/explained_variance"] = explained
        if not self._discrete:
            record["train/std"] = float(np.exp(self._log_std).mean())
        record["train/learning_rate"] = learning_rate
        record["train/n_updates"] = self._n_updates
        record["train/clip_range"] = clip_range
        if settings.clip_range_vf is not None:
            record["train/clip_range_vf"] = clip_range_value
        record["train/utd"] = settings.utd_ratio(self._experiment.n_envs)
        self._diagnostics = record

    def _own_arrays(self) -> dict[str, Array]:
        if self._discrete:
            return {}
        names = ("policy/log_std", "first_moment/log_std", "second_moment/log_std")
        return {n: a[: self._n_actions] for n, a in zip(names, self.log_std, strict=True)}

    def _take_own_arrays(self, arrays: Mapping[str, Array]) -> None:
        for name, array in self._own_arrays().items():
            array[:] = arrays[name]

    def _own_tensors(self) -> dict[str, NDArray[np.float32]]:
        return {} if self._discrete else {"log_std": self._log_std.copy()}

    def _moments(self, moment: str) -> dict[str, NDArray[np.float32]]:
        own = {} if self._discrete else {"log_std": self._own_arrays()[f"{moment}/log_std"]}
        return super()._moments(moment) | own

    def _take_moments(self, moment: str, parts: Mapping[str, Array]) -> None:
        super()._take_moments(moment, parts)
        if not self._discrete:
            self._own_arrays()[f"{moment}/log_std"][:] = parts["log_std"]

    def _take_own_training(self, found: sb3_zip.Training) -> None:
        if not self._discrete:
            self.log_std[0][: self._n_actions] = found.tensors["log_std"]

    @property
    def _policy(self) -> ActorCriticPolicy:
        """SB3's policy, which never trains."""
        policy = self._template.policy
        assert isinstance(policy, ActorCriticPolicy)
        return policy

    def _optimizers(self) -> list[Optimized]:
        return [Optimized(dict(self._policy.named_parameters()), self._policy.optimizer)]

    def _optimizer_files(self) -> list[str]:
        return ["policy.optimizer"]

    def _check_finite(self) -> None:
        super()._check_finite()
        if not np.isfinite(self.log_std[0]).all():
            raise self._diverged()


def _explained_variance(predicted: Array, actual: Array) -> float:
    """1 − var(actual − predicted) / var(actual); NaN if `actual` does not vary.

    >>> _explained_variance(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    1.0
    """
    variance = float(np.var(actual))
    return float("nan") if variance == 0 else 1 - float(np.var(actual - predicted)) / variance
