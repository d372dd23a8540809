"""SAC on the kernels; the gradient step is native/sac.hpp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecEnv

from gallop.algorithms.sac import SACHyperparameters
from gallop.experiments.settings import Experiment
from gallop.learners.native_off_policy import NativeOffPolicy
from gallop.policies import sb3_zip
from gallop.policies.policy import Array

if TYPE_CHECKING:
    from gallop import _kernels

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # SB3's bounds, as in native/sac.hpp


class NativeSAC(NativeOffPolicy[SACHyperparameters]):
    """Soft actor-critic; the gradient step is native/sac.hpp.

    Attributes:
        entropy: the logarithm of the entropy coefficient, and Adam's two moments of it.
    """

    _hyperparameters = SACHyperparameters
    _noise_arrays = 2

    def __init__(
        self, experiment: Experiment, environments: VecEnv, seed: int, engine: _kernels.Engine
    ) -> None:
        super().__init__(experiment, environments, seed, engine)
        from gallop import _kernels

        model = self._model
        self._learns_entropy = model.ent_coef_optimizer is not None
        self.entropy = np.zeros(3, np.float32)
        with np.errstate(divide="ignore"):  # a coefficient of 0 has the logarithm −∞
            self.entropy[0] = (
                float(model.log_ent_coef.detach())
                if model.log_ent_coef is not None
                else np.log(np.float32(model.ent_coef_tensor))
            )
        self._kernel: _kernels.Sac = _kernels.Sac(
            **self._shared_arguments(),
            entropy=self.entropy,
            learn_entropy=self._learns_entropy,
            target_entropy=float(model.target_entropy) if self._learns_entropy else 0.0,
            target_update_interval=self._settings.target_update_interval,
        )
        self._kernel.use_replay(**self.replay.arrays)

    @property
    def _model(self) -> SAC:
        """SB3's model, which never trains."""
        assert isinstance(self._template, SAC)
        return self._template

    def _explore(
        self, observations: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        outputs = self.networks["actor"].forward(observations)
        mean, log_std = outputs[:, : self._n_actions], outputs[:, self._n_actions :]
        std = np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))
        return np.asarray(np.tanh(mean + std * rng.standard_normal(mean.shape, np.float32)))

    def _begin(self, indices: NDArray[np.int64], noise: NDArray[np.float32], n_before: int) -> None:
        self._kernel.begin(
            indices=indices,
            noise=noise,
            learning_rate=self._learning_rate,
            n_done=self.n_gradient_steps,
            n_before=n_before,
            normalizer=self._normalizer_of_batches(),
        )

    def _logged_losses(self, losses: NDArray[np.float64]) -> dict[str, float]:
        actor, critic, coefficient, coefficient_loss = losses.mean(axis=0)
        logged = {"actor_loss": actor, "critic_loss": critic, "ent_coef": coefficient}
        return logged | ({"ent_coef_loss": coefficient_loss} if self._learns_entropy else {})

    def _own_arrays(self) -> dict[str, Array]:
        return {"entropy": self.entropy}

    def _take_own_arrays(self, arrays: Mapping[str, Array]) -> None:
        self.entropy[:] = arrays["entropy"]

    def save_policy(self, path: Path) -> None:
        """Write an SB3 zip, including the entropy coefficient and its optimizer."""
        import torch

        model = self._model
        if model.log_ent_coef is not None and model.ent_coef_optimizer is not None:
            with torch.no_grad():
                model.log_ent_coef.fill_(float(self.entropy[0]))
            model.ent_coef_optimizer.state.clear()
            if self.n_gradient_steps:
                model.ent_coef_optimizer.state[model.log_ent_coef] = {
                    "step": torch.tensor(float(self.n_gradient_steps)),
                    "exp_avg": torch.tensor(self.entropy[1:2]),
                    "exp_avg_sq": torch.tensor(self.entropy[2:3]),
                }
        super().save_policy(path)

    def _take_own_training(self, found: sb3_zip.Training) -> None:
        if not self._learns_entropy or "log_ent_coef" not in found.variables:
            return
        self.entropy[0] = float(found.variables["log_ent_coef"].detach())
        self.entropy[1:] = 0
        if 0 in (state := found.optimizers.get("ent_coef_optimizer", {})):
            self.entropy[1] = float(state[0]["exp_avg"])
            self.entropy[2] = float(state[0]["exp_avg_sq"])
