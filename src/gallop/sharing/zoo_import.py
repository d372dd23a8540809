"""Files of rl-baselines3-zoo: its hyper-parameters as experiments, and an experiment as its files.

The Zoo evaluates strings such as "dict(net_arch=[400, 300])" as Python. Here they are parsed, and a
short list of what such a string may hold is walked; nothing in a file is ever run.
"""

from __future__ import annotations

import ast
import re
import reprlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from pydantic import ValidationError

from gallop.errors import ExperimentError, nearest, printable
from gallop.experiments.settings import EXPERIMENTS
from gallop.experiments.yaml_file import bounded_text, expanded_size, explaining_yaml, from_dict
from gallop.fields import MAX_TIMESTEPS

MAX_TEXT = 2_000  # characters of one value
MAX_DEPTH = 8  # brackets inside each other in one value

ACTIVATIONS = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "SiLU": "silu",
    "GELU": "gelu",
}
"""PyTorch's class of an activation function -> our name."""

_MODULES = ("nn", "th.nn", "torch.nn")  # the names under which the Zoo's strings know torch.nn
_ALLOWED = "allowed: numbers, text, lists, dict(...) and activation functions such as nn.ReLU"
_MERGE = "tag:yaml.org,2002:merge"


class Imported(NamedTuple):
    """One task of a file of the Zoo."""

    env: str
    data: dict[str, Any] | None
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
        algo: sac, td3 or ppo; None takes it from the file's name (config.yml: from the args.yml
            beside it).
        env: this task alone, from the file's entry `default` where the file does not list it.

    Raises:
        ExperimentError: in one line, if the file cannot be read or is one of another algorithm, or
            if `env` is given and cannot be translated.
    """
    data, node = _read_yaml(path)
    beside = _args_beside(path) if _is_config(data) else {}
    algo = _algo(path, algo or beside.get("algo"))
    if _is_config(data):
        task = env or beside.get("env")
        if not isinstance(task, str):
            raise ExperimentError(f"{path}: is about one task, and does not say which: name it")
        entries = [_Entry(path, task, data, _key_lines(node), 1)]
    else:
        entries = _entries(path, data, node, env)
    found = [_imported(entry, algo) for entry in entries]
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
            target = output / task.data["algo"] / f"{re.sub('[/:]', '-', task.env)}.yaml"
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


# --- the file ------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """What a file says of one task, and where."""

    path: Path
    env: str
    settings: dict[str, Any]
    lines: Mapping[str, int]
    """Of each key."""
    line: int
    from_default: str = ""
    """Words for `source`, where the file does not list the task."""

    def error(self, key: str, message: str) -> ExperimentError:
        """One line: place, task, key (empty where it is about the task), and what is wrong."""
        line = self.lines.get(key, self.line)
        name = f"{key}: " if key else ""
        return ExperimentError(f"{self.path}:{line}: {self.env}: {name}{message}")


class _Loader(yaml.SafeLoader):
    """SafeLoader that also knows the sorted mapping as which the Zoo writes config.yml."""

    def ordered_dict(self, node: yaml.Node) -> dict[Any, Any]:
        assert isinstance(node, yaml.SequenceNode)
        (pairs,) = self.construct_sequence(node, deep=True) or [[]]
        return dict(pairs)


_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _Loader.ordered_dict
)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that writes lists in brackets, as people do."""

    def brackets(self, values: list[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(list, _Dumper.brackets)


def _read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node]:
    """A file's data, and its nodes, which know their lines."""
    with explaining_yaml(path):
        text = bounded_text(path, "a file of hyper-parameters")
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            expanded_size(node, {}, MAX_TEXT)
        data = {} if node is None else loader.construct_document(node)
    if not isinstance(data, dict) or not data or not all(isinstance(key, str) for key in data):
        raise ExperimentError(f"{path}: is empty or no mapping of tasks to hyper-parameters")
    # A second, fresh tree: making the data has written the merged keys into the first.
    lines = _Loader(text).get_single_node()
    assert lines is not None, "there was data"
    return data, lines


def _key_lines(node: yaml.Node) -> dict[str, int]:
    """The line of each key of a mapping; of a merged one, its line where it was written."""
    own: dict[str, int] = {}
    merged: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.tag == _MERGE:
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                merged = _key_lines(part) | merged
        else:
            own[str(key.value)] = key.start_mark.line + 1
    return merged | own


def _entries(path: Path, data: dict[str, Any], node: yaml.Node, env: str | None) -> list[_Entry]:
    """The tasks of a file, or the one asked for."""
    lines = _key_lines(node)
    below = {str(key.value): _key_lines(value) for key, value in node.value}

    def entry(name: str, env: str, words: str = "") -> _Entry:
        settings = data[name]
        if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
            raise ExperimentError(f"{path}:{lines.get(name, 1)}: {name}: is no mapping")
        return _Entry(path, env, settings, below.get(name, {}), lines.get(name, 1), words)

    if env is None:
        return [entry(name, name) for name in data]
    if env in data:
        return [entry(env, env)]
    words = f"not listed there: its entry {{}}{_same_task(env, list(data))}"
    if "atari" in data and ("NoFrameskip" in env or env.startswith("ALE/")):
        return [entry("atari", env, words.format("atari"))]
    if "default" in data:
        return [entry("default", env, words.format("default"))]
    raise ExperimentError(
        f"{path}: does not list {env}, and has no default; {nearest(env, list(data))}"
    )


def _same_task(env: str, names: list[str]) -> str:
    """A hint at other versions of a task."""
    task = re.sub(r"-v\d+$", "", env)
    others = [name for name in names if re.sub(r"-v\d+$", "", name) == task]
    return f" (it lists {', '.join(others)})" if others else ""


def _is_config(data: Mapping[str, Any]) -> bool:
    """Whether this is one task's config.yml."""
    return "n_timesteps" in data or "policy" in data


def _args_beside(path: Path) -> dict[str, Any]:
    beside = path.with_name("args.yml")
    return _read_yaml(beside)[0] if beside.is_file() else {}


def _algo(path: Path, algo: Any) -> str:
    name = str(algo or path.stem).lower()
    if name not in EXPERIMENTS:
        raise ExperimentError(
            f"{path}: {name} is no algorithm of ours, allowed: {', '.join(EXPERIMENTS)}; "
            "the file's name says which one it is about, unless it is named"
        )
    return name


# --- one task ------------------------------------------------------------------------------------


def _imported(entry: _Entry, algo: str) -> Imported:
    try:
        if entry.env in ("default", "atari"):
            raise entry.error("", "stands for tasks that are not listed: ask for one of them")
        if not re.fullmatch(r"\w[\w.:/-]*", entry.env):
            raise entry.error("", "is no id of a task")
        data = _given(entry, _translated(entry, algo))
        data, moved, problem = _with_fitting_total(entry, data)
    except ExperimentError as error:
        return Imported(printable(entry.env), None, error.message)
    origin = f"{entry.path.name} of rl-baselines3-zoo, {entry.env}"
    source = "; ".join(words for words in (origin, entry.from_default, moved) if words)
    reason = "; ".join(words for words in (entry.from_default, moved, problem) if words)
    return Imported(entry.env, {"source": source, **data}, reason)


def _translated(entry: _Entry, algo: str) -> dict[str, Any]:
    """Settings as in our YAML, not yet checked."""
    data: dict[str, Any] = {"algo": algo, "env": entry.env}
    hyperparameters: dict[str, Any] = {}
    for key, value in entry.settings.items():
        if value is None or (key in _WITHOUT_EFFECT and value == _WITHOUT_EFFECT[key]):
            continue
        try:
            if key in _OURS:
                name, translate = _OURS[key]
                data[name] = translate(value)
            elif key in _hyperparameter_names(algo):
                translate = _HYPERPARAMETERS.get(key, _as_it_is)
                hyperparameters[key] = translate(value)
            else:
                raise ValueError(f"has no counterpart in our {algo}")
        except ValueError as error:
            raise entry.error(key, f"{_shown(value)}: {error}") from None
    if algo == "ppo":
        clip = hyperparameters.get("clip_range_vf")
        if isinstance(clip, int | float) and clip < 0:  # the Zoo's word for none
            del hyperparameters["clip_range_vf"]
    else:
        _add_what_we_would_do_otherwise(entry, data, hyperparameters)
    return {**data, "hyperparameters": hyperparameters}


def _add_what_we_would_do_otherwise(
    entry: _Entry, data: Mapping[str, Any], hyperparameters: dict[str, Any]
) -> None:
    """Where our default is not SB3's, what is not given must be said."""
    quantum = (hyperparameters.get("train_freq", 1), data.get("n_envs", 1))
    if "gradient_steps" not in hyperparameters and quantum != (1, 1):
        hyperparameters["gradient_steps"] = 1
    if "noise_type" not in hyperparameters and data["algo"] == "td3":
        hyperparameters["noise_type"] = "none"
    elif "noise_type" in hyperparameters and "noise_std" not in hyperparameters:
        raise entry.error("noise_type", "needs noise_std beside it")


def _hyperparameter_names(algo: str) -> set[str]:
    """SB3's names of what an algorithm has here."""
    defaults = EXPERIMENTS[algo].model_fields["hyperparameters"].default
    return set(type(defaults).model_fields) - {"utd"}


def _given(entry: _Entry, data: dict[str, Any]) -> dict[str, Any]:
    """The same settings, checked, as plain numbers, lists and text."""
    try:
        given = EXPERIMENTS[data["algo"]].model_validate(data)
    except ValidationError:
        try:
            from_dict(data)  # says the same in one line
        except ExperimentError as error:
            raise _about(entry, error) from None
        raise
    except OverflowError:
        raise entry.error("", "holds a number too large to compute with") from None
    return given.model_dump(mode="json", exclude_unset=True)


def _about(entry: _Entry, error: ExperimentError) -> ExperimentError:
    """An error about one of our settings as one about the Zoo's key."""
    parts = error.field.split(".")
    zoo = {ours: key for key, (ours, _) in _OURS.items()}
    names = [zoo.get(part, part) for part in parts]
    key = next((name for name in names if name in entry.lines), names[-1])
    message = error.message.removeprefix(f"{error.field}: ")
    return entry.error(key, message if names[-1] == key else f"{names[-1]}: {message}")


def _with_fitting_total(entry: _Entry, data: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """The settings with the nearest total that can be cut into milestones; how it was moved, and
    what keeps the experiment from running here as it is."""
    problem = _problem(data)
    if problem is None:
        return data, "", ""
    if problem.field == "env":
        return data, "", problem.message.removeprefix("env: ")
    if problem.field != "total_timesteps":
        raise _about(entry, problem)
    there, total = data["total_timesteps"], _nearest_total(data)
    if total is None:
        return data, "", problem.message
    return {**data, "total_timesteps": total}, f"n_timesteps {there:,} there", ""


def _problem(data: Mapping[str, Any]) -> ExperimentError | None:
    """Why settings that are right in themselves make no experiment here."""
    env, total = data["env"], data["total_timesteps"]
    if ":" in env:  # looking it up would import, and so run, a module that a stranger has named
        module = env.partition(":")[0]
        return ExperimentError(f"{env}: not checked, as {module} was not imported", "env")
    if total > MAX_TIMESTEPS:
        return ExperimentError(f"{total} is more than {MAX_TIMESTEPS}", "hyperparameters")
    try:
        from_dict(data)
    except ExperimentError as error:
        return error
    return None


def _nearest_total(data: Mapping[str, Any]) -> int | None:
    """The nearest total that lines up.

    Quarters must be whole (SAC and TD3: whole rounds of train_freq × n_envs), so totals are
    multiples of four; of those, all from some least one on, which leaves room for an episode.
    """
    hyperparameters = data["hyperparameters"]
    quantum = hyperparameters.get("train_freq", 1) * data.get("n_envs", 1)
    step = 4 if data["algo"] == "ppo" else 4 * quantum

    def fits(multiple: int) -> bool:
        total = multiple * step
        return 0 < total <= MAX_TIMESTEPS and _problem({**data, "total_timesteps": total}) is None

    high = max(1, (data["total_timesteps"] + step // 2) // step)
    if fits(high):
        return int(high * step)
    low = high  # too small, as is everything below it
    while not fits(high):
        low, high = high, 2 * high
        if high * step > MAX_TIMESTEPS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return int(high * step)


# --- values --------------------------------------------------------------------------------------


def _as_it_is(value: Any) -> Any:
    return value


def _total(value: Any) -> Any:
    """n_timesteps: the Zoo's 1e6 is a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping, written as YAML or as Python."""
    found = read_literal(value) if isinstance(value, str) else value
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError("a mapping such as dict(a=1) is needed")
    return found


def _normalize(value: Any) -> Any:
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


def _policy_kwargs(value: Any) -> Any:
    kwargs = dict(_mapping(value))
    arch = kwargs.get("net_arch")
    if isinstance(arch, list) and any(isinstance(part, dict) for part in arch):
        if len(arch) > 1:  # older SB3: layers before the dict were shared
            raise ValueError("net_arch: layers shared by actor and critic have no counterpart here")
        kwargs["net_arch"] = arch[0]
    return kwargs


def _wrappers(value: Any) -> list[dict[str, Any]]:
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


def _train_freq(value: Any) -> Any:
    if isinstance(value, str):
        value = read_literal(value)
    if isinstance(value, list) and len(value) == 2 and value[1] == "step":
        return value[0]
    if isinstance(value, list):
        raise ValueError("timesteps are needed: training after whole episodes does not exist here")
    return value


def _noise_type(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


Translate = Callable[[Any], Any]
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


def _shown(value: Any) -> str:
    """A value in part of a line, however large it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlevel = 3
    return str(short.repr(value))


def read_literal(text: str) -> Any:
    """The value of a string of Python, as the Zoo writes them: parsed, never run.

    >>> read_literal("dict(log_std_init=-2, activation_fn=nn.ReLU, net_arch=[400, 300])")
    {'log_std_init': -2, 'activation_fn': 'relu', 'net_arch': [400, 300]}

    Raises:
        ValueError: if it holds anything but literals, dict(...) and names of activation functions.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"has more than {MAX_TEXT:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about a stranger's text
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"is no Python literal; {_ALLOWED}") from None
    return _value(tree.body, 1)


def _value(node: ast.expr, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as constant):
            return constant
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
            not isinstance(number, bool)
        ):
            return -number
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, depth + 1) for part in parts]
        case ast.Dict(keys=keys, values=values):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            return _pairs(names, values, depth)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return _pairs([word.arg for word in keywords], [w.value for w in keywords], depth)
    return _refuse(node)


def _pairs(names: list[Any], values: list[ast.expr], depth: int) -> dict[str, Any]:
    """A dict's items; a name of None is `**`, which is refused, as is a name given twice."""
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"holds a dict whose keys are not each one name; {_ALLOWED}")
    return {
        name: _activation(value) if name == "activation_fn" else _value(value, depth + 1)
        for name, value in zip(names, values, strict=True)
    }


def _activation(node: ast.expr) -> str:
    module, _, name = ast.unparse(node).rpartition(".") if _is_path(node) else ("", "", "")
    if module not in _MODULES or name not in ACTIVATIONS:
        allowed = ", ".join(f"nn.{known}" for known in ACTIVATIONS)
        raise ValueError(f"activation_fn is none that is known here; allowed: {allowed}")
    return ACTIVATIONS[name]


def _is_path(node: ast.expr) -> bool:
    """Whether this is nothing but names and dots."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _refuse(node: ast.expr) -> NoReturn:
    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
    raise ValueError(f"holds what is not allowed ({kind}); {_ALLOWED}")
