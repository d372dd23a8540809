"""The normalisation of observations at one moment of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallop.policies.policy import Array, Observations
from gallop.reading import read_npz

MAX_BYTES = 1 << 25  # statistics of 100,000 observations take two megabytes


@dataclass(frozen=True)
class Normalizer:
    """Statistics of observations at one moment of training: what a policy file needs beside it.

    Same arithmetic as SB3's VecNormalize: clip((x − mean) / sqrt(variance + epsilon)).
    Dict spaces have one entry a key; Box spaces have the one key "".
    """

    mean: Mapping[str, NDArray[np.float64]]
    variance: Mapping[str, NDArray[np.float64]]
    count: float
    clip: float
    epsilon: float = 1e-8

    def __call__(self, observations: Observations) -> Observations:
        """Normalise a batch of raw observations; float32, as SB3's networks take them."""
        if isinstance(observations, Mapping):
            return {key: self._normalise(key, batch) for key, batch in observations.items()}
        return self._normalise("", observations)

    def _normalise(self, key: str, batch: Array) -> Array:
        if key not in self.mean:
            return batch
        scaled = (batch - self.mean[key]) / np.sqrt(self.variance[key] + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write plain arrays, no pickle."""
        arrays = {f"mean/{key}": value for key, value in self.mean.items()}
        arrays |= {f"variance/{key}": value for key, value in self.variance.items()}
        scalars = {"count": self.count, "clip": self.clip, "epsilon": self.epsilon}
        np.savez(path, allow_pickle=False, **arrays, **{k: np.array(v) for k, v in scalars.items()})

    @classmethod
    def load(cls, path: Path) -> Normalizer:
        """Read what `save` wrote.

        Raises:
            OSError, ValueError: if the file is something else, or larger than a normaliser can be.
        """
        try:
            file = read_npz(path, ("count", "clip", "epsilon"), MAX_BYTES)
        except ValueError as error:
            raise ValueError(f"is no normaliser: {error}") from None
        return cls(
            mean={k.partition("/")[2]: v for k, v in file.items() if k.startswith("mean/")},
            variance={k.partition("/")[2]: v for k, v in file.items() if k.startswith("variance/")},
            count=float(file["count"]),
            clip=float(file["clip"]),
            epsilon=float(file["epsilon"]),
        )
