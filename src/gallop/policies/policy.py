"""The `Policy` protocol: observation → action."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""A NumPy array of any dtype."""

Observations = Any
"""A batch [n, ...] of observations, or a dictionary of such batches (Dict spaces)."""


class Policy(Protocol):
    """Maps observations to actions."""

    def act(self, observations: Observations) -> Array:
        """Return actions [n, ...] for a batch of n raw observations.

        A policy trained on normalised observations normalises them itself.
        """
        ...


def begin_episodes(policy: Policy) -> None:
    """Tell a policy that its next batch of observations starts new episodes.

    Only a policy with a memory has a method `begin`, which erases it.
    """
    begin = getattr(policy, "begin", None)
    if begin is not None:
        begin()
