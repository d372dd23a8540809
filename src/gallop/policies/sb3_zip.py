"""Policy files: SB3 zips, written by SB3 and read without running any code in them.

`SAC.load` unpickles the member `data`, and so runs any code that its author put there. Here `data`
is read as JSON only, and tensors are read with torch's `weights_only=True`. Sizes come from the
tensors' shapes, and the rest from the readable strings that SB3 writes next to each pickle, through
an allow-list. This opens zips of SAC, TD3, PPO, TQC, CrossQ, A2C and DQN, of SB3 1.x and 2.x. It
also opens those with spaces pickled by `gym`, which need not be installed. Only this module and the
sb3_*.py modules next to it know SB3's format.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from gallop.algorithms.spec import imported
from gallop.algorithms.table import ALGORITHMS
from gallop.environments.spaces import Space
from gallop.errors import printable
from gallop.policies.acting import acting
from gallop.policies.normalizer import Normalizer
from gallop.policies.normalizer_file import normalizer_beside, normalizer_path, read_normalizer
from gallop.policies.pickled_names import pickled_dtypes, pickled_names
from gallop.policies.policy import Array, Policy
from gallop.policies.safe_archive import (
    MAX_JSON_BYTES,
    PolicyFileError,
    UnsafeFileError,
    all_tensors,
    finite,
    load_tensors,
    member,
    opened,
)
from gallop.policies.sb3_networks import (
    KNOWN_MODULES,
    activation_name,
    build,
    check_layers,
    without_shared_layers,
)
from gallop.policies.sb3_spaces import channel_first, check_spaces
from gallop.policies.torch_policy import StochasticPolicy

if TYPE_CHECKING:
    import torch
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy


log = logging.getLogger(__name__)

TRUST = (
    "--trust opens it with SB3's own loader, which runs the code in it, if it is the only policy "
    "named (with --env, if it is in a run folder)"
)


class Training(NamedTuple):
    """The parts of a policy file that training can start from."""

    data: dict[str, Any]
    """SB3's settings and counters that are plain JSON."""
    tensors: dict[str, Array]
    """The policy's state dict."""
    optimizers: dict[str, dict[int, dict[str, Any]]]
    """Stem of the member's name -> index of the parameter -> Adam's step, exp_avg, exp_avg_sq."""
    variables: dict[str, Any]
    """SB3's other tensors: SAC's log_ent_coef."""
    normalizer: Normalizer | None
    """From the normaliser file next to the zip; None if there is none."""


def write(model: BaseAlgorithm, normalizer: Normalizer | None, path: Path) -> None:
    """Write an SB3 zip, and the normaliser file next to it.

    Args:
        model: the SB3 algorithm to save.
        normalizer: its present statistics of observations, if it normalises them.
        path: the zip to write.

    Raises:
        OSError: if a file cannot be written.
    """
    # Via memory: SB3 leaves its file open if the disk is full.
    content = io.BytesIO()
    model.save(content)
    path.write_bytes(content.getvalue())
    if normalizer is not None:
        normalizer.save(normalizer_path(path))


NO_NORMALIZER: Final = "none"
"""The value of --normalizer that leaves observations as they are."""


class Options(NamedTuple):
    """How to read a policy file."""

    normalizer: Path | Literal["none"] | None = None
    """Its normaliser file, or `NO_NORMALIZER`; default: searched for next to the policy file."""
    stochastic_seed: int | None = None
    """Sample actions from the policy's distribution with this seed; default: deterministic."""
    trust: bool = False
    """Let SB3's own loader run the file's code if it cannot be read otherwise."""
    takes_raw: bool = False
    """The policy is known to take raw observations: its run did not normalise them."""
    activation: str | None = None
    """Activation function of a checkpoint of another library, which does not store it."""


def read(
    path: Path,
    observation_space: Space,
    action_space: Space,
    options: Options | None = None,
) -> Policy:
    """Read the policy of an SB3 zip without running any of its code.

    Args:
        path: the zip.
        observation_space: the task's.
        action_space: the task's, as policies see it.
        options: how to read it.

    Raises:
        PolicyFileError: if the file is not an SB3 zip, is damaged, or was made for other spaces.
        UnsafeFileError: if part of it cannot be read safely, unless `options.trust`.
    """
    options = options or Options()
    policy, normalizer = read_sb3(path, observation_space, action_space, options)
    if options.stochastic_seed is None:
        return acting(policy, normalizer)
    if not hasattr(policy, "evaluate_actions") and not hasattr(
        getattr(policy, "actor", None), "action_dist"
    ):
        raise PolicyFileError(
            f"{path}: its policy has no distribution to sample actions from: leave out --stochastic"
        )
    return StochasticPolicy(policy, normalizer, options.stochastic_seed)


def read_sb3(
    path: Path, observation_space: Space, action_space: Space, options: Options
) -> tuple[BasePolicy, Normalizer | None]:
    """Read an SB3 zip as SB3's own policy object, and the normaliser of its observations.

    For arguments and errors, see `read`.
    """
    observation_space = channel_first(observation_space)
    try:
        policy = _read(path, observation_space, action_space)
    except UnsafeFileError as error:
        if not options.trust:
            raise UnsafeFileError(f"{error}; {TRUST}") from None
        log.warning(
            "%s: SB3's own loader runs the code in it (%s): %s", path, error, _pickled_names(path)
        )
        policy = _load_with_sb3(path, observation_space, action_space)
    policy.set_training_mode(False)
    return policy, _find_normalizer(path, options, policy)


def observation_shape(path: Path) -> tuple[int, ...] | None:
    """The shape of the observations that a policy file was trained on.

    Returns:
        None if the file does not contain it.

    Raises:
        PolicyFileError: if the file is not an SB3 zip, or is damaged.
    """
    with opened(path) as archive:
        space = _json(path, archive).get("observation_space")
    shape = space.get("_shape", space.get("shape")) if isinstance(space, Mapping) else None
    if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
        return tuple(shape)
    return None


def normalizer_option(text: str | PathLike[str] | None) -> Path | Literal["none"] | None:
    """Convert a value of --normalizer to one of `Options.normalizer`.

    >>> normalizer_option("none"), normalizer_option("./none").name
    ('none', 'none')
    """
    return NO_NORMALIZER if text == NO_NORMALIZER else None if text is None else Path(text)


def normalizer_note(path: Path, options: Options) -> str:
    """Return how the observations of a policy file are normalised, for the user.

    Args:
        path: an SB3 zip.
        options: how it is read.

    Returns:
        Empty if they are not normalised, and no file suggests that they should be.

    Raises:
        PolicyFileError: if the zip or the normaliser file is damaged.
    """
    chosen = _choose_normalizer(path, options)
    if chosen.unused is not None:
        with contextlib.suppress(PolicyFileError):  # another policy's file may be damaged
            if read_normalizer(chosen.unused) is None:
                return ""
        return (
            f"{chosen.unused} is not used, because the policy was trained on observations that "
            f"were not normalised (--normalizer {chosen.unused} applies it)"
        )
    if chosen.file is None or read_normalizer(chosen.file) is None:
        return ""
    note = f"observations are normalised with {chosen.file}"
    if chosen.is_certain:
        return note
    return (
        f"warning: {note}, but the zip does not record whether the policy was trained with it; "
        f"--normalizer {NO_NORMALIZER} leaves it out"
    )


class _Chosen(NamedTuple):
    """The normaliser file of a policy file."""

    file: Path | None
    unused: Path | None = None
    """A file next to the zip that this policy does not need."""
    is_certain: bool = True
    """Whether the file is known to be the policy's."""


def _choose_normalizer(path: Path, options: Options) -> _Chosen:
    """Find the normaliser file.

    A .pkl next to the zip may be another policy's, and is not used if this one was trained on raw
    observations.
    """
    if options.normalizer == NO_NORMALIZER:
        return _Chosen(None)
    if options.normalizer is not None:
        return _Chosen(options.normalizer)
    found = normalizer_beside(path)
    if found is None or found == normalizer_path(path):
        return _Chosen(found)
    normalized = False if options.takes_raw else _was_normalized(path)
    if normalized is False:
        return _Chosen(None, unused=found)
    in_zoo_layout = found.parent != path.parent  # in a folder of this policy
    return _Chosen(found, is_certain=normalized is True or in_zoo_layout)


def _was_normalized(path: Path) -> bool | None:
    """Whether a policy was trained on normalised observations; None if the zip does not record it.

    SB3 keeps raw observations whenever it trains with VecNormalize. Without VecNormalize,
    off-policy algorithms keep them, too.
    """
    with opened(path) as archive:
        data = _json(path, archive)
    if data.get("_last_original_obs") is not None:
        if "gae_lambda" in data:
            return True
        # VecNormalize returns float32. Without it, both are the task's own observations.
        dtypes = [pickled_dtypes(data.get(name)) for name in ("_last_original_obs", "_last_obs")]
        return True if all(dtypes) and dtypes[0] != dtypes[1] else None
    timesteps = data.get("num_timesteps")
    is_trained = isinstance(timesteps, int) and timesteps > 0
    return False if is_trained and "_last_original_obs" in data else None


def _read(path: Path, observation_space: Space, action_space: Space) -> BasePolicy:
    data, tensors = _members(path)
    _check_policy_class(path, data)
    check_spaces(path, data, observation_space, action_space)
    tensors = without_shared_layers(tensors)
    check_layers(path, tensors)
    if not finite(tensors):
        raise PolicyFileError(f"{path}: its weights contain NaN or infinity")
    policy = build(path, data, tensors, observation_space, action_space)
    try:
        policy.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise PolicyFileError(f"{path}: its networks do not fit the task: {reason}") from None
    return policy


def _pickled_names(path: Path) -> str:
    with opened(path) as archive:
        return printable(pickled_names(_json(path, archive)))


def _load_with_sb3(path: Path, observation_space: Space, action_space: Space) -> BasePolicy:
    """Read the policy with SB3's own loader, which unpickles the file and so runs its code."""
    with opened(path) as archive:
        tensors = _state_dict(path, archive) if "policy.pth" in archive.namelist() else {}
        data = _json(path, archive)
    reason = ""
    for algorithm in _loaders(data, tensors):
        try:
            policy: BasePolicy = algorithm.load(path, device="cpu").policy
        except Exception as error:  # the file's code may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        ours = (observation_space.shape, action_space.shape)
        if (policy.observation_space.shape, policy.action_space.shape) != ours:
            raise PolicyFileError(f"{path}: a policy of another task")
        return policy
    raise PolicyFileError(f"{path}: SB3's own loader cannot open it either: {reason}")


_CONTRIB = {
    "sb3_contrib.ars.policies": "sb3_contrib:ARS",
    "sb3_contrib.qrdqn.policies": "sb3_contrib:QRDQN",
    "sb3_contrib.crossq.policies": "sb3_contrib:CrossQ",
    "sb3_contrib.tqc.policies": "sb3_contrib:TQC",
    "sb3_contrib.common.recurrent.policies": "sb3_contrib:RecurrentPPO",
    "sb3_contrib.common.maskable.policies": "sb3_contrib:MaskablePPO",
}
"""Modules of sb3-contrib's policy classes, and the algorithm that loads them."""


def _loaders(
    data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> Iterator[type[BaseAlgorithm]]:
    """The algorithms that may have written these tensors, the likeliest first.

    In custom networks only the first parts of the names are known.
    """
    known = _CONTRIB.get(_policy_module(data))
    if known is not None:
        yield imported(known)
        return
    if any(name.startswith("q_net.") for name in tensors):
        yield imported("stable_baselines3:DQN")
        return
    has_actor = any(name.startswith("actor.") for name in tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    specs = [spec for spec in ALGORITHMS.values() if spec.on_policy != has_actor]
    for spec in sorted(specs, key=lambda spec: not spec.networks.recognises(shapes)):
        yield imported(spec.sb3_class)


def _find_normalizer(path: Path, options: Options, policy: BasePolicy) -> Normalizer | None:
    """Read the normaliser of a policy file, if it needs one."""
    normalizer = _needed_normalizer(path, options)
    if normalizer is not None:
        found = _choose_normalizer(path, options).file
        assert found is not None
        _check_normalizer(found, normalizer, policy)
    return normalizer


def _needed_normalizer(path: Path, options: Options) -> Normalizer | None:
    """Read the normaliser of a policy file; None if the policy takes raw observations.

    Raises:
        PolicyFileError: if it cannot be read, or is needed and there is none.
    """
    found = _choose_normalizer(path, options).file
    if found is not None:
        return read_normalizer(found)
    takes_raw = options.takes_raw or options.normalizer == NO_NORMALIZER
    if not takes_raw and _was_normalized(path):
        raise PolicyFileError(
            f"{path}: it was trained on normalised observations, and neither "
            f"{normalizer_path(path).name} nor vecnormalize.pkl is next to it: --normalizer FILE "
            "names its normaliser file"
        )
    return None


def _check_normalizer(path: Path, normalizer: Normalizer, policy: BasePolicy) -> None:
    from gymnasium import spaces

    space = policy.observation_space
    parts = dict(space.items()) if isinstance(space, spaces.Dict) else {"": space}
    for key, mean in normalizer.mean.items():
        shape = parts[key].shape if key in parts else None
        if mean.shape != shape or normalizer.variance[key].shape != shape:
            raise PolicyFileError(
                f"{path}: it normalises observations of shape {list(mean.shape)}, but the policy's "
                f"have {f'shape {list(shape)}' if shape is not None else f'no key {key!r}'}"
            )


def read_training(path: Path) -> Training:
    """Read what training needs from an SB3 zip, without running any of its code.

    Raises:
        PolicyFileError: if the file is not an SB3 zip, or is damaged.
    """
    data, tensors = _members(path)
    optimizers, variables = {}, {}
    with opened(path) as archive:
        for name in archive.namelist():
            if name.endswith("optimizer.pth"):
                found = _tensors(path, archive, name)
                state: Any = found.get("state") if isinstance(found, Mapping) else None
                if not _is_adam(state):
                    raise PolicyFileError(f"{path}: its member {name!r} is not a state of Adam")
                optimizers[name.removesuffix(".pth")] = state
            elif name == "pytorch_variables.pth":
                variables = _tensors(path, archive, name)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    if not finite(tensors):
        raise PolicyFileError(f"{path}: its weights contain NaN or infinity")
    beside = _choose_normalizer(path, Options()).file
    normalizer = read_normalizer(beside) if beside is not None else None
    return Training(data, arrays, optimizers, variables, normalizer)


EPSILON: Final = 1e-8
"""What VecNormalize adds to a variance, unless told otherwise."""


class Start(NamedTuple):
    """What a policy file tells of the policy that training would start from."""

    algorithms: tuple[str, ...]
    """Algorithms that have such networks; empty if none is known."""
    activation: str | None
    """Activation function of its networks; None: the algorithm's default."""
    normalizer: Normalizer | None
    """Normalises its observations; None if it was trained on raw ones."""


def read_start(path: Path) -> Start:
    """Read what training must take over from an SB3 zip, without running any of its code.

    Raises:
        PolicyFileError: if the file is not an SB3 zip, is damaged, or lacks its normaliser.
    """
    data, tensors = _members(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    able = [spec.name for spec in ALGORITHMS.values() if spec.networks.recognises(shapes)]
    readable = data.get("policy_kwargs", {})
    found = activation_name(path, readable) if isinstance(readable, Mapping) else None
    return Start(tuple(able), found, _needed_normalizer(path, Options()))


def does_not_fit(path: Path, error: Exception) -> PolicyFileError:
    """The error for a zip whose networks do not have the sizes of the experiment's.

    Args:
        path: the zip.
        error: what loading its tensors raised.
    """
    reason = str(error).splitlines()[-1].strip()
    return PolicyFileError(
        f"{path}: its networks do not fit the experiment: {reason} "
        "(hyperparameters.policy_kwargs.net_arch sets their widths)"
    )


def _is_adam(state: Any) -> bool:
    """Whether this maps each parameter to Adam's step and moments, all of them numbers."""
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
    with opened(path) as archive:
        return _json(path, archive), _state_dict(path, archive)


def _json(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """Read the member `data`: settings, counters, and readable strings next to pickles."""
    if "policy.pth" not in archive.namelist() and "data" in archive.namelist():
        with archive.open("data") as file:
            if b'"__module__": "sbx.' in file.read(4_096):
                raise PolicyFileError(
                    f"{path}: a policy of SBX, which keeps its weights in a pickle: export it as "
                    "ONNX where SBX is installed (jax2onnx, with the scaling of its actions)"
                )
    try:
        data = json.loads(member(archive, "data", str(path), MAX_JSON_BYTES))
    except PolicyFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"{path}: its member data cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise PolicyFileError(f"{path}: not an SB3 policy (its member data is not a JSON object)")
    return data


def _state_dict(path: Path, archive: zipfile.ZipFile) -> dict[str, torch.Tensor]:
    tensors = _tensors(path, archive, "policy.pth")
    if not all_tensors(tensors):
        raise PolicyFileError(f"{path}: not an SB3 policy (its policy.pth is not a state dict)")
    return dict(tensors)


def _tensors(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    return load_tensors(member(archive, name, str(path)), f"{path}: its member {name!r}")


def _policy_module(data: Mapping[str, Any]) -> str:
    """The module of the policy class that SB3 has written next to its pickle; empty if unknown."""
    readable = data.get("policy_class")
    return str(readable.get("__module__") or "") if isinstance(readable, Mapping) else ""


def _check_policy_class(path: Path, data: Mapping[str, Any]) -> None:
    module = _policy_module(data)
    if module.startswith("sbx."):
        raise PolicyFileError(
            f"{path}: a policy of SBX, which keeps its weights in a pickle: write it as ONNX where "
            "SBX is installed (docs/guides/sharing.md shows how)"
        )
    if module and module not in KNOWN_MODULES:
        raise UnsafeFileError(
            f"{path}: its custom policy class, from {module[:80]!r}, can only be made by its "
            "own code"
        )
