"""The fastest way to act like an SB3 policy: the kernels if they support it, else PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gallop.algorithms.policy_networks import PolicyNetworks
from gallop.algorithms.table import ALGORITHMS
from gallop.policies import kernels
from gallop.policies.kernels import Mlp, Shape
from gallop.policies.mlp_policy import Head, MlpPolicy
from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array, Policy
from gallop.policies.sb3_names import LayerNames, concatenated, network_layers
from gallop.policies.torch_policy import TorchPolicy, uses_sde

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy


MAX_LAYERS = 33  # of a network in the kernels


def acting(policy: BasePolicy, normalizer: Normalizer | None) -> Policy:
    """Return a policy that acts like this SB3 policy with its present weights.

    It runs on the kernels if they support it, so that evaluation does not depend on the learner or
    the file that the policy comes from; else in PyTorch.

    Args:
        policy: an SB3 policy; its weights are copied if the kernels support it.
        normalizer: normalises the observations, if there is one.
    """
    if kernels.missing() or not _is_plain_mlp(policy):
        return TorchPolicy(policy, normalizer)
    layers = network_layers(policy.state_dict())["actor"]
    if len(layers) > MAX_LAYERS:
        return TorchPolicy(policy, normalizer)
    tensors = {name: tensor.detach().numpy() for name, tensor in policy.state_dict().items()}
    network = Mlp(kernels.acting_engine(), shape_of(policy, "actor", layers, tensors))
    network.write(network.parameters, concatenated(layers, tensors))
    return MlpPolicy(network, head_of(policy), policy.action_space, normalizer)


def _is_plain_mlp(policy: BasePolicy) -> bool:
    """Whether the actor is an MLP with ReLU or Tanh, from Box observations to Box or Discrete
    actions."""
    from gymnasium import spaces

    observations, actions = policy.observation_space, policy.action_space
    return (
        _networks_of(policy) is not None
        and not uses_sde(policy)
        and _activation_of(policy) in ("ReLU", "Tanh")
        and isinstance(observations, spaces.Box)
        and observations.dtype != np.uint8
        and isinstance(actions, spaces.Box | spaces.Discrete)
        and getattr(actions, "start", 0) == 0
        and next(policy.parameters()).device.type == "cpu"
    )


def _activation_of(policy: Any) -> str:
    """PyTorch's name of the activation function."""
    return str(policy.activation_fn.__name__)


def _networks_of(policy: BasePolicy) -> PolicyNetworks | None:
    """The networks of the algorithm whose MLP policy this is; None if the actor is more than an
    MLP."""
    own = f"{type(policy).__module__}:{type(policy).__qualname__}"
    for spec in ALGORITHMS.values():
        if spec.networks.actor_is_mlp and spec.networks.policy_classes[0] == own:
            return spec.networks
    return None


def head_of(policy: BasePolicy) -> Head:
    """What the outputs of the actor mean. The kernels must support the policy."""
    from gymnasium import spaces

    networks = _networks_of(policy)
    assert networks is not None, f"{type(policy)} is not supported by the kernels"
    if networks.actor_outputs != "plain":
        return networks.actor_outputs
    return "choice" if isinstance(policy.action_space, spaces.Discrete) else "clipped"


def shape_of(
    policy: BasePolicy, network: str, layers: LayerNames, tensors: Mapping[str, Array]
) -> Shape:
    """Sizes and activation functions of one of a policy's networks.

    Args:
        policy: an SB3 policy that the kernels support.
        network: its name, such as "actor" or "critic0".
        layers: its layers, from `network_layers`.
        tensors: the policy's state dict as arrays.
    """
    weights = [weight for weight, _ in concatenated(layers, tensors)]
    return Shape(
        widths=[weights[0].shape[1], *(weight.shape[0] for weight in weights)],
        hidden="tanh" if _activation_of(policy) == "Tanh" else "relu",
        last="tanh" if network == "actor" and head_of(policy) == "scaled" else "none",
    )
