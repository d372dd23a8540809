"""The Policy protocol: observation → action."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""Numbers of whatever type."""

Observations = Any
"""A batch [n, ...] of observations, or a dictionary of such batches (Dict spaces)."""


class Policy(Protocol):
    """Observation → action, deterministic."""

    def act(self, observations: Observations) -> Array:
        """Actions [n, ...] for a batch of n raw observations; a normaliser is inside."""
        ...
