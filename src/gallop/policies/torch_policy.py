"""SB3's policies in PyTorch behind the Policy protocol, deterministic or stochastic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array, Observations

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy


class TorchPolicy:
    """An SB3 policy behind the `Policy` protocol: raw observations → deterministic actions."""

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None) -> None:
        self._policy = policy
        self._normalizer = normalizer
        self._memory: Any = None  # of a recurrent policy, for each episode of the batch

    def begin(self) -> None:
        """Erase the memory of a recurrent policy, because new episodes start."""
        self._memory = None

    def act(self, observations: Observations) -> Array:
        """Return deterministic actions [n, ...] for a batch of n raw observations."""
        return self._predict(observations, deterministic=True)

    def _predict(self, observations: Observations, deterministic: bool) -> Array:
        if self._normalizer is not None:
            observations = self._normalizer(observations)
        with _one_thread():
            actions, self._memory = self._policy.predict(
                observations, self._memory, deterministic=deterministic
            )
        return np.asarray(actions)


class StochasticPolicy(TorchPolicy):
    """The same, with actions sampled from the policy's distribution, all from one seed.

    gSDE's noise matrices are sampled once, one per observation of the batch, as SB3 does at the
    start of a rollout.
    """

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None, seed: int) -> None:
        import torch

        super().__init__(policy, normalizer)
        generator = torch.Generator()
        generator.manual_seed(seed)
        self._state = generator.get_state()
        self._has_noise = False

    def act(self, observations: Observations) -> Array:
        """Return sampled actions [n, ...] for a batch of n raw observations."""
        import torch

        policy: Any = self._policy
        with torch.random.fork_rng(devices=[]):  # SB3 samples from the global generator
            torch.set_rng_state(self._state)
            if not self._has_noise and uses_sde(policy):
                some = (
                    next(iter(observations.values()))
                    if isinstance(observations, Mapping)
                    else observations
                )
                getattr(policy, "actor", policy).reset_noise(len(some))
                self._has_noise = True
            actions = self._predict(observations, deterministic=False)
            self._state = torch.get_rng_state()
        return actions


def uses_sde(policy: Any) -> bool:
    """Whether an SB3 policy, or its actor, explores with gSDE."""
    return bool(getattr(policy, "use_sde", False)) or bool(
        getattr(getattr(policy, "actor", None), "use_sde", False)
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """In the body, let PyTorch use one thread.

    The number of threads changes the bits of a matrix product, and so the whole episode. What a
    policy does must not depend on the process that runs it.
    """
    import torch

    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
