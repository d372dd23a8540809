"""A policy on the kernels: one batched forward pass per timestep, without PyTorch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gallop.environments.spaces import Space
from gallop.policies.kernels import Mlp
from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array, Observations

Head = Literal["squashed", "scaled", "clipped", "choice"]
"""What the network's outputs mean.

squashed: SAC's means before tanh, followed by log_std; scaled: TD3's actions in [-1, 1]; clipped:
PPO's means in the task's own units; choice: PPO's logits.
"""


class MlpPolicy:
    """Maps raw observations to deterministic actions, as SB3's `predict` does.

    A row does not depend on the other rows: an episode has the same bits regardless of how many
    others are evaluated with it.
    """

    def __init__(
        self,
        network: Mlp,
        head: Head,
        action_space: Space,
        normalizer: Normalizer | None,
    ) -> None:
        """
        Args:
            network: the actor.
            head: what its outputs mean.
            action_space: the task's action space, Box or Discrete.
            normalizer: normalises the observations, if there is one.
        """
        self._network = network
        self._head = head
        self._shape = action_space.shape or ()
        self._normalizer = normalizer
        if head != "choice":
            self._low, self._high = bounds(action_space)

    def act(self, observations: Observations) -> Array:
        """Actions [n, ...] for a batch of n raw observations."""
        if self._normalizer is not None:
            observations = self._normalizer(observations)
        outputs = self._network.forward(as_rows(observations))
        if self._head == "choice":
            return np.asarray(outputs.argmax(axis=1))
        if self._head == "clipped":
            actions = np.clip(outputs, self._low, self._high)
        else:
            scaled = outputs
            if self._head == "squashed":
                scaled = np.tanh(outputs[:, : outputs.shape[1] // 2])
            actions = unscale(scaled, self._low, self._high)
        return actions.reshape(-1, *self._shape)


def as_rows(observations: Observations) -> NDArray[np.float32]:
    """Flatten a batch [n, ...] to float32 [n, size of an observation].

    >>> as_rows(np.zeros((4, 2, 3))).shape
    (4, 6)
    """
    return np.ascontiguousarray(observations.reshape(len(observations), -1), dtype=np.float32)


def bounds(action_space: Space) -> tuple[Array, Array]:
    """Lowest and highest action of a Box space, each flattened to [actions]."""
    space: Any = action_space
    return space.low.reshape(-1), space.high.reshape(-1)


def unscale(scaled: Array, low: Array, high: Array) -> Array:
    """Scale actions from [-1, 1] to the task's own units.

    >>> unscale(np.array([-1.0, 0.0, 1.0]), np.array([0.0]), np.array([2.0]))
    array([0., 1., 2.])
    """
    actions: Array = low + 0.5 * (scaled + 1.0) * (high - low)
    return actions.astype(low.dtype, copy=False)
