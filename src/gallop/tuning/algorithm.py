"""What a search has to know of an algorithm. No other file here names one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gallop.algorithms.hyperparameters import Hyperparameters
from gallop.experiments.settings import EXPERIMENTS

Layers = list[int] | dict[str, list[int]]
"""Hidden layers, as `policy_kwargs.net_arch` takes them."""


class Networks(NamedTuple):
    """An algorithm's networks: SB3's own, and those that the Zoo has words for."""

    net_arch: Layers
    """What SB3 takes where `policy_kwargs` says nothing."""
    activation_fn: str
    """Likewise."""
    words: Mapping[str, Layers]
    """The Zoo's word for hidden layers → the layers."""


_OFF_POLICY_WORDS: dict[str, Layers] = {
    "small": [64, 64],
    "medium": [256, 256],
    "big": [400, 300],
    "large": [256, 256, 256],
    "verybig": [512, 512, 512],
}
_NETWORKS = {
    "sac": Networks([256, 256], "relu", _OFF_POLICY_WORDS),
    "td3": Networks([400, 300], "relu", _OFF_POLICY_WORDS),
    "ppo": Networks(
        [64, 64], "tanh", {"tiny": [64], "small": [64, 64], "medium": [256, 256]}
    ),
}  # fmt: skip


def names() -> list[str]:
    """Algorithms that can be searched."""
    return list(EXPERIMENTS)


def networks(algo: str) -> Networks:
    """What there is to say of the algorithm's networks."""
    return _NETWORKS[algo]


def hyperparameter_class(algo: str) -> type[Hyperparameters]:
    """The class whose fields are the algorithm's hyper-parameters."""
    default = EXPERIMENTS[algo].model_fields["hyperparameters"].default
    assert isinstance(default, Hyperparameters)
    return type(default)
