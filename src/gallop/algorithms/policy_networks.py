"""The networks in SB3's policy files, recognised by the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""

Arch: TypeAlias = list[int] | dict[str, list[int]]
"""Hidden layers, as SB3's policy classes take them."""

ActorOutputs: TypeAlias = Literal["squashed", "scaled", "plain"]
"""Meaning of the actor's outputs.

squashed: means before tanh, then log standard deviations; scaled: actions in [-1, 1]; plain: means
in the task's own units, or logits.
"""


class PolicyNetworks(NamedTuple):
    """How one algorithm's networks are stored in a policy file, and SB3's classes for them."""

    policy_classes: tuple[str, ...]
    """Import paths of the classes for vectors, images and Dict observations, those that exist."""
    recognises: Callable[[Shapes], bool]
    """Whether tensors of these names and shapes belong to a policy of this algorithm."""
    net_arch: Callable[[Shapes], Arch]
    """Derives the hidden layers from the shapes."""
    arguments: Callable[[Shapes], dict[str, int | bool]] = lambda shapes: {}
    """Derives other keyword arguments of the policy class from the shapes, such as n_critics."""
    has_sde: bool = False
    """Whether the policy class accepts use_sde."""
    plain_arguments: tuple[str, ...] = ()
    """Further keyword arguments of the policy class, plain numbers that other classes lack."""
    actor_outputs: ActorOutputs = "squashed"
    """Meaning of the actor's outputs."""
    actor_is_mlp: bool = True
    """Whether the actor consists only of linear layers with activations between them, which is what
    the kernels support."""


def widths(shapes: Shapes, prefix: str) -> list[int]:
    """Widths of the linear layers `prefix`.0, .2, .4, … in order.

    >>> widths({"actor.mu.0.weight": (64, 3), "actor.mu.2.weight": (1, 64)}, "actor.mu")
    [64, 1]
    """
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    layers = {int(m.group(1)): s[0] for n, s in shapes.items() if (m := pattern.fullmatch(n))}
    return [layers[index] for index in sorted(layers)]


def n_critics(shapes: Shapes) -> int:
    """Number of critics."""
    return len({name.split(".")[1] for name in shapes if re.match(r"critic\.qf\d+\.", name)})


def has_gaussian_actor(shapes: Shapes) -> bool:
    """Whether the actor is a squashed Gaussian, with or without gSDE."""
    return any(name.startswith("actor.log_std") for name in shapes)


def has_target_critics(shapes: Shapes) -> bool:
    """Whether the critics have target networks."""
    return any(name.startswith("critic_target.") for name in shapes)


def n_quantiles(shapes: Shapes) -> int:
    """Outputs per critic: the number of quantiles of the return, or 1 for its mean."""
    return (widths(shapes, "critic.qf0") or [1])[-1]


def gaussian_arch(shapes: Shapes) -> Arch:
    """Hidden layers of a Gaussian actor and of its critics."""
    return {
        "pi": widths(shapes, "actor.latent_pi"),
        "qf": widths(shapes, "critic.qf0")[:-1],
    }
