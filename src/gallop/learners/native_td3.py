"""TD3 on the kernels; the gradient step is native/td3.hpp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from gallop.algorithms.td3 import TD3Hyperparameters
from gallop.experiments.settings import Experiment
from gallop.learners.native_off_policy import NativeOffPolicy

if TYPE_CHECKING:
    from gallop import _kernels


class NativeTD3(NativeOffPolicy[TD3Hyperparameters]):
    """Twin delayed DDPG; the gradient step is native/td3.hpp."""

    _hyperparameters = TD3Hyperparameters
    _noise_arrays = 1
    _target_of_actor = True

    def __init__(
        self, experiment: Experiment, environments: VecEnv, seed: int, engine: _kernels.Engine
    ) -> None:
        super().__init__(experiment, environments, seed, engine)
        from gallop import _kernels

        self._kernel: _kernels.Td3 = _kernels.Td3(
            **self._shared_arguments(),
            target_noise=self._settings.target_policy_noise,
            target_noise_clip=self._settings.target_noise_clip,
            policy_delay=self._settings.policy_delay,
        )
        self._kernel.use_replay(**self.replay.arrays)

    def _explore(
        self, observations: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        return self.networks["actor"].forward(observations)

    def _begin(self, indices: NDArray[np.int64], noise: NDArray[np.float32], n_before: int) -> None:
        self._kernel.begin(
            indices=indices,
            noise=noise,
            learning_rate=self._learning_rate,
            n_done=self.n_gradient_steps,
            normalizer=self._normalizer_of_batches(),
        )

    def _logged_losses(self, losses: NDArray[np.float64]) -> dict[str, float]:
        actor, critic = losses[:, 0], losses[:, 1]
        logged = {"critic_loss": float(critic.mean())}
        # The actor learns only in every policy_delay-th gradient step.
        if not np.isnan(actor).all():
            logged["actor_loss"] = float(np.nanmean(actor))
        return logged

    def _n_optimizer_steps(self, name: str) -> int:
        if name.startswith("actor."):
            return self.n_gradient_steps // self._settings.policy_delay
        return self.n_gradient_steps
