"""Policies in PyTorch checkpoints of CleanRL, rsl_rl, rl_games and skrl: MLPs of Box actions.

Such files hold tensors alone, and are read as such: no code in them is run. What a file does not
say, and what would change the numbers, has to be said by the user; what is assumed is printed. Each
library normalises observations in its own way: the same statistics give 3.0, 2.86 or 1.5 for one
observation. A policy with a tensor that has no place in an MLP is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from gallop.environments.spaces import Space, is_unit_box
from gallop.policies.policy import Array, Observations
from gallop.policies.safe_archive import (
    MAX_TOTAL_BYTES,
    PolicyFileError,
    load_tensors,
    whole_file,
)
from gallop.policies.sb3_names import ACTIVATIONS

log = logging.getLogger(__name__)

SUFFIXES = (".pt", ".pth", ".cleanrl_model")

Layers: TypeAlias = list[tuple[Array, Array]]
"""Weight [outputs, inputs] and bias [outputs] of each layer."""
Normalise: TypeAlias = Callable[[Array], Array]
End: TypeAlias = Literal["clipped", "unit", "tanh"]
"""What becomes of the last layer's outputs. clipped: they are actions; unit: clipped to ±1, then
scaled to the bounds; tanh: squashed, then scaled to the bounds."""


class Checkpoint(NamedTuple):
    """The actor of a checkpoint."""

    library: str
    layers: Layers
    end: End
    activation: str = ""
    """Name of its activation function; empty if the file does not tell."""
    usual: str = "elu"
    """The library's usual activation function."""
    normalise: Normalise | None = None
    """Normalises observations; None if the policy takes raw ones."""
    lacks: str = ""
    """What the policy needs and the library does not store; empty if nothing is missing."""
    bounds: tuple[Array, Array] | None = None
    """What "tanh" scales to; None: the task's bounds."""
    assumed: str = ""
    """What its numbers rest on and no file says, to be printed; empty if nothing."""
    unknown: str = ""
    """Why the file does not say enough; empty if it does."""


class CheckpointPolicy:
    """A policy behind the `Policy` protocol: raw observations → deterministic actions."""

    def __init__(self, found: Checkpoint, activation: str, action_space: Space) -> None:
        """
        Args:
            found: the checkpoint.
            activation: name of its activation function.
            action_space: the task's, a Box.
        """
        self._found, self._activation = found, _ACTIVATIONS[activation]
        space: Any = action_space
        self._shape = space.shape
        self._low, self._high = (
            bound.reshape(-1).astype(np.float32) for bound in (space.low, space.high)
        )
        self._dtype = space.dtype
        self._scaled = self._low, self._high
        if found.bounds is not None:
            self._scaled = found.bounds

    def act(self, observations: Observations) -> Array:
        """Return actions [n, ...] for a batch of n raw observations."""
        values = np.asarray(observations, np.float32).reshape(len(observations), -1)
        if self._found.normalise is not None:
            values = self._found.normalise(values).astype(np.float32)
        for place, (weight, bias) in enumerate(self._found.layers):
            values = values @ weight.T + bias
            if place + 1 < len(self._found.layers):
                values = self._activation(values)
        if self._found.end != "clipped":
            unit = np.tanh(values) if self._found.end == "tanh" else np.clip(values, -1, 1)
            low, high = self._scaled
            values = low + 0.5 * (unit + 1) * (high - low)
        actions = np.clip(values, self._low, self._high)
        found: Array = actions.reshape(-1, *self._shape).astype(self._dtype)
        return found


def read(
    path: Path, observation_space: Space, action_space: Space, activation: str | None, raw: bool
) -> CheckpointPolicy:
    """Read the policy of a checkpoint.

    Args:
        path: the file.
        observation_space: the task's.
        action_space: the task's, as policies see it.
        activation: name of the activation function, where the file does not tell.
        raw: the policy takes raw observations, whatever is missing in the file.

    Raises:
        PolicyFileError: if it is not a checkpoint of a known library, was made for other spaces, or
            lacks what its policy needs.
        UnsafeFileError: if reading it would run code.
    """
    found = recognise(path, load_tensors(whole_file(path, MAX_TOTAL_BYTES), str(path)))
    if found.unknown:
        raise PolicyFileError(f"{path}: {found.unknown}; it can be read as ONNX")
    _check_fits(path, found, observation_space, action_space)
    if found.lacks and not raw:
        raise PolicyFileError(
            f"{path}: {found.library} does not store {found.lacks}; --normalizer none scores the "
            "policy without"
        )
    chosen = found.activation or activation
    if not chosen:
        raise PolicyFileError(
            f"{path}: {found.library} does not store the activation function: --activation NAME is "
            f"required ({found.library}'s usual one is {found.usual})"
        )
    if chosen not in _ACTIVATIONS:
        raise PolicyFileError(f"--activation {chosen}: allowed: {', '.join(_ACTIVATIONS)}")
    if found.assumed and not (found.end == "unit" and is_unit_box(action_space)):
        log.warning("%s: %s", path, found.assumed)
    return CheckpointPolicy(found, chosen, action_space)


def recognise(path: Path, found: Any) -> Checkpoint:
    """Find the actor in the content of a checkpoint.

    Args:
        path: the file, for error messages.
        found: nested containers of tensors.

    Raises:
        PolicyFileError: if it is not one of a known library.
    """
    for look in (_rsl_rl, _rl_games, _skrl, _cleanrl):
        checkpoint = look(found)
        if checkpoint is not None:
            return checkpoint
    names = _names(found)
    if any("preprocess.model" in name for name in names):
        raise PolicyFileError(
            f"{path}: a policy of tianshou: export it as ONNX where tianshou is installed "
            "(torch.onnx.export of policy.actor with the tanh, if any, and policy.map_action)"
        )
    raise PolicyFileError(
        f"{path}: not an MLP policy of CleanRL, rsl_rl, rl_games or skrl; its tensors begin with "
        f"{', '.join(names[:3]) or 'nothing'}. A policy of any library can be read as ONNX"
    )


# --- the libraries -------------------------------------------------------------------------------


def _rsl_rl(found: Any) -> Checkpoint | None:
    """Recognise rsl_rl: model_state_dict until version 3, actor_state_dict since version 4."""
    new, old = _state(found, "actor_state_dict"), _state(found, "model_state_dict")
    if new is not None and (layers := _sequence(new, "mlp")):
        return _with_rsl_rls(layers, new, new, "obs_normalizer.")
    if old is None or not (layers := _sequence(old, "actor")):
        return None
    apart = _state(found, "obs_norm_state_dict")
    if apart is not None:
        return _with_rsl_rls(layers, old, apart, "")
    return _with_rsl_rls(layers, old, old, "actor_obs_normalizer.")


def _with_rsl_rls(
    layers: Layers, rest: Mapping[str, Array], statistics: Mapping[str, Array], prefix: str
) -> Checkpoint:
    """(x − mean) / (std + 0.01), as its EmpiricalNormalization computes."""
    mean, std = statistics.get(f"{prefix}_mean"), statistics.get(f"{prefix}_std")
    normalise: Normalise | None = None
    if mean is not None and std is not None:

        def normalise(x: Array, mean: Array = mean, std: Array = std) -> Array:
            scaled: Array = (x - mean.reshape(1, -1)) / (std.reshape(1, -1) + np.float32(1e-2))
            return scaled

    harmless = (
        r"(distribution\.)?(log_)?std(_param)?|critic\..+|((actor|critic)_)?obs_normalizer\..+"
    )
    return Checkpoint(
        "rsl_rl", layers, "clipped", normalise=normalise, unknown=_unknown(rest, harmless)
    )


def _rl_games(found: Any) -> Checkpoint | None:
    """clip((x − mean) / sqrt(var + 1e-5), ±5), and actions of ±1 scaled to the bounds."""
    state = _state(found, "model")
    if state is None:
        return None
    state = {name.removeprefix("_orig_mod."): value for name, value in state.items()}
    layers = _sequence(state, "a2c_network.actor_mlp")
    last = _layer(state, "a2c_network.mu")
    if last is None:
        return None
    mean, var = (state.get(f"running_mean_std.running_{name}") for name in ("mean", "var"))
    normalise: Normalise | None = None
    if mean is not None and var is not None:

        def normalise(x: Array, mean: Array = mean, var: Array = var) -> Array:
            scaled: Array = np.clip((x - mean) / np.sqrt(var + 1e-5), -5, 5)
            return scaled

    harmless = r"a2c_network\.(sigma|value|critic_mlp)(\..+)?|(value|running)_mean_std\..+"
    return Checkpoint(
        "rl_games", [*layers, last], "unit", normalise=normalise,
        assumed="rl_games does not store clip_actions: taken as true, its default, so the policy's "
        "outputs are clipped to ±1 and scaled to the task's bounds",
        unknown=_unknown(state, harmless),
    )  # fmt: skip


def _skrl(found: Any) -> Checkpoint | None:
    """clip((x − mean) / (sqrt(var) + 1e-8), ±5)."""
    state = _state(found, "policy")
    if state is None:
        return None
    layers, last = _sequence(state, "net_container"), _layer(state, "policy_layer")
    layers = layers or _sequence(state, "net")
    if last is None and not layers:
        return None
    normalise: Normalise | None = None
    for name in ("observation_preprocessor", "state_preprocessor"):
        scaler = _state(found, name)
        if scaler is not None and "running_mean" in scaler:

            def normalise(x: Array, scaler: Mapping[str, Array] = scaler) -> Array:
                mean, var = scaler["running_mean"], scaler["running_variance"]
                scaled: Array = np.clip((x - mean) / (np.sqrt(var) + 1e-8), -5, 5)
                return scaled

            break
    unknown = _unknown(state, r"log_std_parameter|value_layer\..+")
    if "critic_1" in found or "critic" in found:  # SAC, TD3 and DDPG
        unknown = "skrl does not store what its off-policy actors do with the last layer's outputs"
    return Checkpoint(
        "skrl", layers + ([] if last is None else [last]), "clipped", normalise=normalise,
        assumed="skrl does not store what follows the last layer: taken as nothing (output: "
        "ACTIONS), so its outputs are the actions, without tanh and scale",
        unknown=unknown,
    )  # fmt: skip


def _cleanrl(found: Any) -> Checkpoint | None:
    """The state dict of an actor, alone or first in a tuple; its scripts have one architecture."""
    state = _arrays(found[0] if isinstance(found, list | tuple) and found else found)
    if state is None:
        return None
    layers = _sequence(state, "actor_mean")
    if layers:  # PPO: the wrapper NormalizeObservation keeps its statistics to itself
        return Checkpoint(
            "CleanRL", layers, "clipped", "tanh",
            lacks="the statistics of the wrapper NormalizeObservation that its PPO trains with",
            unknown=_unknown(state, r"actor_logstd|critic\..+"),
        )  # fmt: skip
    hidden = [layer for name in ("fc1", "fc2") if (layer := _layer(state, name)) is not None]
    last = next((layer for name in ("fc_mean", "fc_mu") if (layer := _layer(state, name))), None)
    if last is None or len(hidden) != 2:
        return None
    scale, bias = state.pop("action_scale", None), state.pop("action_bias", None)
    bounds = None
    if scale is not None and bias is not None and scale.size == bias.size == len(last[1]):
        bounds = (bias - scale).reshape(-1), (bias + scale).reshape(-1)
    return Checkpoint("CleanRL", [*hidden, last], "tanh", "relu", bounds=bounds,
                      unknown=_unknown(state, r"fc_logstd\..+"))  # fmt: skip


# --- state dicts ---------------------------------------------------------------------------------


def _state(found: Any, name: str) -> dict[str, Array] | None:
    """A state dict inside a checkpoint, as arrays; None if there is none of this name."""
    return _arrays(found.get(name)) if isinstance(found, Mapping) else None


def _arrays(found: Any) -> dict[str, Array] | None:
    import torch

    if not isinstance(found, Mapping):
        return None
    return {
        str(name): value.detach().numpy()
        for name, value in found.items()
        if isinstance(value, torch.Tensor)
    }


def _layer(state: dict[str, Array], name: str) -> tuple[Array, Array] | None:
    """Take a linear layer out of a state dict."""
    weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        return None
    del state[f"{name}.weight"], state[f"{name}.bias"]
    return weight.astype(np.float32), bias.astype(np.float32)


def _unknown(rest: Mapping[str, Array], harmless: str) -> str:
    """Name a tensor without a place in an MLP, among those that are left of a state dict."""
    left = [name for name in rest if not re.fullmatch(harmless, name)]
    return f"its policy is not a plain MLP: it has {left[0]!r}" if left else ""


def _sequence(state: dict[str, Array], prefix: str) -> Layers:
    """Take the linear layers `prefix`.0, .2, …, out of a state dict, in order."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    numbers = sorted(int(m.group(1)) for name in state if (m := pattern.fullmatch(name)))
    layers = [_layer(state, f"{prefix}.{number}") for number in numbers]
    return [layer for layer in layers if layer is not None]


def _names(found: Any) -> list[str]:
    """Names of the tensors in nested containers."""
    if isinstance(found, Mapping):
        inside = [(str(name), _names(value)) for name, value in found.items()]
        return [each for name, names in inside for each in names or [name]]
    if isinstance(found, list | tuple):
        return [name for part in found for name in _names(part)]
    return []


def _check_fits(
    path: Path, found: Checkpoint, observation_space: Space, action_space: Space
) -> None:
    from gymnasium import spaces

    if not isinstance(observation_space, spaces.Box) or not isinstance(action_space, spaces.Box):
        raise PolicyFileError(f"{path}: {found.library}'s MLPs are for Box spaces")
    sizes = [found.layers[0][0].shape[1], *(len(bias) for _, bias in found.layers)]
    for (weight, _), before in zip(found.layers, sizes[:-1], strict=True):
        if weight.shape[1] != before:
            raise PolicyFileError(f"{path}: the sizes of its layers do not fit each other")
    wanted = [int(np.prod(space.shape)) for space in (observation_space, action_space)]
    if [sizes[0], sizes[-1]] != wanted:
        raise PolicyFileError(
            f"{path}: its policy maps {sizes[0]} observations to {sizes[-1]} actions, and the task "
            f"has {wanted[0]} and {wanted[1]}"
        )
    if not all(np.isfinite(part).all() for layer in found.layers for part in layer):
        raise PolicyFileError(f"{path}: its weights contain NaN or infinity")


def _gelu(x: Array) -> Array:
    from scipy.special import erf

    found: Array = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    return found


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": _gelu,
}
assert _ACTIVATIONS.keys() == ACTIVATIONS.keys()
