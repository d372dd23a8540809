"""Experiments from YAML and from the command line, and back; mistakes in one useful line.

This module and yaml_text.py are the only ones that know YAML. Nothing in a file is ever evaluated
as code.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from gallop.errors import ExperimentError
from gallop.experiments import yaml_text
from gallop.experiments.explain import explain
from gallop.experiments.resolve import resolve
from gallop.experiments.search_results import (
    DEFAULT_ROOT,
    SearchResults,
    hyperparameters_of,
    newest,
    utd_ratio_of,
)
from gallop.experiments.search_results import read as read_results
from gallop.experiments.settings import EXPERIMENTS, Experiment, TaskArguments
from gallop.fields import flat, plain
from gallop.reading import open_named, open_regular

MAX_BYTES = 1_000_000  # of a file; the Zoo's largest has 20 kilobytes, a run's two
MAX_NODES = 100_000  # of its YAML with every alias written out
MAX_TEXT = 20_000  # characters of one value: YAML takes long for 1:1:1:… as a number

SECTIONS = ("hyperparameters", "policy_kwargs", "evaluation", "normalize")
ARGUMENTS = ("env_kwargs", "eval_env_kwargs", "wrappers")  # settings that somebody's code is given


def load(path: Path | None, overrides: Mapping[str, str] | None = None) -> Experiment:
    """The experiment of a YAML file, with overrides from the command line.

    Args:
        path: a YAML file, or None for an experiment from overrides alone.
        overrides: dotted name -> YAML text, such as {"hyperparameters.gamma": "0.99"}.

    Returns:
        The experiment, checked and resolved: every default that depends on others is filled in.

    Raises:
        ExperimentError: with one line that holds place, value and the nearest right thing.
    """
    return _load(
        path, {name: parse_setting(name, text) for name, text in (overrides or {}).items()}
    )


def compose(path: Path | None, settings: Mapping[str, Any]) -> Experiment:
    """The experiment of a YAML file with other settings on top; what Python gives instead of flags.

    Args:
        path: a YAML file, or None for an experiment from settings alone.
        settings: as in YAML, nested; {"hyperparameters": {"gamma": 0.99}} leaves the file's other
            hyper-parameters as they are.

    Raises:
        ExperimentError: as `load` does.
    """
    return _load(path, dict(flat(settings, SECTIONS)))


def read_resolved(path: Path) -> Experiment:
    """The resolved experiment that a run wrote down, read without looking at its task.

    Unlike `load` it imports nothing that the file names, and checks no setting against another.

    Raises:
        ExperimentError: if it is none, or no resolved one.
    """
    data, lines = read_yaml(path)
    try:
        experiment = _validate(data)
    except ExperimentError as error:
        at = place(error.field, path, lines, {})
        raise ExperimentError(f"{at}{error.field}: {error.message}", error.field) from None
    if not experiment.segment or not experiment.evaluation.interval:
        raise ExperimentError(f"{path}: holds no resolved experiment: segment or interval lack")
    return experiment


def read_setting(path: Path, name: str) -> Any:
    """One setting at the top of a YAML file, without checking the rest; None where it is absent.

    Raises:
        ExperimentError: if the file is no YAML mapping.
    """
    return read_yaml(path)[0].get(name)


def _load(path: Path | None, overrides: Mapping[str, Any]) -> Experiment:
    data, lines = ({}, {}) if path is None else read_yaml(path, named=True)
    if "algo" not in data and {"experiment", "rounds"} <= data.keys():
        raise ExperimentError(f"{path}: is a search; gallop tune {path} runs it")
    # What a search found comes above the file's hyper-parameters and below those given here.
    last = [name for name in overrides if name.startswith("hyperparameters")]
    for name in overrides.keys() - set(last):
        override(data, name, overrides[name])
    flags = {name: f"--{name}" for name in overrides}
    try:
        found = _take_best_params(data)
        for name in last:
            override(data, name, overrides[name])
        experiment = resolve(_validate(data))
        if found is not None:
            _check_utd_ratio(experiment, *found)
        return experiment
    except ExperimentError as error:
        at = place(error.field, path, lines, flags)
        name = f"{error.field}: " if error.field else ""
        raise ExperimentError(f"{at}{name}{error.message}", error.field) from None


def _take_best_params(data: dict[str, Any]) -> tuple[SearchResults, int] | None:
    """Replace `best_params` and `trial` by the hyper-parameters that they stand for.

    Returns:
        Where they come from; None where the experiment names no search.

    Raises:
        ExperimentError: if there is no such search or trial, or it is another task's.
    """
    asked, trial = data.pop("best_params", None), data.pop("trial", None)
    if not asked:
        if trial not in (None, "best"):
            raise ExperimentError("belongs to best_params: which search is it a trial of?", "trial")
        return None
    if trial is None:
        trial = "best"
    elif trial != "best" and (isinstance(trial, bool) or not isinstance(trial, int)):
        raise ExperimentError(f"{trial!r}: a trial's number or best is needed", "trial")
    algo, env = str(data.get("algo", "")).lower(), str(data.get("env", ""))
    path = newest(DEFAULT_ROOT, algo, env) if asked == "best" else Path(str(asked))
    results = read_results(path)
    if (results.algo, results.env) != (algo, env):
        raise ExperimentError(
            f"{path} is a search of {results.algo.upper()} on {results.env}, not of "
            f"{algo.upper()} on {env}",
            "best_params",
        )
    number, settings = hyperparameters_of(results, trial)
    two_names = {"utd", "gradient_steps"}  # for one thing
    if two_names & settings.keys() and isinstance(data.get("hyperparameters"), dict):
        own = data["hyperparameters"].items()
        data["hyperparameters"] = {k: v for k, v in own if k not in two_names}
    for name, value in settings.items():
        parts = value.items() if isinstance(value, dict) else [(None, value)]
        for part, inner in parts:
            override(data, f"hyperparameters.{name}" + (f".{part}" if part else ""), inner)
    data["source"] = f"trial {number} of {path}"
    return results, number


def _check_utd_ratio(experiment: Experiment, results: SearchResults, trial: int) -> None:
    """What a search found holds for its own ratio of gradient steps to timesteps."""
    ours = experiment.hyperparameters.utd_ratio(experiment.n_envs)
    theirs = utd_ratio_of(results, trial)
    if theirs is not None and not math.isclose(ours, theirs, rel_tol=0.01):
        raise ExperimentError(
            f"trial {trial} of {results.study_name} was searched with a UTD ratio of {theirs:g}, "
            f"and this run has {ours:g} (n_envs {experiment.n_envs}); make them equal, or search "
            "anew",
            "best_params",
        )


def parse(text: str) -> Any:
    """A value as the command line gives it: YAML."""
    try:
        return yaml_text.read(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return text


def parse_setting(name: str, text: str) -> Any:
    """The value of a setting as the command line gives it.

    Raises:
        ExperimentError: if a task or wrapper could be given true or false for a word.
    """
    if name.partition(".")[0] in ARGUMENTS:
        with contextlib.suppress(yaml.YAMLError, RecursionError):
            for word in _ambiguous_words(yaml_text.compose(text), name):
                raise ExperimentError(f"{name}: {word.refusal}", name)
    return parse(text)


def from_dict(data: Mapping[str, Any]) -> Experiment:
    """The experiment of a plain dictionary, checked and resolved.

    Raises:
        ExperimentError: naming the setting, the value and what is allowed.
    """
    try:
        return resolve(_validate(dict(data)))
    except ExperimentError as error:
        name = f"{error.field}: " if error.field else ""
        raise ExperimentError(f"{name}{error.message}", error.field) from None


def task_arguments(given: Mapping[str, Any]) -> TaskArguments:
    """Keyword arguments and wrappers of a task, as an experiment has them.

    Args:
        given: `env_kwargs`, `wrappers` or both; None is the same as being left out.

    Raises:
        ExperimentError: naming the setting, the value and what is allowed.
    """
    try:
        return TaskArguments.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        found = explain(TaskArguments, error.errors(include_url=False)[0])
        raise ExperimentError(f"{found.field}: {found.message}", found.field) from None


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Every setting as plain numbers, text, lists and mappings, nested; `from_dict` takes them."""
    found: dict[str, Any] = plain(experiment.model_dump())
    return found


def to_yaml(experiment: Experiment) -> str:
    """YAML from which `load` makes an equal experiment.

    Raises:
        ExperimentError: if there is none, naming the setting that YAML does not give back.
    """
    try:
        settings = settings_of(experiment)
        text = yaml_text.write(settings)
        expanded_size(yaml_text.compose(text), {})
        again = settings_of(_validate(yaml_text.read(text)))
    except (ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ExperimentError(f"the experiment cannot be written as YAML: {reason}") from None
    # NaN differs from itself, and 1 equals true; their texts tell what is the same.
    for name, value in settings.items():
        if repr(again[name]) != repr(value) or len(text) > MAX_BYTES:
            raise ExperimentError(f"{value!r:.200} cannot be written as YAML and read back", name)
    return text


@contextlib.contextmanager
def explaining_yaml(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a YAML file is read becomes one line."""
    try:
        yield
    except ExperimentError:
        raise
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ExperimentError(f"{path}: is not a text file") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ExperimentError(f"{path}{line}: is not valid YAML: {error.problem}") from None
    except RecursionError:
        raise ExperimentError(f"{path}: is nested too deeply") from None
    # Such as a date that does not exist, or a key that is a list.
    except (yaml.YAMLError, ValueError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else "a value is malformed"
        raise ExperimentError(f"{path}: is not valid YAML: {reason}") from None


def bounded_text(path: Path, what: str, named: bool = False) -> str:
    """A file's text, which is no longer than any that a person wrote.

    Args:
        what: it should hold.
        named: by the user, who may name a pipe.
    """
    with open_named(path, MAX_BYTES) if named else open_regular(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ExperimentError(f"{path}: is larger than {what} can be")
    return content.decode("utf-8")


def read_yaml(path: Path, named: bool = False) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML file's data, and the line of each dotted name in it.

    Args:
        named: by the user, who may name a pipe; what a folder holds is a file.
    """
    with explaining_yaml(path):
        text = bounded_text(path, "an experiment", named)
        node = yaml_text.compose(text)
        expanded_size(node, {})
        try:
            lines = dict(_lines(node)) if node else {}
        except ExperimentError as error:
            raise ExperimentError(f"{path}:{error.message}", error.field) from None
        for word in _ambiguous_words(node):
            at = f"{path}:{word.line}: {word.setting}"
            raise ExperimentError(f"{at}: {word.refusal}", word.setting)
        data = yaml_text.read(text)
    if not isinstance(data, dict):
        raise ExperimentError(f"{path}: is empty or no mapping of settings to values")
    return data, lines


class _Word(NamedTuple):
    """A plain word of YAML that may be meant as text or as true or false."""

    line: int
    setting: str
    text: str

    @property
    def refusal(self) -> str:
        meant = "true" if self.text.lower() in ("yes", "on") else "false"
        return f"{self.text} can mean text or {meant}: write '{self.text}' in quotes, or {meant}"


def _ambiguous_words(node: yaml.Node | None, setting: str = "") -> Iterator[_Word]:
    """Those in what tasks and wrappers are given, `setting` being the one that the node is of."""
    if isinstance(node, yaml.ScalarNode):
        if setting and node.style is None and node.value.lower() in yaml_text.AMBIGUOUS:
            yield _Word(node.start_mark.line + 1, setting, node.value)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _ambiguous_words(part, setting)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            own = key.value if key.value in ARGUMENTS else ""
            yield from _ambiguous_words(value, setting or own)


def expanded_size(node: yaml.Node | None, known: dict[int, int], max_text: int = MAX_TEXT) -> int:
    """Nodes below one, every alias written out: a few lines of aliases can stand for billions."""
    if node is None:
        return 0
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an alias stands for something that holds itself")
        return known[id(node)]
    known[id(node)] = 0  # until it is known: being here again would be a circle
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > max_text:
            raise ValueError(
                f"line {node.start_mark.line + 1}: a value has more than {max_text:,} characters"
            )
        size = 1
    else:
        below = node.value
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        size = 1 + sum(expanded_size(part, known, max_text) for part in below)
    if size > MAX_NODES:
        raise ValueError(f"its aliases stand for more than {MAX_NODES:,} values")
    known[id(node)] = size
    return size


def _lines(node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.SequenceNode):
        for number, part in enumerate(node.value):
            yield f"{prefix}{number}", part.start_mark.line + 1
            yield from _lines(part, f"{prefix}{number}.")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            line = key.start_mark.line + 1
            if name in seen:  # YAML would silently keep the last one
                raise ExperimentError(f"{line}: {name} is given twice", name)
            seen.add(name)
            yield name, line
            yield from _lines(value, f"{name}.")


def override(data: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted name in nested data."""
    *parents, last = name.split(".")
    for parent in parents:
        below = data.get(parent)
        # A new dictionary: `data` may be nested inside what a caller still holds.
        data[parent] = dict(below) if isinstance(below, dict) else {}
        data = data[parent]
    data[last] = value


def place(field: str, path: Path | None, lines: Mapping[str, int], flags: Mapping[str, str]) -> str:
    """Where the value of a setting came from: "configs/quickstart.yaml:7: ", or a flag."""
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in flags:
            return "" if name == field else f"{flags[name]}: "
        if name in lines:
            return f"{path}:{lines[name]}: "
    return f"{path}: " if path else ""


def _validate(data: dict[str, Any]) -> Experiment:
    algo = str(data.get("algo", "")).lower()
    model = EXPERIMENTS.get(algo, Experiment)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A wrong algorithm makes every hyper-parameter wrong, and a misspelt name makes the right
        # one missing: say the cause.
        first = min(
            details, key=lambda d: (d["loc"][:1] != ("algo",), d["type"] != "extra_forbidden")
        )
        raise explain(model, first) from None
