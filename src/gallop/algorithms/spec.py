"""AlgorithmSpec: everything that depends on the algorithm, declared once.

The rest of the package reads the table (table.py) and never compares an algorithm's name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gallop.algorithms.hyperparameters import (
    Hyperparameters,
    NetArch,
    OffPolicyHyperparameters,
    PolicyKwargs,
)
from gallop.algorithms.policy_networks import Arch, PolicyNetworks

OFF_POLICY_NETWORKS: dict[str, Arch] = {
    "small": [64, 64],
    "medium": [256, 256],
    "big": [400, 300],
    "large": [256, 256, 256],
    "verybig": [512, 512, 512],
}
"""The words of rl-baselines3-zoo's convert_offpolicy_params."""


class Cost(NamedTuple):
    """What training takes, in seconds on one server core of 2026."""

    gradient_step: float
    """Fixed part of a gradient step."""
    row: float
    """For each row of a batch."""
    timestep: float
    """For each timestep, beside the gradient steps."""


@dataclass(frozen=True)
class AlgorithmSpec:
    """What the rest of the package has to know of one algorithm."""

    name: str
    """In experiments, on the command line and in the Zoo: `sac`."""
    hyperparameters: type[Hyperparameters]
    """Declares its hyper-parameters; the command line and YAML follow from it."""
    action_spaces: tuple[str, ...]
    """Action spaces that it serves, by the name of Gymnasium's class."""
    sb3_class: str
    """Import path of the class in SB3 or sb3-contrib, such as `stable_baselines3:SAC`."""
    networks: PolicyNetworks
    """How its networks stand in policy files."""
    sb3_cost: Cost
    """Of training on SB3, networks as SB3 makes them by default."""
    native_class: str = ""
    """Import path of the native learner."""
    why_not_native: str = ""
    """Why there is no native learner, where there is none."""
    native_cost: Cost | None = None
    """Of training on the native learner."""
    default_net_arch: Arch = field(default_factory=lambda: [256, 256])
    """Hidden layers where `policy_kwargs` says nothing: SB3's default."""
    default_activation: str = "relu"
    """Activation function where `policy_kwargs` says nothing."""
    network_words: Mapping[str, Arch] = field(default_factory=lambda: OFF_POLICY_NETWORKS)
    """The Zoo's words for hidden layers, which search spaces may use -> the layers."""

    @property
    def title(self) -> str:
        """For people, and in the names of folders: `SAC`."""
        return self.name.upper()

    @property
    def policy_kwargs(self) -> type[PolicyKwargs]:
        """Declares what `policy_kwargs` may hold."""
        return type(self.hyperparameters().policy_kwargs)

    @property
    def on_policy(self) -> bool:
        """Whether it learns from rollouts that it forgets, instead of from a replay buffer."""
        return not issubclass(self.hyperparameters, OffPolicyHyperparameters)

    @property
    def critic_key(self) -> str:
        """The key of `net_arch` that gives the critics' hidden layers: qf or vf."""
        return "vf" if self.on_policy else "qf"

    def fits(self, arch: NetArch) -> bool:
        """Whether the keys of `net_arch` are this algorithm's."""
        other = {"vf": "qf", "qf": "vf"}[self.critic_key]
        return getattr(arch, self.critic_key) is not None and getattr(arch, other) is None


def imported(path: str) -> type:
    """The class behind an import path of the table, such as `stable_baselines3:SAC`."""
    module, _, name = path.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found
