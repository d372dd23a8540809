"""The normaliser of a policy file: where it lies, and reading it safely."""

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
    """Where the normaliser of a policy file lies."""
    return path.with_name(f"{path.stem}.normalizer.npz")


def normalizer_beside(path: Path) -> Path | None:
    """The normaliser that belongs to a policy file: ours, the hub's, or the Zoo's, which keeps it
    in a folder named after the task, beside the zip of that name and the best policy."""
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
    """Gallop's .npz or the Zoo's .pkl; None if that one normalises no observations.

    Raises:
        PolicyFileError: if it cannot be read, or only by running code.
    """
    normalizer = read_vecnormalize(path) if path.suffix == ".pkl" else _read_npz(path)
    if normalizer is not None and not _is_sound(normalizer):
        raise PolicyFileError(f"{path}: is no normaliser: its statistics are no finite numbers")
    return normalizer


def _read_npz(path: Path) -> Normalizer:
    if not path.exists():
        raise PolicyFileError(f"{path}: cannot be read: there is no such file")
    try:
        with opened(path):  # which holds it to the limits
            return Normalizer.load(path)
    except PolicyFileError:
        raise
    except Exception as error:  # NumPy raises many kinds, MemoryError for a shape that is a lie
        raise PolicyFileError(f"{path}: cannot be read: {error}"[:400]) from None


def _is_sound(normalizer: Normalizer) -> bool:
    """Whether it holds finite numbers alone, and variances that are some."""
    found: list[Any] = [*normalizer.mean.values(), *normalizer.variance.values()]
    scalars = (normalizer.count, normalizer.clip, normalizer.epsilon)
    return (
        normalizer.mean.keys() == normalizer.variance.keys()
        # NumPy gives a member that is no array as bytes.
        and all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in found)
        and all(np.isfinite(array).all() for array in (*found, scalars))
        and all((variance >= 0).all() for variance in normalizer.variance.values())
        and normalizer.epsilon >= 0
    )
