"""Normalisation of observations with the statistics of one moment of training."""

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
    """Statistics of observations at one moment of training. They accompany a policy file.

    The arithmetic is that of SB3's VecNormalize: clip((x − mean) / sqrt(variance + epsilon)).
    Dict spaces have one entry per key; Box spaces have the single key "".

    >>> normalizer = Normalizer({"": np.array([1.0])}, {"": np.array([4.0])}, count=9, clip=10)
    >>> normalizer(np.array([[1.0], [5.0]])).ravel()
    array([0., 2.], dtype=float32)
    """

    mean: Mapping[str, NDArray[np.float64]]
    """Key -> mean, of the shape of one observation."""
    variance: Mapping[str, NDArray[np.float64]]
    """Key -> variance, of the same shape."""
    count: float
    """Number of observations behind the statistics."""
    clip: float
    """Bound of normalised observations."""
    epsilon: float = 1e-8
    """Added to the variance."""

    def __call__(self, observations: Observations) -> Observations:
        """Normalise a batch of raw observations to float32, which SB3's networks expect.

        Args:
            observations: [n, ...], or a dictionary of such batches.
        """
        if isinstance(observations, Mapping):
            return {key: self._normalise(key, batch) for key, batch in observations.items()}
        return self._normalise("", observations)

    def _normalise(self, key: str, batch: Array) -> Array:
        if key not in self.mean:
            return batch
        scaled = (batch - self.mean[key]) / np.sqrt(self.variance[key] + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the statistics as plain arrays (.npz) without pickle."""
        arrays = {f"mean/{key}": value for key, value in self.mean.items()}
        arrays |= {f"variance/{key}": value for key, value in self.variance.items()}
        scalars = {"count": self.count, "clip": self.clip, "epsilon": self.epsilon}
        np.savez(path, allow_pickle=False, **arrays, **{k: np.array(v) for k, v in scalars.items()})

    @classmethod
    def load(cls, path: Path) -> Normalizer:
        """Read a file that `save` has written.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is not a normaliser file, or larger than one can be.
        """
        try:
            file = read_npz(path, ("count", "clip", "epsilon"), MAX_BYTES)
        except ValueError as error:
            raise ValueError(f"not a normaliser file: {error}") from None
        return cls(
            mean={k.partition("/")[2]: v for k, v in file.items() if k.startswith("mean/")},
            variance={k.partition("/")[2]: v for k, v in file.items() if k.startswith("variance/")},
            count=float(file["count"]),
            clip=float(file["clip"]),
            epsilon=float(file["epsilon"]),
        )
