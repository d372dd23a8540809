"""AlgorithmSpec: everything that depends on the algorithm, declared once.

The rest of the package reads the table (table.py) and never compares the names of algorithms.
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
"""Names of hidden layers in rl-baselines3-zoo's convert_offpolicy_params."""


class Cost(NamedTuple):
    """Time that training takes, in seconds on one server core of 2026."""

    gradient_step: float
    """Fixed time per gradient step."""
    row: float
    """Time per row of a batch, for each gradient step."""
    timestep: float
    """Time per timestep, without the gradient steps."""


@dataclass(frozen=True)
class AlgorithmSpec:
    """Everything that the rest of the package needs to know about one algorithm."""

    name: str
    """Name in experiments, on the command line and in the Zoo, such as `sac`."""
    hyperparameters: type[Hyperparameters]
    """Declaration of its hyper-parameters; the command line and YAML follow from it."""
    action_spaces: tuple[str, ...]
    """Supported action spaces, by the names of Gymnasium's classes."""
    sb3_class: str
    """Import path of the class in SB3 or sb3-contrib, such as `stable_baselines3:SAC`."""
    networks: PolicyNetworks
    """How its networks are stored in policy files."""
    sb3_cost: Cost
    """Time that training on SB3 takes, with SB3's default networks."""
    native_class: str = ""
    """Import path of the native learner; empty if there is none."""
    why_not_native: str = ""
    """Why there is no native learner; empty if there is one."""
    native_cost: Cost | None = None
    """Time that training on the native learner takes."""
    default_net_arch: Arch = field(default_factory=lambda: [256, 256])
    """Hidden layers if `policy_kwargs` does not set them: SB3's default."""
    default_activation: str = "relu"
    """Activation function if `policy_kwargs` does not set it: SB3's default."""
    network_words: Mapping[str, Arch] = field(default_factory=lambda: OFF_POLICY_NETWORKS)
    """The Zoo's names of hidden layers, which search spaces may use -> the layers."""

    @property
    def title(self) -> str:
        """Name in messages and in the names of folders, such as `SAC` or `CROSSQ`."""
        return self.name.upper()

    @property
    def display_name(self) -> str:
        """Name as in the literature, such as `SAC` or `CrossQ`."""
        return self.hyperparameters.__name__.removesuffix("Hyperparameters")

    @property
    def policy_kwargs(self) -> type[PolicyKwargs]:
        """Declaration of its `policy_kwargs`."""
        return type(self.hyperparameters().policy_kwargs)

    @property
    def on_policy(self) -> bool:
        """Whether it learns from its latest rollout only, without a replay buffer."""
        return not issubclass(self.hyperparameters, OffPolicyHyperparameters)

    @property
    def critic_key(self) -> str:
        """The key of `net_arch` for the hidden layers of the critics: qf or vf."""
        return "vf" if self.on_policy else "qf"

    def fits(self, arch: NetArch) -> bool:
        """Whether `net_arch` has the keys of this algorithm."""
        other = {"vf": "qf", "qf": "vf"}[self.critic_key]
        return getattr(arch, self.critic_key) is not None and getattr(arch, other) is None


def imported(path: str) -> type:
    """Import the class of an import path, such as `stable_baselines3:SAC`."""
    module, _, name = path.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found
