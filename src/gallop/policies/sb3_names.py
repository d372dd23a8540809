"""SB3's names of layers and activation functions, and the networks that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from gallop.policies.policy import Array

if TYPE_CHECKING:
    import torch


# Name of an activation function in experiments -> PyTorch's class. No other one is accepted.
ACTIVATIONS = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "elu": "ELU",
    "leaky_relu": "LeakyReLU",
    "silu": "SiLU",
    "gelu": "GELU",
}


LayerNames = list[tuple[str, ...]]
"""For each layer of a network: SB3's names of the linear layers whose outputs it concatenates."""


def network_layers(names: Iterable[str]) -> dict[str, LayerNames]:
    """Find the networks in an SB3 state dict: "actor", then "critic0", "critic1", … (PPO: "value").

    >>> network_layers(["actor.mu.0.weight", "actor.mu.2.weight", "critic.qf0.0.weight"])
    {'actor': [('actor.mu.0',), ('actor.mu.2',)], 'critic0': [('critic.qf0.0',)]}

    Args:
        names: names of the tensors.

    Raises:
        ValueError: if there is no actor that Gallop knows.
    """
    linear = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}

    def sequence(prefix: str) -> LayerNames:
        numbered = [re.fullmatch(re.escape(prefix) + r"\.(\d+)", name) for name in linear]
        numbers = sorted(int(found.group(1)) for found in numbered if found)
        return [(f"{prefix}.{number}",) for number in numbers]

    if "action_net" in linear:
        return {
            "actor": [*sequence("mlp_extractor.policy_net"), ("action_net",)],
            "value": [*sequence("mlp_extractor.value_net"), ("value_net",)],
        }
    if {"actor.mu", "actor.log_std"} <= linear:
        actor = [*sequence("actor.latent_pi"), ("actor.mu", "actor.log_std")]
    elif not (actor := sequence("actor.mu")):
        raise ValueError("none of these tensors belongs to an actor that Gallop knows")
    found = {"actor": actor}
    while critic := sequence(f"critic.qf{len(found) - 1}"):
        found[f"critic{len(found) - 1}"] = critic
    return found


def of_target(layers: LayerNames) -> LayerNames:
    """SB3's names of the same layers in the target network.

    >>> of_target([("critic.qf0.0",)])
    [('critic_target.qf0.0',)]
    """
    return [tuple(re.sub(r"^(\w+)\.", r"\1_target.", name) for name in names) for names in layers]


def concatenated(layers: LayerNames, tensors: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    """Concatenate SB3's tensors to each layer's weight [outputs, inputs] and bias [outputs]."""
    return [
        (
            np.concatenate([tensors[f"{name}.weight"] for name in names]),
            np.concatenate([tensors[f"{name}.bias"] for name in names]),
        )
        for names in layers
    ]


def split(layers: LayerNames, values: Iterable[tuple[Array, Array]]) -> dict[str, Array]:
    """Split layers into tensors by SB3's names: the inverse of `concatenated`.

    The parts of a concatenated layer have equal sizes.
    """
    tensors = {}
    for names, (weight, bias) in zip(layers, values, strict=True):
        for part, name in enumerate(names):
            rows = slice(part * len(bias) // len(names), (part + 1) * len(bias) // len(names))
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight[rows], bias[rows]
    return tensors


def activation_class(name: str) -> type[torch.nn.Module]:
    """PyTorch's class of an activation function, from its name in experiments."""
    import torch

    found: type[torch.nn.Module] = getattr(torch.nn, ACTIVATIONS[name])
    return found
