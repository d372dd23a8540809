"""Build an SB3 policy object for the tensors of a policy file.

Class, sizes and activation function come from the tensors' shapes, and from the file's readable
strings through an allow-list.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gallop.algorithms.policy_networks import PolicyNetworks, Shapes, widths
from gallop.algorithms.spec import imported
from gallop.algorithms.table import ALGORITHMS
from gallop.environments.spaces import Space
from gallop.errors import alternatives
from gallop.policies.safe_archive import (
    PolicyFileError,
    UnsafeFileError,
)
from gallop.policies.sb3_names import ACTIVATIONS, activation_class
from gallop.policies.sb3_spaces import NUMBER

if TYPE_CHECKING:
    import torch
    from stable_baselines3.common.policies import BasePolicy

# Keyword arguments of policy classes that are plain numbers and change what a policy does. Without
# log_std_init: the tensors contain what it initialises.
_PLAIN_KWARGS = (
    *("clip_mean", "use_expln", "full_std", "squash_output"),
    *("share_features_extractor", "normalize_images"),
)
_KNOWN_EXTRACTOR = re.compile(
    r"^\{\}$|stable_baselines3\.common\.torch_layers\.(FlattenExtractor|CombinedExtractor|NatureCNN)"
)
_ACTIVATION = re.compile(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>")

_DQN = PolicyNetworks(  # read but not trained by Gallop
    policy_classes=(
        "stable_baselines3.dqn.policies:DQNPolicy",
        "stable_baselines3.dqn.policies:CnnPolicy",
        "stable_baselines3.dqn.policies:MultiInputPolicy",
    ),
    recognises=lambda shapes: "q_net.q_net.0.weight" in shapes,
    net_arch=lambda shapes: widths(shapes, "q_net.q_net")[:-1],
    actor_is_mlp=False,
)
_READABLE = (*(spec.networks for spec in ALGORITHMS.values()), _DQN)
KNOWN_MODULES = {
    *("stable_baselines3.ppo.policies", "stable_baselines3.a2c.policies"),
    *(path.partition(":")[0] for networks in _READABLE for path in networks.policy_classes),
}
"""Modules of policy classes whose forward pass is known; a custom class may do anything."""


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors of one module, by their names inside it.

    >>> below({"actor.mu.weight": 1, "critic.qf0.0.weight": 2}, "actor")
    {'mu.weight': 1}
    """
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def without_shared_layers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy layers that SB3 before 1.8 shared between actor and value network to both of them."""
    shared = below(tensors, "mlp_extractor.shared_net")
    if not shared:
        return tensors
    found = {k: v for k, v in tensors.items() if not k.startswith("mlp_extractor.")}
    first = 1 + max(int(name.split(".")[0]) for name in shared if name.split(".")[0].isdigit())
    first += first % 2  # the activation function behind the last shared layer
    for net in ("mlp_extractor.policy_net", "mlp_extractor.value_net"):
        found |= {f"{net}.{name}": tensor for name, tensor in shared.items()}
        for name, tensor in below(tensors, net).items():
            index, _, rest = name.partition(".")
            if index.isdigit():
                found[f"{net}.{int(index) + first}.{rest}"] = tensor
    return found


def check_layers(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that each layer has as many inputs as the one before has outputs.

    Otherwise building the networks could fill the memory.

    Raises:
        PolicyFileError: naming the layers.
    """
    for prefix in {name.rpartition(".")[0].rpartition(".")[0] for name in tensors}:
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
        layers = sorted(
            (int(m.group(1)), t.shape) for n, t in tensors.items() if (m := pattern.fullmatch(n))
        )
        shapes = [tuple(shape) for _, shape in layers]
        if any(len(shape) == 4 for shape in shapes):
            continue  # a CNN; SB3's own has fixed sizes
        if any(len(shape) != 2 or 0 in shape for shape in shapes) or any(
            before[0] != after[1] for before, after in itertools.pairwise(shapes)
        ):
            raise PolicyFileError(f"{path}: the sizes of its layers {prefix!r} do not fit")


def build(
    path: Path,
    data: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    observation_space: Space,
    action_space: Space,
) -> BasePolicy:
    """Build an SB3 policy of the right class and sizes, with fresh weights.

    Args:
        path: the policy file, for error messages.
        data: its settings and readable strings.
        tensors: its state dict.
        observation_space: the task's.
        action_space: the task's, as policies see it.

    Raises:
        PolicyFileError: if the file is not a policy of a known algorithm, or cannot be rebuilt.
        UnsafeFileError: if only the file's own code can build the policy.
    """
    readable = data.get("policy_kwargs", {})
    if not isinstance(readable, Mapping):
        raise PolicyFileError(f"{path}: not an SB3 policy (its policy_kwargs are not a mapping)")
    kwargs: dict[str, Any] = dict(_plain_arguments(path, readable, _PLAIN_KWARGS))
    if activation := activation_name(path, readable):
        kwargs["activation_fn"] = activation_class(activation)
    for name in ("features_extractor_class", "features_extractor_kwargs"):
        if not _KNOWN_EXTRACTOR.search(str(readable.get(name) or "{}")[:200]):
            raise UnsafeFileError(
                f"{path}: its custom feature extractor can only be made by its own code"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    networks = networks_of(shapes)
    if networks is None:
        known = alternatives([*(spec.title for spec in ALGORITHMS.values()), "A2C", "DQN"])
        raise PolicyFileError(f"{path}: not a policy of {known}")
    kwargs |= networks.arguments(shapes)
    kwargs |= _plain_arguments(path, readable, networks.plain_arguments)
    if networks.has_sde:
        kwargs["use_sde"] = data.get("use_sde") is True
    make = imported(_policy_class(path, networks, shapes, observation_space))
    try:
        with _no_larger_than(tensors):
            policy: BasePolicy = make(
                observation_space,
                action_space,
                lambda _: 0.0,
                net_arch=networks.net_arch(shapes),
                optimizer_class=_NoOptimizer,
                **kwargs,
            )
    except Exception as error:  # SB3 and PyTorch raise many kinds for unusual sizes
        reason = " ".join(str(error).split())[:200]
        raise PolicyFileError(f"{path}: its networks cannot be rebuilt: {reason}") from None
    return policy


class _NoOptimizer:
    """Stands in for the optimizer of a policy that only acts.

    Creating one of PyTorch's imports its compiler, which takes longer than ten episodes.
    """

    def __init__(self, parameters: object, **settings: object) -> None:
        pass


@contextlib.contextmanager
def _no_larger_than(tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """In the body, refuse to build networks that are larger than those in the file.

    Otherwise a layer with more inputs or outputs than the file's could fill the memory before it is
    known whether the networks fit.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = sum(tensor.numel() for tensor in tensors.values()) + 1_000_000

    def count(module: Any, name: str, parameter: Any) -> None:  # before it has any values
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise ValueError("they are larger than those in the file")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _plain(path: Path, name: str, value: Any) -> bool | int | float:
    """Read a keyword argument that is a number. SB3 writes NumPy's numbers as text."""
    if isinstance(value, str):
        words = {"True": True, "False": False}
        if value in words:
            return words[value]
        value = float(value) if NUMBER.fullmatch(value) else None
    if not isinstance(value, bool | int | float) or not -1e6 <= value <= 1e6:
        raise UnsafeFileError(f"{path}: its {name} is not a number that can be read safely")
    return value


def activation_name(path: Path, readable: Mapping[str, Any]) -> str | None:
    """Our name of the activation function in a file's readable `policy_kwargs`.

    Returns:
        None if it is SB3's default of the policy class.

    Raises:
        PolicyFileError: if it is none that is supported.
    """
    if "activation_fn" not in readable:
        return None
    found = _ACTIVATION.fullmatch(str(readable["activation_fn"]))
    for name, torch_name in ACTIVATIONS.items():
        if found and found.group(1) == torch_name:
            return name
    raise PolicyFileError(
        f"{path}: its activation function {str(readable['activation_fn'])[:80]!r} is not "
        f"supported; allowed: {', '.join(ACTIVATIONS)}"
    )


def _plain_arguments(
    path: Path, readable: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, bool | int | float]:
    return {name: _plain(path, name, readable[name]) for name in names if name in readable}


def networks_of(shapes: Shapes) -> PolicyNetworks | None:
    """Recognise an algorithm's networks by the tensors' names and shapes; None if none matches."""
    return next((networks for networks in _READABLE if networks.recognises(shapes)), None)


def _policy_class(
    path: Path, networks: PolicyNetworks, shapes: Shapes, observation_space: Space
) -> str:
    """Import path of SB3's policy (MLP, CNN or several inputs), from the space and the tensors."""
    from gymnasium import spaces

    place = 0
    if isinstance(observation_space, spaces.Dict):
        place = 2
    elif any("features_extractor.cnn" in name for name in shapes):
        place = 1
    if place >= len(networks.policy_classes):
        raise PolicyFileError(f"{path}: its algorithm does not support such observations")
    return networks.policy_classes[place]
