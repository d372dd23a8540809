"""The Policy protocol: observation → action."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

Observations = Any
"""A batch [n, ...] of observations, or a dictionary of such batches (Dict spaces)."""


class Policy(Protocol):
    """Observation → action, deterministic."""

    def act(self, observations: Observations) -> NDArray[Any]:
        """Actions [n, ...] for a batch of n raw observations; a normaliser is inside."""
        ...
