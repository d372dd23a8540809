"""Hyper-parameters of rl-baselines3-zoo as experiments: its names and its ways of writing values.

Nothing in a file is ever run.
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
    """One task of a file of the Zoo."""

    env: str
    data: dict[str, object] | None
    """Settings as in our YAML, those given alone; None where the task cannot be translated."""
    reason: str
    """Why it cannot, or what a user should know; empty where all is well."""


class Written(NamedTuple):
    """What became of one task of a file of the Zoo."""

    env: str
    path: Path | None
    """The file written; None where the task was left out."""
    reason: str


def read_zoo_file(path: Path, algo: str | None = None, env: str | None = None) -> list[Imported]:
    """The tasks of a file of hyper-parameters, or of the `config.yml` of one trained agent.

    Args:
        path: such as hyperparams/sac.yml.
        algo: the algorithm; None takes it from the file's name (config.yml: from the args.yml
            beside it).
        env: this task alone, from the file's entry `default` where the file does not list it.

    Raises:
        ExperimentError: in one line, if the file cannot be read or is one of another algorithm, or
            if `env` is given and cannot be translated.
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
        path, algo, env: as in `read_zoo_file`.
        output: the folder to write to; no file in it is ever overwritten.

    Returns:
        What became of each task, those left out included.

    Raises:
        ExperimentError: as `read_zoo_file` does, and before anything is written if a file exists.
    """
    tasks = read_zoo_file(path, algo, env)
    texts: dict[Path, str] = {}
    written = []
    for task in tasks:
        target = None
        if task.data is not None:
            target = output / str(task.data["algo"]) / f"{re.sub('[/:]', '-', task.env)}.yaml"
            if target in texts or target.exists():
                raise ExperimentError(f"{target} exists already, and is not overwritten")
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
            raise ExperimentError(f"{target}: cannot be written: {error.strerror}") from None
    return written


class _Dumper(yaml_text.Dumper):
    """Dumper that writes lists in brackets, as people do."""

    def brackets(self, values: list[object]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(list, _Dumper.brackets)


def _algorithm(path: Path, algo: object) -> str:
    name = str(algo or path.stem).lower()
    if name not in ALGORITHMS:
        raise ExperimentError(
            f"{path}: {name} is no algorithm of ours, allowed: {', '.join(ALGORITHMS)}; "
            "the file's name says which one it is about, unless it is named"
        )
    return name


# --- one task ------------------------------------------------------------------------------------


def _imported(entry: Entry, algo: str) -> Imported:
    try:
        if entry.env in ("default", "atari"):
            raise entry.error("", "stands for tasks that are not listed: ask for one of them")
        if not re.fullmatch(r"\w[\w.:/-]*", entry.env):
            raise entry.error("", "is no id of a task")
        experiment = _validated(entry, algo, _translated(entry, algo))
        experiment, moved, problem = _with_fitting_total(entry, experiment)
    except ExperimentError as error:
        return Imported(printable(entry.env), None, error.message)
    origin = f"{entry.path.name} of rl-baselines3-zoo, {entry.env}"
    source = "; ".join(words for words in (origin, entry.from_default, moved) if words)
    reason = "; ".join(words for words in (entry.from_default, moved, problem) if words)
    return Imported(entry.env, {"source": source, **_given(experiment)}, reason)


def _translated(entry: Entry, algo: str) -> dict[str, object]:
    """Settings as in our YAML, not yet checked."""
    defaults = ALGORITHMS[algo].hyperparameters()
    data: dict[str, object] = {"algo": algo, "env": entry.env}
    hyperparameters: dict[str, object] = {}
    for key, value in entry.settings.items():
        if value is None or (key in _WITHOUT_EFFECT and value == _WITHOUT_EFFECT[key]):
            continue
        try:
            if key in _OURS:
                name, translate = _OURS[key]
                data[name] = translate(value)
            elif key in type(defaults).model_fields and key != "utd":  # which SB3 does not have
                translate = _HYPERPARAMETERS.get(key, _as_it_is)
                hyperparameters[key] = translate(value)
            else:
                raise ValueError(f"has no counterpart in our {algo}")
        except ValueError as error:
            raise entry.error(key, f"{_shown(value)}: {error}") from None
    clip = hyperparameters.get("clip_range_vf")
    if isinstance(clip, int | float) and clip < 0:  # the Zoo's word for none
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
    """Where our default is not SB3's, what is not given must be said."""
    quantum = (hyperparameters.get("train_freq", 1), data.get("n_envs", 1))
    if "gradient_steps" not in hyperparameters and quantum != (1, 1):
        hyperparameters["gradient_steps"] = 1
    if "noise_type" not in hyperparameters and ours.noise_type != "none":
        hyperparameters["noise_type"] = "none"
    elif "noise_type" in hyperparameters and "noise_std" not in hyperparameters:
        raise entry.error("noise_type", "needs noise_std beside it")


def _validated(entry: Entry, algo: str, data: dict[str, object]) -> Experiment:
    try:
        return EXPERIMENTS[algo].model_validate(data)
    except ValidationError:
        try:
            from_dict(data)  # says the same in one line
        except ExperimentError as error:
            raise _about(entry, error) from None
        raise
    except OverflowError:
        raise entry.error("", "holds a number too large to compute with") from None


def _given(experiment: Experiment) -> dict[str, object]:
    """The settings that were given, as plain numbers, lists and text."""
    found: dict[str, object] = plain(experiment.model_dump(exclude_unset=True))
    return found


def _about(entry: Entry, error: ExperimentError) -> ExperimentError:
    """An error about one of our settings as one about the Zoo's key."""
    parts = error.field.split(".")
    zoo = {ours: key for key, (ours, _) in _OURS.items()}
    names = [zoo.get(part, part) for part in parts]
    key = next((name for name in names if name in entry.lines), names[-1])
    message = error.message.removeprefix(f"{error.field}: ")
    return entry.error(key, message if names[-1] == key else f"{names[-1]}: {message}")


def _with_fitting_total(entry: Entry, experiment: Experiment) -> tuple[Experiment, str, str]:
    """The experiment with the nearest total that can be cut into milestones; how it was moved, and
    what keeps the experiment from running here as it is."""
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
    moved = f"n_timesteps {experiment.total_timesteps:,} there"
    return _with_total(experiment, total), moved, ""


def _with_total(experiment: Experiment, total: int) -> Experiment:
    return experiment.model_copy(update={"total_timesteps": total})


def _problem(experiment: Experiment) -> ExperimentError | None:
    """Why settings that are right in themselves make no experiment here."""
    env, total = experiment.env, experiment.total_timesteps
    if ":" in env:  # looking it up would import, and so run, a module that the file names
        module = env.partition(":")[0]
        return ExperimentError(f"{env}: not checked, as {module} was not imported", "env")
    if total > MAX_TIMESTEPS:
        return ExperimentError(f"{total} is more than {MAX_TIMESTEPS}", "hyperparameters")
    try:
        from_dict(_given(experiment))
    except ExperimentError as error:
        return error
    return None


def _nearest_total(experiment: Experiment) -> int | None:
    """The nearest total that lines up.

    Quarters must be whole (off-policy: whole rounds of train_freq × n_envs), so totals are
    multiples of four; of those, all from some least one on, which leaves room for an episode.
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
    low = high  # too small, as is everything below it
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
    """n_timesteps: the Zoo's 1e6 is a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mapping(value: object) -> dict[str, object]:
    """A mapping, written as YAML or as Python."""
    found = read_literal(value) if isinstance(value, str) else value
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError("a mapping such as dict(a=1) is needed")
    return found


def _normalize(value: object) -> object:
    """VecNormalize's keywords as ours; both are on unless switched off."""
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
            raise ValueError(f"{name} has no counterpart here; {nearest(name, list(names))}")
    both = {"observations": True, "rewards": True}
    return both | {names[name]: part for name, part in given.items()}


def _policy_kwargs(value: object) -> object:
    kwargs = dict(_mapping(value))
    arch = kwargs.get("net_arch")
    if isinstance(arch, list) and any(isinstance(part, dict) for part in arch):
        if len(arch) > 1:  # older SB3: layers before the dict were shared
            raise ValueError("net_arch: layers shared by actor and critic have no counterpart here")
        kwargs["net_arch"] = arch[0]
    return kwargs


def _wrappers(value: object) -> list[dict[str, object]]:
    """One wrapper or several, each a path or {path: keyword arguments}."""
    found = []
    for part in value if isinstance(value, list) else [value]:
        wrapper = {part: {}} if isinstance(part, str) else part
        if not isinstance(wrapper, dict) or len(wrapper) != 1:
            raise ValueError("a path such as package.module.Class is needed")
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
        raise ValueError("timesteps are needed: training after whole episodes does not exist here")
    return value


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
_WITHOUT_EFFECT = {"optimize_memory_usage": False, "frame_stack": 1}


def _shown(value: object) -> str:
    """A value in part of a line, however large it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlevel = 3
    return str(short.repr(value))
