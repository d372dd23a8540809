"""Running statistics of observations and rewards, kept from segment to segment.

SB3's VecNormalize computes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from gallop.experiments.settings import Experiment
from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array
from gallop.policies.safe_archive import PolicyFileError


class RunningNormalization:
    """A learner's running statistics of observations and rewards.

    Attributes:
        returns: statistics of the discounted return, which scale the rewards.
        observations: one RunningMeanStd, one per key of a Dict space, or None.
    """

    def __init__(self, experiment: Experiment, environments: VecEnv) -> None:
        """
        Args:
            experiment: for its settings of normalisation and its discount factor.
            environments: for their observation space.
        """
        self._settings = experiment.normalize
        self._gamma = experiment.hyperparameters.gamma
        self.returns = RunningMeanStd(shape=())
        self.observations: Any = None
        if self._settings.observations:
            normalized = self.wrap(environments)
            assert isinstance(normalized, VecNormalize)
            self.observations = normalized.obs_rms

    def wrap(self, environments: VecEnv) -> VecEnv:
        """Wrap environments to normalise with these statistics and to update them.

        Returns:
            The environments themselves if nothing is normalised.
        """
        settings = self._settings
        if not settings.observations and not settings.rewards:
            return environments
        wrapped = VecNormalize(
            environments,
            norm_obs=settings.observations,
            norm_reward=settings.rewards,
            clip_obs=settings.clip_observations,
            clip_reward=settings.clip_rewards,
            gamma=self._gamma,
        )
        wrapped.ret_rms = self.returns
        if self.observations is not None:
            wrapped.obs_rms = self.observations
        return wrapped

    def normalizer(self) -> Normalizer | None:
        """A copy of the present statistics; None if observations are not normalised."""
        if not self._settings.observations:
            return None
        parts = {
            name.removeprefix("observations/"): statistics
            for name, statistics in self._all()
            if name != "returns"
        }
        return Normalizer(
            mean={key: np.array(part.mean) for key, part in parts.items()},
            variance={key: np.array(part.var) for key, part in parts.items()},
            count=float(max(part.count for part in parts.values())),
            clip=self._settings.clip_observations,
        )

    def take(self, normalizer: Normalizer | None, path: Path) -> None:
        """Start from the statistics that accompany a policy file.

        Args:
            normalizer: the statistics; None if there are none.
            path: the policy file, for error messages.

        Raises:
            PolicyFileError: if only one of the file and the experiment is normalised, or the
                statistics belong to another task.
        """
        if normalizer is None and self.observations is None:
            return
        if normalizer is None or self.observations is None:
            theirs, ours = (
                ("was not trained on normalised observations", "normalises: use --normalize false")
                if normalizer is None
                else ("was trained on normalised observations", "does not: use --normalize true")
            )
            raise PolicyFileError(f"{path}: it {theirs}, but the experiment {ours}")
        parts = {name: part for name, part in self._all() if name != "returns"}
        for name, part in parts.items():
            key = name.removeprefix("observations/")
            if key not in normalizer.mean or normalizer.mean[key].shape != np.shape(part.mean):
                raise PolicyFileError(f"{path}: its normaliser belongs to another task")
            part.mean, part.var = normalizer.mean[key].copy(), normalizer.variance[key].copy()
            part.count = normalizer.count

    def arrays(self) -> dict[str, Array]:
        """All statistics by name, for a resume state."""
        found = {}
        for name, statistics in self._all():
            found[f"{name}/mean"] = np.asarray(statistics.mean)
            found[f"{name}/var"] = np.asarray(statistics.var)
            found[f"{name}/count"] = np.asarray(statistics.count)
        return found

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Restore the statistics that `arrays` has returned."""
        for name, statistics in self._all():
            statistics.mean = arrays[f"{name}/mean"]
            statistics.var = arrays[f"{name}/var"]
            statistics.count = float(arrays[f"{name}/count"])

    def _all(self) -> Iterator[tuple[str, Any]]:
        yield "returns", self.returns
        if self.observations is None:
            return
        if isinstance(self.observations, dict):
            for key, statistics in self.observations.items():
                yield f"observations/{key}", statistics
        else:
            yield "observations/", self.observations
