"""Files of rl-baselines3-zoo as their tasks' settings: hyperparams/*.yml and config.yml."""

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
    """What a file says of one task, and where."""

    path: Path
    env: str
    settings: Mapping[str, object]
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


class ZooFile(NamedTuple):
    """A file of hyper-parameters, of several tasks or (config.yml) of one trained agent."""

    path: Path
    settings: Mapping[str, object]
    node: yaml.Node
    """The same, with lines."""
    args: Mapping[str, object]
    """Of the args.yml beside a config.yml: it says which algorithm and task that is about."""

    def entries(self, env: str | None) -> list[Entry]:
        """All tasks, or the one asked for, from the entry `default` where it is not listed.

        Raises:
            ExperimentError: if there is no entry for `env`, or no saying which task this is about.
        """
        if not _is_config(self.settings):
            return _entries(self, env)
        task = env or self.args.get("env")
        if not isinstance(task, str):
            raise ExperimentError(
                f"{self.path}: is about one task, and does not say which: name it"
            )
        return [Entry(self.path, task, self.settings, _key_lines(self.node), 1)]


def read_zoo_yaml(path: Path) -> ZooFile:
    """Read a file of the Zoo; nothing in it is run.

    Raises:
        ExperimentError: in one line, if it is no such file.
    """
    settings, node = _read_yaml(path)
    beside = path.with_name("args.yml")
    args = _read_yaml(beside)[0] if _is_config(settings) and beside.is_file() else {}
    return ZooFile(path, settings, node, args)


def _is_config(settings: Mapping[str, object]) -> bool:
    """Whether this is one task's config.yml."""
    return "n_timesteps" in settings or "policy" in settings


def _entries(file: ZooFile, env: str | None) -> list[Entry]:
    """The tasks of a file, or the one asked for."""
    path, data, node = file.path, file.settings, file.node
    lines = _key_lines(node)
    below = {str(key.value): _key_lines(value) for key, value in node.value}

    def entry(name: str, env: str, words: str = "") -> Entry:
        settings = data[name]
        if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
            raise ExperimentError(f"{path}:{lines.get(name, 1)}: {name}: is no mapping")
        return Entry(path, env, settings, below.get(name, {}), lines.get(name, 1), words)

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


# --- YAML ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader that also knows the sorted mapping as which the Zoo writes config.yml."""

    def ordered_dict(self, node: yaml.Node) -> dict[object, object]:
        assert isinstance(node, yaml.SequenceNode)
        (pairs,) = self.construct_sequence(node, deep=True) or [[]]
        return dict(pairs)


_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _Loader.ordered_dict
)


def _read_yaml(path: Path) -> tuple[dict[str, object], yaml.Node]:
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
