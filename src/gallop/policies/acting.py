"""An SB3 policy → whatever acts like it fastest: the kernels where they serve it, else PyTorch."""

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
from gallop.policies.sb3_names import LayerNames, joined, network_layers
from gallop.policies.torch_policy import TorchPolicy, uses_sde

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy


MAX_LAYERS = 33  # of a network on the kernels


def acting(policy: BasePolicy, normalizer: Normalizer | None) -> Policy:
    """What acts like this SB3 policy as it is now: on the kernels where they serve it, so that
    evaluating does not depend on which learner or file it comes from, else in PyTorch."""
    if kernels.missing() or not _is_plain_mlp(policy):
        return TorchPolicy(policy, normalizer)
    layers = network_layers(policy.state_dict())["actor"]
    if len(layers) > MAX_LAYERS:
        return TorchPolicy(policy, normalizer)
    tensors = {name: tensor.detach().numpy() for name, tensor in policy.state_dict().items()}
    network = Mlp(kernels.acting_engine(), shape_of(policy, "actor", layers, tensors))
    network.write(network.parameters, joined(layers, tensors))
    return MlpPolicy(network, head_of(policy), policy.action_space, normalizer)


def _is_plain_mlp(policy: BasePolicy) -> bool:
    """Whether its actor is an MLP with ReLU or Tanh of a Box, for Box or Discrete actions."""
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
    """PyTorch's name of its activation function."""
    return str(policy.activation_fn.__name__)


def _networks_of(policy: BasePolicy) -> PolicyNetworks | None:
    """The networks of an algorithm whose MLP policy this is; None where the actor is more."""
    own = f"{type(policy).__module__}:{type(policy).__qualname__}"
    for spec in ALGORITHMS.values():
        if spec.networks.actor_is_mlp and spec.networks.policy_classes[0] == own:
            return spec.networks
    return None


def head_of(policy: BasePolicy) -> Head:
    """What the outputs of its actor mean. The policy is one that the kernels serve."""
    from gymnasium import spaces

    networks = _networks_of(policy)
    assert networks is not None, f"{type(policy)} is not served by the kernels"
    if networks.actor_outputs != "plain":
        return networks.actor_outputs
    return "choice" if isinstance(policy.action_space, spaces.Discrete) else "clipped"


def shape_of(
    policy: BasePolicy, network: str, layers: LayerNames, tensors: Mapping[str, Array]
) -> Shape:
    """Sizes and activations of one of a policy's networks."""
    weights = [weight for weight, _ in joined(layers, tensors)]
    return Shape(
        widths=[weights[0].shape[1], *(weight.shape[0] for weight in weights)],
        hidden="tanh" if _activation_of(policy) == "Tanh" else "relu",
        last="tanh" if network == "actor" and head_of(policy) == "scaled" else "none",
    )
