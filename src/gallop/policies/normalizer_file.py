"""The normaliser file of a policy: finding it, and reading it safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gallop.policies.normalizer import Normalizer
from gallop.policies.safe_archive import (
    PolicyFileError,
    opened,
)
from gallop.policies.vecnormalize_pickle import read_vecnormalize


def normalizer_path(path: Path) -> Path:
    """Path of the normaliser file that Gallop writes next to a policy file.

    >>> normalizer_path(Path("results/best_model.zip")).as_posix()
    'results/best_model.normalizer.npz'
    """
    return path.with_name(f"{path.stem}.normalizer.npz")


def normalizer_beside(path: Path) -> Path | None:
    """Find the normaliser file of a policy file: Gallop's, the hub's or the Zoo's.

    The Zoo keeps it in a folder named after the task, next to the zip of that name and the best
    policy. None: there is no such file.
    """
    candidates = [
        normalizer_path(path),
        path.with_name("vecnormalize.pkl"),
        path.with_name("vec_normalize.pkl"),
        path.with_suffix("") / "vecnormalize.pkl",
    ]
    if path.stem == "best_model":
        candidates += sorted(path.parent.glob("*/vecnormalize.pkl"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_normalizer(path: Path) -> Normalizer | None:
    """Read a normaliser file: Gallop's .npz or the Zoo's .pkl.

    Returns:
        None if the .pkl does not normalise observations.

    Raises:
        PolicyFileError: if it cannot be read, or only by running code.
    """
    normalizer = read_vecnormalize(path) if path.suffix == ".pkl" else _read_npz(path)
    if normalizer is not None and not _is_sound(normalizer):
        raise PolicyFileError(f"{path}: not a valid normaliser file: its statistics are not finite")
    return normalizer


def _read_npz(path: Path) -> Normalizer:
    if not path.exists():
        raise PolicyFileError(f"{path}: not found")
    try:
        with opened(path):  # checks its size limits
            return Normalizer.load(path)
    except PolicyFileError:
        raise
    except Exception as error:  # NumPy raises many kinds, MemoryError for a false shape
        raise PolicyFileError(f"{path}: cannot be read: {error}"[:400]) from None


def _is_sound(normalizer: Normalizer) -> bool:
    """Whether all statistics are finite, and no variance is negative."""
    found: list[Any] = [*normalizer.mean.values(), *normalizer.variance.values()]
    scalars = (normalizer.count, normalizer.clip, normalizer.epsilon)
    return (
        normalizer.mean.keys() == normalizer.variance.keys()
        # NumPy returns a member that is not an array as bytes.
        and all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in found)
        and all(np.isfinite(array).all() for array in (*found, scalars))
        and all((variance >= 0).all() for variance in normalizer.variance.values())
        and normalizer.epsilon >= 0
    )
