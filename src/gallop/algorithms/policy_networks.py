"""How an algorithm's networks stand in SB3's policy files, by the names and shapes of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""

Arch: TypeAlias = list[int] | dict[str, list[int]]
"""Hidden layers, as SB3's policy classes take them."""

ActorOutputs: TypeAlias = Literal["squashed", "scaled", "plain"]
"""What the actor's outputs mean: means before tanh, with log_std after them; actions in -1 … 1;
means in the task's own units, or logits."""


class PolicyNetworks(NamedTuple):
    """The networks of a policy file, and SB3's policy classes that hold them."""

    policy_classes: tuple[str, ...]
    """Import paths of the classes: MLP, then CNN, then several inputs, as far as they exist."""
    recognises: Callable[[Shapes], bool]
    """Whether tensors of these names and shapes are a policy of this algorithm."""
    net_arch: Callable[[Shapes], Arch]
    """The hidden layers that the shapes tell."""
    arguments: Callable[[Shapes], dict[str, int | bool]] = lambda shapes: {}
    """Other keyword arguments of the policy class that the shapes tell, such as n_critics."""
    has_sde: bool = False
    """Whether the policy class takes use_sde."""
    plain_arguments: tuple[str, ...] = ()
    """Keyword arguments of the policy class that are plain numbers, beside those of every class."""
    actor_outputs: ActorOutputs = "squashed"
    actor_is_mlp: bool = True
    """Whether the actor is linear layers with activations between them and nothing else, which is
    what the kernels serve."""


def widths(shapes: Shapes, prefix: str) -> list[int]:
    """Outputs of the linear layers `prefix`.0, .2, .4, … in order.

    >>> widths({"actor.mu.0.weight": (64, 3), "actor.mu.2.weight": (1, 64)}, "actor.mu")
    [64, 1]
    """
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    layers = {int(m.group(1)): s[0] for n, s in shapes.items() if (m := pattern.fullmatch(n))}
    return [layers[index] for index in sorted(layers)]


def n_critics(shapes: Shapes) -> int:
    """How many critics there are."""
    return len({name.split(".")[1] for name in shapes if re.match(r"critic\.qf\d+\.", name)})


def has_gaussian_actor(shapes: Shapes) -> bool:
    """Whether the actor gives means and log_std of a squashed Gaussian, or has gSDE's log_std."""
    return any(name.startswith("actor.log_std") for name in shapes)


def has_target_critics(shapes: Shapes) -> bool:
    """Whether the critics have target networks."""
    return any(name.startswith("critic_target.") for name in shapes)


def n_quantiles(shapes: Shapes) -> int:
    """Outputs of a critic: quantiles of the return, or its mean alone."""
    return (widths(shapes, "critic.qf0") or [1])[-1]


def gaussian_arch(shapes: Shapes) -> Arch:
    """Hidden layers of a Gaussian actor and of its critics."""
    return {
        "pi": widths(shapes, "actor.latent_pi"),
        "qf": widths(shapes, "critic.qf0")[:-1],
    }
