"""Experiments from YAML files and the command line, and back to YAML; errors in one useful line.

Only this module and yaml_text.py know YAML. Nothing in a file is ever evaluated as code.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from gallop.errors import ExperimentError, PlanError
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

MAX_BYTES = 1_000_000  # of a file; the Zoo's largest has 20 kilobytes, that of a run two
MAX_NODES = 100_000  # of the YAML with all aliases expanded
MAX_TEXT = 20_000  # characters of a value: PyYAML is slow on numbers such as 1:1:1:...

SECTIONS = ("hyperparameters", "policy_kwargs", "evaluation", "normalize")
ARGUMENTS = (
    "env_kwargs",
    "eval_env_kwargs",
    "wrappers",
)  # settings that are passed to a task or wrapper
# Settings of earlier versions, which files may still contain: the only value that still means the
# same, and why there is no other.
REMOVED = {"precision": ("float32", "kernels compute in float32")}


def load(path: Path | None, overrides: Mapping[str, str] | None = None) -> Experiment:
    """Read an experiment from a YAML file, with overrides from the command line.

    Args:
        path: a YAML file; None: an experiment from overrides alone.
        overrides: dotted name -> YAML text, such as {"hyperparameters.gamma": "0.99"}.

    Returns:
        The experiment, checked and resolved: every default that depends on others is filled in.

    Raises:
        ExperimentError: in one line, with the place, the value and what is allowed.
    """
    return _load(
        path, {name: parse_setting(name, text) for name, text in (overrides or {}).items()}
    )


def compose(path: Path | None, settings: Mapping[str, Any]) -> Experiment:
    """Make an experiment from a YAML file and settings given in Python.

    Args:
        path: a YAML file; None: an experiment from settings alone.
        settings: override those of the file, nested as in YAML. {"hyperparameters": {"gamma":
            0.99}} keeps the other hyper-parameters of the file.

    Raises:
        ExperimentError: as `load` does.
    """
    return _load(path, dict(flat(settings, SECTIONS)))


def read_resolved(path: Path) -> Experiment:
    """Read the resolved experiment of a run.

    Unlike `load`, it imports nothing that the file names, and does not check settings against each
    other.

    Raises:
        ExperimentError: if the file is not a resolved experiment.
    """
    data, lines = read_yaml(path)
    try:
        experiment = _validate(data)
    except ExperimentError as error:
        at = place(error.field, path, lines, {})
        raise ExperimentError(f"{at}{error.field}: {error.message}", error.field) from None
    if not experiment.segment or not experiment.evaluation.interval:
        raise ExperimentError(
            f"{path}: not a resolved experiment: segment or evaluation.interval is missing"
        )
    return experiment


def read_setting(path: Path, name: str) -> Any:
    """Read one top-level setting of a YAML file without checking the rest; None if it is absent.

    Raises:
        ExperimentError: if the file is not a YAML mapping.
    """
    return read_yaml(path)[0].get(name)


def _load(path: Path | None, overrides: Mapping[str, Any]) -> Experiment:
    data, lines = ({}, {}) if path is None else read_yaml(path, named=True)
    if "algo" not in data and {"experiment", "rounds"} <= data.keys():
        raise ExperimentError(f"{path}: is a search; gallop tune {path} runs it")
    if "algo" not in data and "algorithms" in data:
        raise ExperimentError(f"{path}: is a grid; gallop experiment {path} trains it")
    # The results of a search override the file's hyper-parameters; `overrides` override both.
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
        message = f"{at}{name}{error.message}"
        if isinstance(error, PlanError):
            raise PlanError(message, error.field, error.experiment) from None
        raise ExperimentError(message, error.field) from None


def _take_best_params(data: dict[str, Any]) -> tuple[SearchResults, int] | None:
    """Replace `best_params` and `trial` by the hyper-parameters of the trial.

    Returns:
        The results of the search and the number of the trial; None if no search is named.

    Raises:
        ExperimentError: if there is no such search or trial, or it is for another task.
    """
    wanted, trial = data.pop("best_params", None), data.pop("trial", None)
    if not wanted:
        if trial not in (None, "best"):
            raise ExperimentError(
                "requires best_params, the search that the trial is from", "trial"
            )
        return None
    if trial is None:
        trial = "best"
    elif trial != "best" and (isinstance(trial, bool) or not isinstance(trial, int)):
        raise ExperimentError(f"{trial!r}: must be the number of a trial, or best", "trial")
    algo, env = str(data.get("algo", "")).lower(), str(data.get("env", ""))
    try:
        path = newest(DEFAULT_ROOT, algo, env) if wanted == "best" else Path(str(wanted))
        results = read_results(path)
    except ExperimentError as error:
        raise ExperimentError(error.message, "best_params") from None
    if (results.algo, results.env) != (algo, env):
        raise ExperimentError(
            f"{path} is a search of {results.algo.upper()} on {results.env}, not of "
            f"{algo.upper()} on {env}",
            "best_params",
        )
    number, settings = hyperparameters_of(results, trial)
    exclusive = {"utd", "gradient_steps"}  # the search may have set either
    if exclusive & settings.keys() and isinstance(data.get("hyperparameters"), dict):
        own = data["hyperparameters"].items()
        data["hyperparameters"] = {k: v for k, v in own if k not in exclusive}
    for name, value in settings.items():
        parts = value.items() if isinstance(value, dict) else [(None, value)]
        for part, inner in parts:
            override(data, f"hyperparameters.{name}" + (f".{part}" if part else ""), inner)
    data["source"] = f"trial {number} of {path}"
    return results, number


def _check_utd_ratio(experiment: Experiment, results: SearchResults, trial: int) -> None:
    """Hyper-parameters of a search are valid only at the UTD ratio of the search."""
    ours = experiment.hyperparameters.utd_ratio(experiment.n_envs)
    theirs = utd_ratio_of(results, trial)
    if theirs is not None and not math.isclose(ours, theirs, rel_tol=0.01):
        raise ExperimentError(
            f"trial {trial} of {results.study_name} was searched with a UTD ratio of {theirs:g}, "
            f"and this run has {ours:g} (n_envs {experiment.n_envs}); make them equal, or search "
            "again",
            "best_params",
        )


def parse(text: str) -> Any:
    """Parse a value from the command line as YAML; text that is not valid YAML stays text."""
    try:
        return yaml_text.read(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return text


def parse_setting(name: str, text: str) -> Any:
    """Parse the value of a setting from the command line.

    Raises:
        ExperimentError: if an argument of a task or wrapper is a word such as `on`, which can mean
            text or a boolean.
    """
    if name.partition(".")[0] in ARGUMENTS:
        with contextlib.suppress(yaml.YAMLError, RecursionError):
            for word in _ambiguous_words(yaml_text.compose(text), name):
                raise ExperimentError(f"{name}: {word.refusal}", name)
    return parse(text)


def from_dict(
    data: Mapping[str, Any], check: Callable[[Experiment], None] | None = None
) -> Experiment:
    """Make an experiment from a plain dictionary, check it and resolve it.

    Args:
        data: all settings, nested as in YAML.
        check: called with the experiment before it is resolved; may raise an `ExperimentError`.

    Raises:
        ExperimentError: with the setting, the value and what is allowed.
    """
    try:
        experiment = _validate(dict(data))
        if check is not None:
            check(experiment)
        return resolve(experiment)
    except ExperimentError as error:
        name = f"{error.field}: " if error.field else ""
        raise ExperimentError(f"{name}{error.message}", error.field) from None


def task_arguments(given: Mapping[str, Any]) -> TaskArguments:
    """Check keyword arguments and wrappers of a task.

    Args:
        given: `env_kwargs`, `wrappers` or both; None is the same as leaving one out.

    Raises:
        ExperimentError: with the setting, the value and what is allowed.
    """
    try:
        return TaskArguments.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        found = explain(TaskArguments, error.errors(include_url=False)[0])
        raise ExperimentError(f"{found.field}: {found.message}", found.field) from None


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """All settings as nested plain data, which `from_dict` accepts."""
    found: dict[str, Any] = plain(experiment.model_dump())
    return found


def to_yaml(experiment: Experiment) -> str:
    """Write an experiment as YAML from which `load` makes an equal one.

    Raises:
        ExperimentError: if a setting would not be read back equal; the message names it.
    """
    try:
        settings = settings_of(experiment)
        text = yaml_text.write(settings)
        node = yaml_text.compose(text)
        expanded_size(node, {})
        again = settings_of(_validate(yaml_text.data_of(node)))
    except (ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ExperimentError(f"the experiment cannot be written as YAML: {reason}") from None
    # Compare their text, because NaN differs from itself and 1 equals true.
    for name, value in settings.items():
        if repr(again[name]) != repr(value) or len(text) > MAX_BYTES:
            raise ExperimentError(f"{value!r:.200} cannot be written as YAML and read back", name)
    return text


@contextlib.contextmanager
def explaining_yaml(path: Path) -> Iterator[None]:
    """Convert any error while a YAML file is read to an error of one line."""
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
    """Read a text file of limited size.

    Args:
        path: the file.
        what: its intended content, for the message.
        named: whether the user named the file; it may then be a pipe.

    Raises:
        ExperimentError: if the file is too large.
        OSError, UnicodeDecodeError: if it cannot be read.
    """
    with open_named(path, MAX_BYTES) if named else open_regular(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ExperimentError(f"{path}: is larger than {what} can be")
    return content.decode("utf-8")


def read_yaml(path: Path, named: bool = False) -> tuple[dict[str, Any], dict[str, int]]:
    """Read the data of a YAML file, and the line of each dotted name in it.

    Args:
        path: the file.
        named: whether the user named the file; it may then be a pipe.

    Raises:
        ExperimentError: if the file is not a YAML mapping.
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
        data = yaml_text.data_of(node)
    if not isinstance(data, dict):
        raise ExperimentError(f"{path}: is empty or not a mapping of settings to values")
    return data, lines


class _Word(NamedTuple):
    """A plain YAML word that can mean text or a boolean, such as `on`."""

    line: int
    setting: str
    text: str

    @property
    def refusal(self) -> str:
        meant = "true" if self.text.lower() in ("yes", "on") else "false"
        return f"{self.text} can mean text or {meant}: write '{self.text}' in quotes, or {meant}"


def _ambiguous_words(node: yaml.Node | None, setting: str = "") -> Iterator[_Word]:
    """The ambiguous words in arguments of tasks and wrappers.

    Args:
        node: where to look.
        setting: the setting that the node is a part of.
    """
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
    """Count the nodes of a tree with all aliases expanded: a few lines can stand for billions.

    Args:
        node: the root.
        known: id of a node -> its count; filled in.
        max_text: most characters of a value.

    Raises:
        ValueError: if there are too many nodes, a value is too long, or an alias contains itself.
    """
    if node is None:
        return 0
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an alias contains itself")
        return known[id(node)]
    known[id(node)] = 0  # meeting it again before its count is known means a cycle
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
            if name in seen:  # PyYAML would silently keep the last one
                raise ExperimentError(f"{line}: {name} is given twice", name)
            seen.add(name)
            yield name, line
            yield from _lines(value, f"{name}.")


def override(data: dict[str, Any], name: str, value: Any) -> None:
    """Set the value of a dotted name in nested data."""
    *parents, last = name.split(".")
    for parent in parents:
        below = data.get(parent)
        # A copy, because the caller may still use the nested dictionary.
        data[parent] = dict(below) if isinstance(below, dict) else {}
        data = data[parent]
    data[last] = value


def place(field: str, path: Path | None, lines: Mapping[str, int], flags: Mapping[str, str]) -> str:
    """Where a setting comes from, as the start of a message: "configs/quickstart.yaml:7: ".

    Args:
        field: dotted name of the setting.
        path: the YAML file, if there is one.
        lines: dotted name -> line in the file.
        flags: dotted name -> flag that gave it.
    """
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in flags:
            return "" if name == field else f"{flags[name]}: "
        if name in lines:
            return f"{path}:{lines[name]}: "
    return f"{path}: " if path else ""


def _without_removed(data: dict[str, Any]) -> dict[str, Any]:
    """The settings without those that earlier versions had.

    Raises:
        ExperimentError: if one of these has a value that is no longer supported.
    """
    for name in REMOVED.keys() & data.keys():
        remaining, why = REMOVED[name]
        if data[name] not in (remaining, None):  # null: left out
            raise ExperimentError(
                f"{data[name]!r}: no longer supported: {why}; remove the setting", name
            )
    return {name: value for name, value in data.items() if name not in REMOVED}


def _validate(data: dict[str, Any]) -> Experiment:
    data = _without_removed(data)
    algo = str(data.get("algo", "")).lower()
    model = EXPERIMENTS.get(algo, Experiment)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A wrong algorithm invalidates all hyper-parameters, and a misspelt name makes the right
        # one missing: report the cause.
        first = min(
            details, key=lambda d: (d["loc"][:1] != ("algo",), d["type"] != "extra_forbidden")
        )
        raise explain(model, first) from None
