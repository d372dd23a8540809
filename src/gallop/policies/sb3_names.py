"""SB3's names of layers and activation functions, and the networks behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from gallop.policies.policy import Array

if TYPE_CHECKING:
    import torch


# SB3's readable name of an activation function -> ours. Nothing outside this list is accepted.
ACTIVATIONS = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "elu": "ELU",
    "leaky_relu": "LeakyReLU",
    "silu": "SiLU",
    "gelu": "GELU",
}


# A layer of one of our networks: SB3's names of the linear layers whose outputs it joins.
LayerNames = list[tuple[str, ...]]


def network_layers(names: Iterable[str]) -> dict[str, LayerNames]:
    """Networks behind an SB3 state dict: "actor", then "critic0", "critic1", … (PPO: "value").

    >>> network_layers(["actor.mu.0.weight", "actor.mu.2.weight", "critic.qf0.0.weight"])
    {'actor': [('actor.mu.0',), ('actor.mu.2',)], 'critic0': [('critic.qf0.0',)]}
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
        raise ValueError("none of these tensors are layers of an actor that is known here")
    found = {"actor": actor}
    while critic := sequence(f"critic.qf{len(found) - 1}"):
        found[f"critic{len(found) - 1}"] = critic
    return found


def of_target(layers: LayerNames) -> LayerNames:
    """SB3's names of the same layers in the target network."""
    return [tuple(re.sub(r"^(\w+)\.", r"\1_target.", name) for name in names) for names in layers]


def joined(layers: LayerNames, tensors: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    """Weight and bias of each layer."""
    return [
        (
            np.concatenate([tensors[f"{name}.weight"] for name in names]),
            np.concatenate([tensors[f"{name}.bias"] for name in names]),
        )
        for names in layers
    ]


def parted(layers: LayerNames, values: Iterable[tuple[Array, Array]]) -> dict[str, Array]:
    """The reverse of `joined`: tensors by SB3's names. Joined layers have equal parts."""
    tensors = {}
    for names, (weight, bias) in zip(layers, values, strict=True):
        for part, name in enumerate(names):
            rows = slice(part * len(bias) // len(names), (part + 1) * len(bias) // len(names))
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight[rows], bias[rows]
    return tensors


def activation_class(name: str) -> type[torch.nn.Module]:
    """PyTorch's class of an activation function by its name in experiments."""
    import torch

    found: type[torch.nn.Module] = getattr(torch.nn, ACTIVATIONS[name])
    return found
