"""Policy files: SB3 zips, written by SB3 and read without running any code that is in them.

`SAC.load` unpickles the member `data` and so runs whatever its author put there. Here `data` is
read as JSON only, tensors with torch's `weights_only=True`, sizes from the tensors' own shapes, and
the rest from the readable strings that SB3 writes beside each pickle, through an allow-list. So
zips of SAC, TD3, PPO, A2C, DQN and TQC open, of SB3 1.x and 2.x, and those whose spaces were
pickled by `gym`, which need not be installed. This is the only module that knows SB3's format.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
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
from gallop.learners.pickled_arrays import read_vecnormalize
from gallop.learners.safe_archive import (
    MAX_JSON_BYTES,
    PolicyFileError,
    UnsafeFileError,
    all_tensors,
    finite,
    load_tensors,
    member,
    opened,
)

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import gymnasium
    import torch
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

# Policy classes whose forward pass is known; a class of one's own may do anything.
_KNOWN_POLICY = re.compile(
    r"stable_baselines3\.(common|sac|td3|dqn|ppo|a2c)\.policies|sb3_contrib\.tqc\.policies"
)
# Keyword arguments of policy classes that are plain numbers and change what a policy does. Not
# log_std_init: what it begins is in the tensors.
_PLAIN_KWARGS = (
    *("clip_mean", "use_expln", "full_std", "squash_output"),
    *("share_features_extractor", "normalize_images"),
)
_KNOWN_EXTRACTOR = re.compile(
    r"^\{\}$|stable_baselines3\.common\.torch_layers\.(FlattenExtractor|CombinedExtractor|NatureCNN)"
)
TRUST = "--trust opens it with SB3's own loader, which runs the code in it"

MAX_LAYERS = 33  # of a network on the kernels

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
_NUMBER = re.compile(r"[-+]?(?:inf|\d+(?:\.\d*)?(?:e[-+]?\d+)?)")
MAX_PRINTED = 10_000  # characters of bounds that are compared


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
    normalizer: Normalizer | None
    """What lies beside the file."""


class TorchPolicy:
    """An SB3 policy behind our Policy protocol: raw observations in, actions out."""

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None) -> None:
        self._policy = policy
        self._normalizer = normalizer

    def act(self, observations: Observations) -> NDArray[Any]:
        """Deterministic actions [n, ...] for a batch of n raw observations."""
        return self._predict(observations, deterministic=True)

    def _predict(self, observations: Observations, deterministic: bool) -> NDArray[Any]:
        if self._normalizer is not None:
            observations = self._normalizer(observations)
        with _one_thread():
            actions, _ = self._policy.predict(observations, deterministic=deterministic)
        return np.asarray(actions)


class StochasticPolicy(TorchPolicy):
    """The same, with actions drawn from the policy's distribution, all from one seed.

    gSDE's noise matrices are drawn once, one for each observation of the batch, as SB3 does at the
    start of a rollout.
    """

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None, seed: int) -> None:
        import torch

        super().__init__(policy, normalizer)
        generator = torch.Generator()
        generator.manual_seed(seed)
        self._state = generator.get_state()
        self._has_noise = False

    def act(self, observations: Observations) -> NDArray[Any]:
        """Drawn actions [n, ...] for a batch of n raw observations."""
        import torch

        policy: Any = self._policy
        with torch.random.fork_rng(devices=[]):  # SB3 draws from the global generator
            torch.set_rng_state(self._state)
            if not self._has_noise and _uses_sde(policy):
                some = (
                    next(iter(observations.values()))
                    if isinstance(observations, Mapping)
                    else observations
                )
                getattr(policy, "actor", policy).reset_noise(len(some))
                self._has_noise = True
            actions = self._predict(observations, deterministic=False)
            self._state = torch.get_rng_state()
        return actions


def _uses_sde(policy: Any) -> bool:
    return bool(getattr(policy, "use_sde", False)) or bool(
        getattr(getattr(policy, "actor", None), "use_sde", False)
    )


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
    layers = network_layers(policy.state_dict())["actor"]
    if kernels.missing() or not _is_plain_mlp(policy) or len(layers) > MAX_LAYERS:
        return TorchPolicy(policy, normalizer)
    tensors = {name: tensor.detach().numpy() for name, tensor in policy.state_dict().items()}
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
        and not _uses_sde(policy)
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


class Options(NamedTuple):
    """How a policy file shall be read."""

    normalizer: Path | None = None
    """Where its normaliser lies; default: looked for beside the file."""
    stochastic_seed: int | None = None
    """Draw actions from the policy's distribution with this seed; default: deterministic."""
    trust: bool = False
    """Let SB3's own loader run the file's code where it cannot be read otherwise."""


def read(
    path: Path,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    options: Options | None = None,
) -> Policy:
    """The policy of an SB3 zip for a task with these spaces; none of the file's code is run.

    Raises:
        PolicyFileError: if the file is no SB3 zip, is damaged, was made for other spaces, or needs
            something that cannot be read safely (unless `options.trust`).
    """
    options = options or Options()
    try:
        policy, data = _read(path, observation_space, action_space)
    except UnsafeFileError as error:
        if not options.trust:
            raise UnsafeFileError(f"{error}; {TRUST}") from None
        log.warning("%s: opened with SB3's own loader, which runs the code in it (%s)", path, error)
        policy, data = _load_with_sb3(path, observation_space, action_space), {}
    policy.set_training_mode(False)
    normalizer = _find_normalizer(path, options, data, policy)
    if options.stochastic_seed is None:
        return acting(policy, normalizer)
    if not hasattr(policy, "evaluate_actions") and not hasattr(
        getattr(policy, "actor", None), "action_dist"
    ):
        raise PolicyFileError(
            f"{path}: its policy draws nothing, there is no distribution to draw from: leave out "
            "--stochastic"
        )
    return StochasticPolicy(policy, normalizer, options.stochastic_seed)


def observation_shape(path: Path) -> tuple[int, ...] | None:
    """The shape of the observations that a policy file was trained on, as far as it says.

    Raises:
        PolicyFileError: if the file is no SB3 zip or is damaged.
    """
    with opened(path) as archive:
        space = _json(path, archive).get("observation_space")
    shape = space.get("_shape", space.get("shape")) if isinstance(space, Mapping) else None
    if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
        return tuple(shape)
    return None


def _read(
    path: Path, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> tuple[BasePolicy, dict[str, Any]]:
    data, tensors = _members(path)
    _check_policy_class(path, data)
    _check_spaces(path, data, observation_space, action_space)
    tensors = _without_shared_layers(tensors)
    _check_layers(path, tensors)
    if not finite(tensors):
        raise PolicyFileError(f"{path}: its weights hold NaN or infinity")
    policy = _build(path, data, tensors, observation_space, action_space)
    try:
        if _is_tqc(tensors):  # its critics give quantiles, which no action needs
            actor: Any = policy.actor
            actor.load_state_dict(_below(tensors, "actor"))
        else:
            policy.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise PolicyFileError(f"{path}: its networks do not fit the task: {reason}") from None
    return policy, data


def _load_with_sb3(
    path: Path, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> BasePolicy:
    """SB3's own loader: unpickles, and so runs, what is in the file."""
    import stable_baselines3

    with opened(path) as archive:
        names = set(_state_dict(path, archive)) if "policy.pth" in archive.namelist() else set()
    algorithms: list[Any] = [stable_baselines3.PPO]
    if any(name.startswith("q_net.") for name in names):
        algorithms = [stable_baselines3.DQN]
    elif any(name.startswith("actor.") for name in names):
        algorithms = [stable_baselines3.SAC, stable_baselines3.TD3]
        with contextlib.suppress(ImportError):
            import sb3_contrib

            algorithms.insert(0, sb3_contrib.TQC)
    reason = ""
    for algorithm in algorithms:
        try:
            policy: BasePolicy = algorithm.load(path, device="cpu").policy
        except Exception as error:  # it is somebody's code
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        ours = (observation_space.shape, action_space.shape)
        if (policy.observation_space.shape, policy.action_space.shape) != ours:
            raise PolicyFileError(f"{path}: is a policy of another task")
        return policy
    raise PolicyFileError(f"{path}: SB3's own loader cannot open it either: {reason}")


def _find_normalizer(
    path: Path, options: Options, data: Mapping[str, Any], policy: BasePolicy
) -> Normalizer | None:
    """The normaliser of a policy file: Gallop's, else the Zoo's, else the hub's."""
    found = options.normalizer or normalizer_beside(path)
    if found is not None:
        normalizer = read_normalizer(found)
        if normalizer is not None:
            _check_normalizer(found, normalizer, policy)
        return normalizer
    if _was_normalised(data, policy):
        raise PolicyFileError(
            f"{path}: was trained on normalised observations, and neither "
            f"{normalizer_path(path).name} nor vecnormalize.pkl lies beside it"
        )
    return None


def normalizer_beside(path: Path) -> Path | None:
    """The normaliser that belongs to a policy file: ours, the hub's, or the Zoo's, which keeps it
    in a folder named after the task, beside the zip of that name and the best policy."""
    candidates = [
        normalizer_path(path),
        path.with_name("vecnormalize.pkl"),
        path.with_name("vec_normalize.pkl"),
        path.with_suffix("") / "vecnormalize.pkl",
    ]
    if path.stem == "best_model":
        candidates += sorted(path.parent.glob("*/vecnormalize.pkl"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_normalizer(path: Path) -> Normalizer | None:
    """Gallop's .npz or the Zoo's .pkl; None if that one normalises no observations.

    Raises:
        PolicyFileError: if it cannot be read, or only by running code.
    """
    normalizer = read_vecnormalize(path) if path.suffix == ".pkl" else _read_npz(path)
    if normalizer is not None and not _is_sound(normalizer):
        raise PolicyFileError(f"{path}: is no normaliser: its statistics are no finite numbers")
    return normalizer


def _read_npz(path: Path) -> Normalizer:
    if not path.exists():
        raise PolicyFileError(f"{path}: cannot be read: there is no such file")
    try:
        with opened(path):  # which holds it to the limits
            return Normalizer.load(path)
    except PolicyFileError:
        raise
    except Exception as error:  # NumPy raises many kinds, MemoryError for a shape that is a lie
        raise PolicyFileError(f"{path}: cannot be read: {error}"[:400]) from None


def _is_sound(normalizer: Normalizer) -> bool:
    """Whether it holds finite numbers alone, and variances that are some."""
    found: list[Any] = [*normalizer.mean.values(), *normalizer.variance.values()]
    scalars = (normalizer.count, normalizer.clip, normalizer.epsilon)
    return (
        normalizer.mean.keys() == normalizer.variance.keys()
        # NumPy gives a member that is no array as bytes.
        and all(isinstance(array, np.ndarray) and array.dtype.kind == "f" for array in found)
        and all(np.isfinite(array).all() for array in (*found, scalars))
        and all((variance >= 0).all() for variance in normalizer.variance.values())
        and normalizer.epsilon >= 0
    )


def _check_normalizer(path: Path, normalizer: Normalizer, policy: BasePolicy) -> None:
    from gymnasium import spaces

    space = policy.observation_space
    parts = dict(space.items()) if isinstance(space, spaces.Dict) else {"": space}
    for key, mean in normalizer.mean.items():
        shape = parts[key].shape if key in parts else None
        if mean.shape != shape or normalizer.variance[key].shape != shape:
            raise PolicyFileError(
                f"{path}: normalises observations of shape {list(mean.shape)}, and the policy's "
                f"have {list(shape) if shape is not None else 'no ' + repr(key)}"
            )


def _was_normalised(data: Mapping[str, Any], policy: BasePolicy) -> bool:
    """On-policy algorithms keep raw observations only if they normalise; the others always do."""
    return hasattr(policy, "evaluate_actions") and data.get("_last_original_obs") is not None


def read_training(path: Path) -> Training:
    """All that training needs from an SB3 zip; none of the file's code is run.

    Raises:
        PolicyFileError: if the file is no SB3 zip or is damaged.
    """
    data, tensors = _members(path)
    optimizers, variables = {}, {}
    with opened(path) as archive:
        for name in archive.namelist():
            if name.endswith("optimizer.pth"):
                found = _tensors(path, archive, name)
                state: Any = found.get("state") if isinstance(found, Mapping) else None
                if not _is_adam(state):
                    raise PolicyFileError(f"{path}: its member {name!r} is no state of Adam")
                optimizers[name.removesuffix(".pth")] = state
            elif name == "pytorch_variables.pth":
                variables = _tensors(path, archive, name)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    if not finite(tensors):
        raise PolicyFileError(f"{path}: its weights hold NaN or infinity")
    beside = normalizer_beside(path)
    normalizer = read_normalizer(beside) if beside else None
    return Training(data, arrays, optimizers, variables, normalizer)


def does_not_fit(path: Path, error: Exception) -> PolicyFileError:
    """What to say of a zip whose networks are not the experiment's."""
    reason = str(error).splitlines()[-1].strip()
    return PolicyFileError(
        f"{path}: its networks do not fit the experiment: {reason} "
        "(hyperparameters.policy_kwargs.net_arch gives their widths)"
    )


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
    with opened(path) as archive:
        return _json(path, archive), _state_dict(path, archive)


def _json(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """The member `data`: settings, counters, and readable strings beside pickles."""
    try:
        data = json.loads(member(archive, "data", str(path), MAX_JSON_BYTES))
    except PolicyFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"{path}: its member data cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise PolicyFileError(f"{path}: is no SB3 policy: its member data holds something else")
    return data


def _state_dict(path: Path, archive: zipfile.ZipFile) -> dict[str, torch.Tensor]:
    tensors = _tensors(path, archive, "policy.pth")
    if not all_tensors(tensors):
        raise PolicyFileError(f"{path}: is no SB3 policy: its policy.pth holds something else")
    return dict(tensors)


def _tensors(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    return load_tensors(member(archive, name, str(path)), f"{path}: its member {name!r}")


def _below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _check_policy_class(path: Path, data: Mapping[str, Any]) -> None:
    readable = data.get("policy_class")
    module = readable.get("__module__") if isinstance(readable, Mapping) else None
    if module is not None and not _KNOWN_POLICY.fullmatch(str(module)):
        raise UnsafeFileError(
            f"{path}: has a policy class of its own, of {str(module)[:80]!r}, which only its code "
            "can make"
        )


def _is_tqc(tensors: Mapping[str, torch.Tensor]) -> bool:
    return _widths(tensors, "critic.qf0")[-1:] not in ([], [1])


def _without_shared_layers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SB3 before 1.8 could share layers between actor and value: they are given to both."""
    shared = _below(tensors, "mlp_extractor.shared_net")
    if not shared:
        return tensors
    found = {k: v for k, v in tensors.items() if not k.startswith("mlp_extractor.")}
    first = 1 + max(int(name.split(".")[0]) for name in shared if name.split(".")[0].isdigit())
    first += first % 2  # the activation function behind the last shared layer
    for net in ("mlp_extractor.policy_net", "mlp_extractor.value_net"):
        found |= {f"{net}.{name}": tensor for name, tensor in shared.items()}
        for name, tensor in _below(tensors, net).items():
            index, _, rest = name.partition(".")
            if index.isdigit():
                found[f"{net}.{int(index) + first}.{rest}"] = tensor
    return found


def _check_layers(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Each layer must take what the one before gives: else building them could fill the memory."""
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
            raise PolicyFileError(f"{path}: its layers {prefix!r} do not fit each other")


def _check_spaces(
    path: Path,
    data: Mapping[str, Any],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> None:
    for name, space in (("observation", observation_space), ("action", action_space)):
        readable = data.get(f"{name}_space")
        readable = readable if isinstance(readable, Mapping) else {}
        kind = re.search(r"\.(\w+)'>$", str(readable.get(":type:", ""))[:200])
        shape = readable.get("_shape", readable.get("shape"))
        shape = list(shape) if isinstance(shape, list) else None
        theirs = (kind.group(1) if kind else "?", shape, readable.get("n"))
        ours = (type(space).__name__, list(space.shape or ()), str(getattr(space, "n", None)))
        same_shape = theirs[1] is None or theirs[1] == ours[1]
        same_number = theirs[2] is None or re.findall(r"\d+", str(theirs[2])) == re.findall(
            r"\d+", ours[2]
        )
        # SB3 divides images of bytes by 255, and no others.
        dtype = readable.get("dtype")
        same_scale = dtype is None or (dtype == "uint8") == (str(space.dtype) == "uint8")
        if theirs[0] != ours[0] or not same_shape or not same_number or not same_scale:
            raise PolicyFileError(
                f"{path}: is a policy of another task: its {name}s are {theirs[0]} "
                f"{str(theirs[1] or theirs[2] or '')[:40]}, the task's are {ours[0]} "
                f"{ours[1] or ours[2]}" + ("" if same_scale else f" of {space.dtype}, not {dtype}")
            )
        # Bounds scale the actions; those of observations change no policy.
        names = ("low", "high", "nvec", "start") if name == "action" else ("nvec",)
        _check_numbers(path, name, names, readable, space)


def _check_numbers(
    path: Path,
    what: str,
    names: tuple[str, ...],
    readable: Mapping[str, Any],
    space: gymnasium.Space[Any],
) -> None:
    """The spaces come from the task; where the file prints its own numbers, they must agree."""
    for name in names:
        printed = str(readable.get(name, ""))[: MAX_PRINTED + 1]
        words = re.sub(r"[\[\],]", " ", printed).split()
        if words and len(printed) <= MAX_PRINTED and all(map(_NUMBER.fullmatch, words)):
            theirs = np.array([float(word) for word in words])
            ours = np.asarray(getattr(space, name, theirs), dtype=np.float64).reshape(-1)
            # Printed with eight digits at most.
            if theirs.size not in (1, ours.size) or not np.allclose(theirs, ours, rtol=1e-6):
                raise PolicyFileError(
                    f"{path}: is a policy of another task: its {what}s' {name} is "
                    f"{' '.join(printed.split())[:60]}, the task's {str(ours.tolist())[:200]}"
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
    from stable_baselines3.dqn import policies as dqn
    from stable_baselines3.sac import policies as sac
    from stable_baselines3.td3 import policies as td3

    readable = data.get("policy_kwargs", {})
    if not isinstance(readable, Mapping):
        raise PolicyFileError(f"{path}: is no SB3 policy: its policy_kwargs are no mapping")
    kwargs: dict[str, Any] = {
        name: _plain(path, name, readable[name]) for name in _PLAIN_KWARGS if name in readable
    }
    if activation := _activation(path, readable):
        kwargs["activation_fn"] = activation
    for name in ("features_extractor_class", "features_extractor_kwargs"):
        if not _KNOWN_EXTRACTOR.search(str(readable.get(name) or "{}")[:200]):
            raise UnsafeFileError(
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
    arch: dict[str, list[int]] | list[int]
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
            "qf": [] if _is_tqc(tensors) else _widths(tensors, "critic.qf0")[:-1],
        }
        kwargs |= {"use_sde": use_sde, "n_critics": _n_critics(tensors)}
    elif "actor.mu.0.weight" in tensors:
        classes = (td3.TD3Policy, td3.CnnPolicy, td3.MultiInputPolicy)
        arch = {
            "pi": _widths(tensors, "actor.mu")[:-1],
            "qf": _widths(tensors, "critic.qf0")[:-1],
        }
        kwargs |= {"n_critics": _n_critics(tensors)}
    elif "q_net.q_net.0.weight" in tensors:
        classes = (dqn.DQNPolicy, dqn.CnnPolicy, dqn.MultiInputPolicy)
        arch = _widths(tensors, "q_net.q_net")[:-1]
    else:
        raise PolicyFileError(f"{path}: is no policy of SAC, TD3, PPO, A2C, DQN or TQC")
    make: Any = classes[kind]
    try:
        with _no_larger_than(tensors):
            policy: BasePolicy = make(
                observation_space, action_space, lambda _: 0.0, net_arch=arch, **kwargs
            )
    except Exception as error:  # SB3 and PyTorch raise many kinds for what nobody trains
        reason = " ".join(str(error).split())[:200]
        raise PolicyFileError(f"{path}: its networks cannot be rebuilt: {reason}") from None
    return policy


@contextlib.contextmanager
def _no_larger_than(tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Whether SB3's networks fit the file's is known when they are built: till then, a layer that
    takes more or gives more than the file's could fill the memory."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = sum(tensor.numel() for tensor in tensors.values()) + 1_000_000

    def count(module: Any, name: str, parameter: Any) -> None:  # before it is given any values
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
    """A keyword argument's number. SB3 prints those of NumPy, which JSON does not know."""
    if isinstance(value, str):
        words = {"True": True, "False": False}
        if value in words:
            return words[value]
        value = float(value) if _NUMBER.fullmatch(value) else None
    if not isinstance(value, bool | int | float) or not -1e6 <= value <= 1e6:
        raise UnsafeFileError(f"{path}: its {name} is no number that can be read")
    return value


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
