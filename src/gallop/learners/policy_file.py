"""Policy files: SB3 zips, written by SB3 and read without running any code that is in them.

`SAC.load` unpickles the member `data` and so runs whatever its author put there. Here `data` is
read as JSON only, tensors with torch's `weights_only=True`, sizes from the tensors' own shapes, and
the rest from the readable strings that SB3 writes beside each pickle, through an allow-list.
This is the only module that knows SB3's format.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments import Normalizer, Observations
from gallop.learners import kernels
from gallop.learners.kernels import Mlp, Shape
from gallop.learners.learner import Policy
from gallop.learners.mlp_policy import Head, MlpPolicy
from gallop.settings import ExperimentError

if TYPE_CHECKING:
    import gymnasium
    import torch
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

MAX_MEMBER_BYTES = 1 << 30  # of one unpacked member; a large MLP policy has a few megabytes

# SB3's readable name of an activation function -> ours. Nothing outside this list is accepted.
ACTIVATIONS = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "elu": "ELU",
    "leaky_relu": "LeakyReLU",
    "silu": "SiLU",
    "gelu": "GELU",
}
_ACTIVATION = re.compile(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>")


class PolicyFileError(ExperimentError):
    """A policy file cannot be used; the message says why."""


class Training(NamedTuple):
    """What a policy file holds for training to go on from it."""

    data: dict[str, Any]
    """SB3's settings and counters, as far as they are plain JSON."""
    tensors: dict[str, NDArray[Any]]
    """The policy's state dict."""
    optimizers: dict[str, dict[int, dict[str, Any]]]
    """File's stem -> index of the parameter -> Adam's step, exp_avg, exp_avg_sq."""
    variables: dict[str, Any]
    """SB3's other tensors: SAC's log_ent_coef."""


class TorchPolicy:
    """An SB3 policy behind our Policy protocol: raw observations in, deterministic actions out."""

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None) -> None:
        self._policy = policy
        self._normalizer = normalizer

    def act(self, observations: Observations) -> NDArray[Any]:
        """Actions [n, ...] for a batch of n raw observations."""
        if self._normalizer is not None:
            observations = self._normalizer(observations)
        with _one_thread():
            actions, _ = self._policy.predict(observations, deterministic=True)
        return np.asarray(actions)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The number of threads changes the bits of a matrix product, and so the whole episode: what
    a policy does must not depend on the process that asks it."""
    import torch

    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def acting(policy: BasePolicy, normalizer: Normalizer | None) -> Policy:
    """What acts like this SB3 policy as it is now: on the kernels where they serve it, so that
    evaluating does not depend on which learner or file it comes from, else in PyTorch."""
    if kernels.missing() or not _is_plain_mlp(policy):
        return TorchPolicy(policy, normalizer)
    tensors = {name: tensor.detach().numpy() for name, tensor in policy.state_dict().items()}
    layers = network_layers(tensors)["actor"]
    network = Mlp(kernels.acting_engine(), shape_of(policy, "actor", layers, tensors))
    network.write(network.parameters, joined(layers, tensors))
    return MlpPolicy(network, head_of(policy), policy.action_space, normalizer)


def _is_plain_mlp(policy: BasePolicy) -> bool:
    """Whether its actor is an MLP with ReLU or Tanh of a Box, for Box or Discrete actions."""
    from gymnasium import spaces
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.sac.policies import SACPolicy
    from stable_baselines3.td3.policies import TD3Policy

    observations, actions = policy.observation_space, policy.action_space
    return (
        type(policy) in (SACPolicy, TD3Policy, ActorCriticPolicy)
        and not getattr(policy, "use_sde", False)
        and not getattr(getattr(policy, "actor", None), "use_sde", False)
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


def head_of(policy: BasePolicy) -> Head:
    """What the outputs of its actor mean."""
    from gymnasium import spaces
    from stable_baselines3.sac.policies import SACPolicy
    from stable_baselines3.td3.policies import TD3Policy

    if isinstance(policy, SACPolicy):
        return "squashed"
    if isinstance(policy, TD3Policy):
        return "scaled"
    return "choice" if isinstance(policy.action_space, spaces.Discrete) else "clipped"


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
    actor = sequence("actor.mu")
    if not actor:
        actor = [*sequence("actor.latent_pi"), ("actor.mu", "actor.log_std")]
    found = {"actor": actor}
    while critic := sequence(f"critic.qf{len(found) - 1}"):
        found[f"critic{len(found) - 1}"] = critic
    return found


def of_target(layers: LayerNames) -> LayerNames:
    """SB3's names of the same layers in the target network."""
    return [tuple(re.sub(r"^(\w+)\.", r"\1_target.", name) for name in names) for names in layers]


def joined(
    layers: LayerNames, tensors: Mapping[str, NDArray[Any]]
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Weight and bias of each layer."""
    return [
        (
            np.concatenate([tensors[f"{name}.weight"] for name in names]),
            np.concatenate([tensors[f"{name}.bias"] for name in names]),
        )
        for names in layers
    ]


def parted(
    layers: LayerNames, values: Iterable[tuple[NDArray[Any], NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """The reverse of `joined`: tensors by SB3's names. Joined layers have equal parts."""
    tensors = {}
    for names, (weight, bias) in zip(layers, values, strict=True):
        for part, name in enumerate(names):
            rows = slice(part * len(bias) // len(names), (part + 1) * len(bias) // len(names))
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight[rows], bias[rows]
    return tensors


def shape_of(
    policy: BasePolicy, network: str, layers: LayerNames, tensors: Mapping[str, NDArray[Any]]
) -> Shape:
    """Sizes and activations of one of a policy's networks."""
    weights = [weight for weight, _ in joined(layers, tensors)]
    return Shape(
        widths=[weights[0].shape[1], *(weight.shape[0] for weight in weights)],
        hidden="tanh" if _activation_of(policy) == "Tanh" else "relu",
        last="tanh" if network == "actor" and head_of(policy) == "scaled" else "none",
    )


def activation_class(name: str) -> type[torch.nn.Module]:
    """PyTorch's class of an activation function by its name in experiments."""
    import torch

    found: type[torch.nn.Module] = getattr(torch.nn, ACTIVATIONS[name])
    return found


def normalizer_path(path: Path) -> Path:
    """Where the normaliser of a policy file lies."""
    return path.with_name(f"{path.stem}.normalizer.npz")


def write(model: BaseAlgorithm, normalizer: Normalizer | None, path: Path) -> None:
    """Write an SB3 zip, and the normaliser of this very moment beside it."""
    model.save(path)
    if normalizer is not None:
        normalizer.save(normalizer_path(path))


def read(
    path: Path, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> Policy:
    """The policy of an SB3 zip for a task with these spaces; none of the file's code is run.

    Raises:
        PolicyFileError: if the file is no SB3 zip, is damaged, was made for other spaces, or needs
            something that cannot be read safely.
    """
    data, tensors = _members(path)
    _check_spaces(path, data, observation_space, action_space)
    policy = _build(path, data, tensors, observation_space, action_space)
    try:
        policy.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise PolicyFileError(f"{path}: its networks do not fit the task: {reason}") from None
    policy.set_training_mode(False)
    beside = normalizer_path(path)
    normalizer = None
    if beside.exists():
        try:
            normalizer = Normalizer.load(beside)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise PolicyFileError(f"{beside}: cannot be read: {error}") from None
    elif "action_net.weight" in tensors and data.get("_last_original_obs") is not None:
        # PPO keeps raw observations only if it normalises; SAC and TD3 always do.
        raise PolicyFileError(
            f"{path}: was trained on normalised observations, and {beside.name} is missing"
        )
    return acting(policy, normalizer)


def read_training(path: Path) -> Training:
    """All that training needs from an SB3 zip; none of the file's code is run.

    Raises:
        PolicyFileError: if the file is no SB3 zip or is damaged.
    """
    data, tensors = _members(path)
    optimizers, variables = {}, {}
    with _opened(path) as archive:
        for name in archive.namelist():
            if name.endswith("optimizer.pth"):
                state = _tensors(path, _member(path, archive, name)).get("state")
                if not _is_adam(state):
                    raise PolicyFileError(f"{path}: its member {name!r} is no state of Adam")
                optimizers[name.removesuffix(".pth")] = state
            elif name == "pytorch_variables.pth":
                variables = _tensors(path, _member(path, archive, name))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return Training(data, arrays, optimizers, variables)


def _is_adam(state: Any) -> bool:
    """Whether this is parameter -> step and moments, all of them numbers."""
    import torch

    keys = {"step", "exp_avg", "exp_avg_sq"}
    return isinstance(state, Mapping) and all(
        isinstance(index, int)
        and isinstance(part, Mapping)
        and keys <= part.keys()
        and all(isinstance(part[key], torch.Tensor | int | float) for key in keys)
        for index, part in state.items()
    )


def _members(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with _opened(path) as archive:
        data = json.loads(_member(path, archive, "data"))
        tensors = _tensors(path, _member(path, archive, "policy.pth"))
    if not isinstance(data, dict) or not _all_tensors(tensors):
        raise PolicyFileError(f"{path}: is no SB3 policy: its members hold something else")
    return data, dict(tensors)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip; whatever goes wrong while it is read becomes one line."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise PolicyFileError(f"{path}: there is no such file") from None
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise PolicyFileError(f"{path}: is no zip, or a damaged one: {error}") from None
    except (ValueError, RecursionError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, PolicyFileError):
            raise
        raise PolicyFileError(f"{path}: its member data cannot be read: {error}") from None


def _tensors(path: Path, content: bytes) -> Any:
    """What a .pth member holds; only tensors and plain containers are let in."""
    import torch

    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or refused input
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PolicyFileError(f"{path}: its weights cannot be read safely: {reason}") from None


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise PolicyFileError(f"{path}: is no SB3 zip: it has no member {name!r}") from None
    if info.file_size > MAX_MEMBER_BYTES:
        raise PolicyFileError(f"{path}: its member {name!r} is larger than a policy can be")
    with archive.open(info) as member:
        content = member.read(MAX_MEMBER_BYTES + 1)  # the header's size may be a lie
    if len(content) > MAX_MEMBER_BYTES:
        raise PolicyFileError(f"{path}: its member {name!r} is larger than a policy can be")
    return content


def _all_tensors(tensors: Any) -> bool:
    import torch

    return isinstance(tensors, Mapping) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in tensors.items()
    )


def _check_spaces(
    path: Path,
    data: Mapping[str, Any],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> None:
    for name, space in (("observation", observation_space), ("action", action_space)):
        readable = data.get(f"{name}_space")
        readable = readable if isinstance(readable, Mapping) else {}
        kind = re.search(r"\.(\w+)'>$", str(readable.get(":type:", "")))
        shape = readable.get("_shape", readable.get("shape"))
        theirs = (kind.group(1) if kind else "?", shape, readable.get("n"))
        ours = (type(space).__name__, list(space.shape or ()), str(getattr(space, "n", None)))
        same_shape = theirs[1] is None or list(theirs[1]) == ours[1]
        same_number = theirs[2] is None or str(theirs[2]) == ours[2]
        if theirs[0] != ours[0] or not same_shape or not same_number:
            raise PolicyFileError(
                f"{path}: is a policy of another task: its {name}s are {theirs[0]} "
                f"{theirs[1] or theirs[2] or ''}, the task's are {ours[0]} {ours[1] or ours[2]}"
            )


def _build(
    path: Path,
    data: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> BasePolicy:
    """An SB3 policy of the right class and sizes, with fresh weights."""
    from gymnasium import spaces
    from stable_baselines3.common.policies import (
        ActorCriticCnnPolicy,
        ActorCriticPolicy,
        MultiInputActorCriticPolicy,
    )
    from stable_baselines3.sac import policies as sac
    from stable_baselines3.td3 import policies as td3

    readable = data.get("policy_kwargs")
    readable = readable if isinstance(readable, Mapping) else {}
    kwargs: dict[str, Any] = {}
    if activation := _activation(path, readable):
        kwargs["activation_fn"] = activation
    for name in ("clip_mean", "use_expln", "full_std", "share_features_extractor", "log_std_init"):
        if isinstance(readable.get(name), bool | int | float):
            kwargs[name] = readable[name]
    for name in ("features_extractor_class", "features_extractor_kwargs"):
        if name in readable and "CombinedExtractor" not in str(readable[name]):
            raise PolicyFileError(
                f"{path}: has a feature extractor of its own, which only its code can make"
            )
    # Which of SB3's three policies (MLP, CNN, several inputs) shows in the space and the tensors.
    kind = (
        2
        if isinstance(observation_space, spaces.Dict)
        else 1
        if any("features_extractor.cnn" in name for name in tensors)
        else 0
    )
    use_sde = data.get("use_sde") is True
    classes: tuple[type[BasePolicy], ...]
    arch: dict[str, list[int]]
    if "action_net.weight" in tensors:
        classes = (ActorCriticPolicy, ActorCriticCnnPolicy, MultiInputActorCriticPolicy)
        arch = {
            "pi": _widths(tensors, "mlp_extractor.policy_net"),
            "vf": _widths(tensors, "mlp_extractor.value_net"),
        }
        kwargs |= {"use_sde": use_sde, "ortho_init": False}
    elif any(name.startswith("actor.log_std") for name in tensors):
        classes = (sac.SACPolicy, sac.CnnPolicy, sac.MultiInputPolicy)
        arch = {
            "pi": _widths(tensors, "actor.latent_pi"),
            "qf": _widths(tensors, "critic.qf0")[:-1],
        }
        kwargs |= {"use_sde": use_sde, "n_critics": _n_critics(tensors)}
    elif "actor.mu.0.weight" in tensors:
        classes = (td3.TD3Policy, td3.CnnPolicy, td3.MultiInputPolicy)
        arch = {
            "pi": _widths(tensors, "actor.mu")[:-1],
            "qf": _widths(tensors, "critic.qf0")[:-1],
        }
        kwargs |= {"n_critics": _n_critics(tensors)}
    else:
        raise PolicyFileError(f"{path}: is no policy of SAC, TD3 or PPO")
    make: Any = classes[kind]
    try:
        policy: BasePolicy = make(
            observation_space, action_space, lambda _: 0.0, net_arch=arch, **kwargs
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise PolicyFileError(f"{path}: its networks cannot be rebuilt: {error}") from None
    return policy


def _activation(path: Path, readable: Mapping[str, Any]) -> type[torch.nn.Module] | None:
    if "activation_fn" not in readable:
        return None  # SB3's default of the policy class
    found = _ACTIVATION.fullmatch(str(readable["activation_fn"]))
    for name, torch_name in ACTIVATIONS.items():
        if found and found.group(1) == torch_name:
            return activation_class(name)
    raise PolicyFileError(
        f"{path}: its activation function {str(readable['activation_fn'])[:80]!r} is not one of "
        f"{', '.join(ACTIVATIONS)}"
    )


def _widths(tensors: Mapping[str, torch.Tensor], prefix: str) -> list[int]:
    """Outputs of the linear layers `prefix`.0, .2, .4, … in order."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    layers = {
        int(m.group(1)): t.shape[0] for n, t in tensors.items() if (m := pattern.fullmatch(n))
    }
    return [layers[index] for index in sorted(layers)]


def _n_critics(tensors: Mapping[str, torch.Tensor]) -> int:
    return len({name.split(".")[1] for name in tensors if re.match(r"critic\.qf\d+\.", name)})
