"""Reading files of rl-baselines3-zoo: hyperparams/*.yml and config.yml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from gallop.errors import ExperimentError, nearest
from gallop.experiments.yaml_file import bounded_text, expanded_size, explaining_yaml
from gallop.sharing.zoo_literal import MAX_TEXT

_MERGE = "tag:yaml.org,2002:merge"


class Entry(NamedTuple):
    """The settings of one task in a file, with line numbers."""

    path: Path
    env: str
    settings: Mapping[str, object]
    lines: Mapping[str, int]
    """Line of each key."""
    line: int
    """Line of the task."""
    from_default: str = ""
    """Remark for `source`, if the file does not list the task."""

    def error(self, key: str, message: str) -> ExperimentError:
        """Return an error on one line: place, task, key ("" for the whole task), and message."""
        line = self.lines.get(key, self.line)
        name = f"{key}: " if key else ""
        return ExperimentError(f"{self.path}:{line}: {self.env}: {name}{message}")


class ZooFile(NamedTuple):
    """A file of hyper-parameters: of several tasks, or (config.yml) of one trained agent."""

    path: Path
    settings: Mapping[str, object]
    node: yaml.Node
    """The YAML node of the settings, which knows line numbers."""
    args: Mapping[str, object]
    """The args.yml next to a config.yml, which names algorithm and task."""

    def entries(self, env: str | None) -> list[Entry]:
        """Return the entries of all tasks, or of one.

        Args:
            env: only this task; if it is not listed, the entry `default` is used.

        Raises:
            ExperimentError: if there is no entry for `env`, or the task of a config.yml is unknown.
        """
        if not _is_config(self.settings):
            return _entries(self, env)
        task = env or self.args.get("env")
        if not isinstance(task, str):
            raise ExperimentError(
                f"{self.path}: does not name its task (no args.yml next to it); --env is required"
            )
        return [Entry(self.path, task, self.settings, _key_lines(self.node), 1)]


def read_zoo_yaml(path: Path) -> ZooFile:
    """Read a file of the Zoo; no code in it is run.

    Raises:
        ExperimentError: if it is not a file of hyper-parameters.
    """
    settings, node = _read_yaml(path)
    beside = path.with_name("args.yml")
    args = _read_yaml(beside)[0] if _is_config(settings) and beside.is_file() else {}
    return ZooFile(path, settings, node, args)


def _is_config(settings: Mapping[str, object]) -> bool:
    """Whether this is a config.yml, of one task."""
    return "n_timesteps" in settings or "policy" in settings


def _entries(file: ZooFile, env: str | None) -> list[Entry]:
    """Return the entries of a file with several tasks, or the one for `env`."""
    path, data, node = file.path, file.settings, file.node
    lines = _key_lines(node)
    below = {str(key.value): _key_lines(value) for key, value in node.value}

    def entry(name: str, env: str, words: str = "") -> Entry:
        settings = data[name]
        if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
            raise ExperimentError(f"{path}:{lines.get(name, 1)}: {name}: must be a mapping")
        return Entry(path, env, settings, below.get(name, {}), lines.get(name, 1), words)

    if env is None:
        return [entry(name, name) for name in data]
    if env in data:
        return [entry(env, env)]
    words = f"not listed, so its entry {{}} was used{_same_task(env, list(data))}"
    if "atari" in data and ("NoFrameskip" in env or env.startswith("ALE/")):
        return [entry("atari", env, words.format("atari"))]
    if "default" in data:
        return [entry("default", env, words.format("default"))]
    raise ExperimentError(
        f"{path}: {env} is not listed, and there is no default; {nearest(env, list(data))}"
    )


def _same_task(env: str, names: list[str]) -> str:
    """Return a hint to other versions of a task in the file."""
    task = re.sub(r"-v\d+$", "", env)
    others = [name for name in names if re.sub(r"-v\d+$", "", name) == task]
    return f" (it lists {', '.join(others)})" if others else ""


# --- YAML ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads the OrderedDict that the Zoo writes in config.yml."""

    def ordered_dict(self, node: yaml.Node) -> dict[object, object]:
        """Construct a dict from the node of an OrderedDict."""
        assert isinstance(node, yaml.SequenceNode)
        (pairs,) = self.construct_sequence(node, deep=True) or [[]]
        return dict(pairs)


_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _Loader.ordered_dict
)


def _read_yaml(path: Path) -> tuple[dict[str, object], yaml.Node]:
    """Return a file's data, and its nodes, which know line numbers."""
    with explaining_yaml(path):
        text = bounded_text(path, "a file of hyper-parameters")
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            expanded_size(node, {}, MAX_TEXT)
        data = {} if node is None else loader.construct_document(node)
    if not isinstance(data, dict) or not data or not all(isinstance(key, str) for key in data):
        raise ExperimentError(f"{path}: must be a mapping of tasks to hyper-parameters")
    # Parse again: constructing the data has written merged keys into the first tree.
    lines = _Loader(text).get_single_node()
    assert lines is not None, "there was data"
    return data, lines


def _key_lines(node: yaml.Node) -> dict[str, int]:
    """Return the line of each key of a mapping; of a merged key, the line where it is written."""
    own: dict[str, int] = {}
    merged: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.tag == _MERGE:
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                merged = _key_lines(part) | merged
        else:
            own[str(key.value)] = key.start_mark.line + 1
    return merged | own
