"""Importing hyper-parameters of rl-baselines3-zoo, with its names and notation, as experiments.

No code in a file is ever run.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from gallop.algorithms.hyperparameters import OffPolicyHyperparameters
from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError, nearest, printable
from gallop.experiments import yaml_text
from gallop.experiments.settings import EXPERIMENTS, Experiment
from gallop.experiments.yaml_file import from_dict
from gallop.fields import MAX_TIMESTEPS, plain
from gallop.sharing.zoo_file import Entry, read_zoo_yaml
from gallop.sharing.zoo_literal import read_literal


class Imported(NamedTuple):
    """One task of a file of the Zoo, translated."""

    env: str
    data: dict[str, object] | None
    """Explicitly given settings, as in our YAML; None if the task cannot be translated."""
    reason: str
    """Why it cannot, or a remark for the user; "" if there is none."""


class Written(NamedTuple):
    """The outcome of importing one task of a file of the Zoo."""

    env: str
    path: Path | None
    """The file written; None if the task was skipped."""
    reason: str


def read_zoo_file(path: Path, algo: str | None = None, env: str | None = None) -> list[Imported]:
    """Read the tasks of a file of hyper-parameters, or of the `config.yml` of one trained agent.

    Args:
        path: a file such as hyperparams/sac.yml.
        algo: the algorithm; default: from the file's name (for config.yml: from the args.yml next
            to it).
        env: only this task; if the file does not list it, its entry `default` is used.

    Raises:
        ExperimentError: if the file cannot be read or its algorithm is not supported, or if `env`
            is given and cannot be translated.
    """
    file = read_zoo_yaml(path)
    name = _algorithm(path, algo or file.args.get("algo"))
    found = [_imported(entry, name) for entry in file.entries(env)]
    if env is not None and found[0].data is None:
        raise ExperimentError(found[0].reason)
    return found


def import_zoo(
    path: Path, output: Path, algo: str | None = None, env: str | None = None
) -> list[Written]:
    """Write `<output>/<algo>/<env>.yaml` for every task of a file of the Zoo, or for one.

    Args:
        path: as for `read_zoo_file`.
        output: the folder to write to; existing files are never overwritten.
        algo: as for `read_zoo_file`.
        env: as for `read_zoo_file`.

    Returns:
        The outcome for each task, including those skipped.

    Raises:
        ExperimentError: as for `read_zoo_file`, or, before anything is written, if a file already
            exists.
    """
    tasks = read_zoo_file(path, algo, env)
    texts: dict[Path, str] = {}
    written = []
    for task in tasks:
        target = None
        if task.data is not None:
            target = output / str(task.data["algo"]) / f"{re.sub('[/:]', '-', task.env)}.yaml"
            if target in texts or target.exists():
                raise ExperimentError(f"{target} already exists, and is not overwritten")
            texts[target] = yaml.dump(
                task.data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
            )
        written.append(Written(task.env, target, task.reason))
    for target, text in texts.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ExperimentError(f"{target} cannot be written: {error.strerror}") from None
    return written


class _Dumper(yaml_text.Dumper):
    """Dumper that writes lists in brackets, as people do."""

    def brackets(self, values: list[object]) -> yaml.Node:
        """Represent a list in flow style."""
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(list, _Dumper.brackets)


def _algorithm(path: Path, algo: object) -> str:
    name = str(algo or path.stem).lower()
    if name not in ALGORITHMS:
        raise ExperimentError(
            f"{path}: algorithm {name!r} is not supported, allowed: {', '.join(ALGORITHMS)}; "
            "unless --algo is given, it is taken from the file name"
        )
    return name


# --- one task ------------------------------------------------------------------------------------


def _imported(entry: Entry, algo: str) -> Imported:
    try:
        if entry.env in ("default", "atari"):
            raise entry.error("", "applies to tasks that are not listed; choose one with --env")
        if not re.fullmatch(r"\w[\w.:/-]*", entry.env):
            raise entry.error("", "not a valid task id")
        experiment = _validated(entry, algo, _translated(entry, algo))
        experiment, moved, problem = _with_fitting_total(entry, experiment)
    except ExperimentError as error:
        return Imported(printable(entry.env), None, error.message)
    origin = f"{entry.path.name} of rl-baselines3-zoo, {entry.env}"
    source = "; ".join(words for words in (origin, entry.from_default, moved) if words)
    reason = "; ".join(words for words in (entry.from_default, moved, problem) if words)
    return Imported(entry.env, {"source": source, **_given(experiment)}, reason)


def _translated(entry: Entry, algo: str) -> dict[str, object]:
    """Return the settings as in our YAML, not yet validated."""
    defaults = ALGORITHMS[algo].hyperparameters()
    data: dict[str, object] = {"algo": algo, "env": entry.env}
    hyperparameters: dict[str, object] = {}
    for key, value in entry.settings.items():
        if value is None or (key in _WITHOUT_EFFECT and value == _WITHOUT_EFFECT[key]):
            continue
        try:
            if key in _REPLAY and isinstance(defaults, OffPolicyHyperparameters):
                hyperparameters |= _REPLAY[key](value)
            elif key in _OURS:
                name, translate = _OURS[key]
                data[name] = translate(value)
            elif key in type(defaults).model_fields and key != "utd":  # utd is not in SB3
                translate = _HYPERPARAMETERS.get(key, _as_it_is)
                hyperparameters[key] = translate(value)
            else:
                raise ValueError(f"not supported by {algo}")
        except ValueError as error:
            raise entry.error(key, f"{_shown(value)}: {error}") from None
    clip = hyperparameters.get("clip_range_vf")
    if isinstance(clip, int | float) and clip < 0:  # means "none" in the Zoo
        del hyperparameters["clip_range_vf"]
    if isinstance(defaults, OffPolicyHyperparameters):
        _add_sb3_defaults(entry, data, hyperparameters, defaults)
    return {**data, "hyperparameters": hyperparameters}


def _add_sb3_defaults(
    entry: Entry,
    data: Mapping[str, object],
    hyperparameters: dict[str, object],
    ours: OffPolicyHyperparameters,
) -> None:
    """Add settings that are not given and whose defaults differ from SB3's."""
    quantum = (hyperparameters.get("train_freq", 1), data.get("n_envs", 1))
    if "gradient_steps" not in hyperparameters and quantum != (1, 1):
        hyperparameters["gradient_steps"] = 1
    if "noise_type" not in hyperparameters and ours.noise_type != "none":
        hyperparameters["noise_type"] = "none"
    elif "noise_type" in hyperparameters and "noise_std" not in hyperparameters:
        raise entry.error("noise_type", "requires noise_std")


def _validated(entry: Entry, algo: str, data: dict[str, object]) -> Experiment:
    try:
        return EXPERIMENTS[algo].model_validate(data)
    except ValidationError:
        try:
            from_dict(data)  # reports the same error on one line
        except ExperimentError as error:
            raise _about(entry, error) from None
        raise
    except OverflowError:
        raise entry.error("", "a number is too large to compute with") from None


def _given(experiment: Experiment) -> dict[str, object]:
    """Return the explicitly given settings, as plain numbers, lists and strings."""
    found: dict[str, object] = plain(experiment.model_dump(exclude_unset=True))
    return found


def _about(entry: Entry, error: ExperimentError) -> ExperimentError:
    """Turn an error about one of our settings into one about the Zoo's key."""
    parts = error.field.split(".")
    zoo = {ours: key for key, (ours, _) in _OURS.items()}
    names = [zoo.get(part, part) for part in parts]
    key = next((name for name in names if name in entry.lines), names[-1])
    message = error.message.removeprefix(f"{error.field}: ")
    return entry.error(key, message if names[-1] == key else f"{names[-1]}: {message}")


def _with_fitting_total(entry: Entry, experiment: Experiment) -> tuple[Experiment, str, str]:
    """Return the experiment with the nearest total that can be divided into milestones.

    Returns:
        The experiment, a remark if the total was changed, and what still prevents it from running
        on this machine.
    """
    problem = _problem(experiment)
    if problem is None:
        return experiment, "", ""
    if problem.field == "env":
        return experiment, "", problem.message.removeprefix("env: ")
    if problem.field != "total_timesteps":
        raise _about(entry, problem)
    total = _nearest_total(experiment)
    if total is None:
        return experiment, "", problem.message
    moved = f"n_timesteps was {experiment.total_timesteps:,}"
    return _with_total(experiment, total), moved, ""


def _with_total(experiment: Experiment, total: int) -> Experiment:
    return experiment.model_copy(update={"total_timesteps": total})


def _problem(experiment: Experiment) -> ExperimentError | None:
    """Return why valid settings do not make an experiment that runs on this machine, or None."""
    env, total = experiment.env, experiment.total_timesteps
    if ":" in env:  # looking it up would import, and so run, a module named by the file
        module = env.partition(":")[0]
        return ExperimentError(f"{env}: not checked, because {module} was not imported", "env")
    if total > MAX_TIMESTEPS:
        return ExperimentError(f"{total} must be at most {MAX_TIMESTEPS}", "hyperparameters")
    try:
        from_dict(_given(experiment))
    except ExperimentError as error:
        return error
    return None


def _nearest_total(experiment: Experiment) -> int | None:
    """Return the nearest total that can be divided into milestones; None if there is none.

    A quarter of the total must be a whole number (off-policy: of train_freq × n_envs), so only
    multiples of four are possible. Of these, all above some minimum, which leaves room for an
    episode, are valid.
    """
    step, settings = 4, experiment.hyperparameters
    if isinstance(settings, OffPolicyHyperparameters):
        step *= settings.quantum(experiment.n_envs)

    def fits(multiple: int) -> bool:
        total = multiple * step
        return 0 < total <= MAX_TIMESTEPS and _problem(_with_total(experiment, total)) is None

    high = max(1, (experiment.total_timesteps + step // 2) // step)
    if fits(high):
        return high * step
    low = high  # too small, like everything below it
    while not fits(high):
        low, high = high, 2 * high
        if high * step > MAX_TIMESTEPS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high * step


# --- values --------------------------------------------------------------------------------------


def _as_it_is(value: object) -> object:
    return value


def _total(value: object) -> object:
    """Convert n_timesteps, which may be a float in the Zoo: 1e6."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mapping(value: object) -> dict[str, object]:
    """Return a mapping written in YAML or in Python."""
    found = read_literal(value) if isinstance(value, str) else value
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError("must be a mapping such as dict(a=1)")
    return found


def _normalize(value: object) -> object:
    """Translate VecNormalize's keywords to ours; both normalisations are on by default."""
    if isinstance(value, bool):
        return value
    names = {
        "norm_obs": "observations",
        "norm_reward": "rewards",
        "clip_obs": "clip_observations",
        "clip_reward": "clip_rewards",
    }
    given = _mapping(value)
    for name in given:
        if name not in names:
            raise ValueError(f"{name} is not supported; {nearest(name, list(names))}")
    both = {"observations": True, "rewards": True}
    return both | {names[name]: part for name, part in given.items()}


def _policy_kwargs(value: object) -> object:
    kwargs = dict(_mapping(value))
    arch = kwargs.get("net_arch")
    if isinstance(arch, list) and any(isinstance(part, dict) for part in arch):
        if len(arch) > 1:  # in older SB3, layers before the dict were shared
            raise ValueError("net_arch: layers shared by actor and critic are not supported")
        kwargs["net_arch"] = arch[0]
    return kwargs


def _wrappers(value: object) -> list[dict[str, object]]:
    """Translate one wrapper or several, each a path or {path: keyword arguments}."""
    found = []
    for part in value if isinstance(value, list) else [value]:
        wrapper = {part: {}} if isinstance(part, str) else part
        if not isinstance(wrapper, dict) or len(wrapper) != 1:
            raise ValueError("must be a path such as package.module.Class")
        path, kwargs = next(iter(wrapper.items()))
        module, _, name = str(path).rpartition(".")
        found.append({f"{module}:{name}": kwargs or {}})
    return found


def _train_freq(value: object) -> object:
    if isinstance(value, str):
        value = read_literal(value)
    if isinstance(value, list) and len(value) == 2 and value[1] == "step":
        return value[0]
    if isinstance(value, list):
        raise ValueError("must be in timesteps: training after whole episodes is not supported")
    return value


def _replay_class(value: object) -> dict[str, object]:
    if str(value).rpartition(".")[2] != "HerReplayBuffer":
        raise ValueError("must be HerReplayBuffer")
    return {"replay_buffer": "her"}


def _replay_kwargs(value: object) -> dict[str, object]:
    given = _mapping(value)
    known = ["n_sampled_goal", "goal_selection_strategy"]
    for name in given:
        if name not in known and not (name == "copy_info_dict" and given[name] is False):
            raise ValueError(f"{name} is not supported; {nearest(name, known)}")
    return {name: given[name] for name in known if name in given}


def _noise_type(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


Translate = Callable[[object], object]
_OURS: dict[str, tuple[str, Translate]] = {
    "n_timesteps": ("total_timesteps", _total),
    "n_envs": ("n_envs", _as_it_is),
    "normalize": ("normalize", _normalize),
    "env_wrapper": ("wrappers", _wrappers),
    "env_kwargs": ("env_kwargs", _mapping),
}
_HYPERPARAMETERS: dict[str, Translate] = {
    "policy_kwargs": _policy_kwargs,
    "train_freq": _train_freq,
    "noise_type": _noise_type,
}
_REPLAY = {"replay_buffer_class": _replay_class, "replay_buffer_kwargs": _replay_kwargs}
_WITHOUT_EFFECT = {"optimize_memory_usage": False, "frame_stack": 1}


def _shown(value: object) -> str:
    """Return a value, however large, in a form that fits on part of a line."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlevel = 3
    return str(short.repr(value))
