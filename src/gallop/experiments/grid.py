"""A grid of experiments: algorithms × tasks × changes × training seeds, from one YAML file.

    experiment:              # settings of all runs, as in an experiment file
      total_timesteps: 100_000
    algorithms: [sac, td3]
    tasks: [Hopper-v5, Walker2d-v5]
    training_seeds: 0..4
    changes:
      default: {}
      small_batch: {hyperparameters.batch_size: 64}

An algorithm or a task may have settings, too: `tasks: {Hopper-v5: {total_timesteps: 1M}}`. Those of
the experiment come first, then those of the task, of the algorithm and of the change, each on top
of what is before it; the preset of algorithm and task, if there is one, is below them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ValidationError

from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError, alternatives, counted, nearest
from gallop.experiments import yaml_text
from gallop.experiments.explain import explain
from gallop.experiments.presets import find
from gallop.experiments.seeding import MAX_SEED, seeds_from, spans
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import SECTIONS, compose, override, place, read_yaml
from gallop.fields import Float, Int, Settings, flat, plain

ONLY_CHANGE = "default"
_OWNERS = {"algo": "algorithms", "env": "tasks", "training_seed": "training_seeds"}
"""Settings of an experiment that a grid sets elsewhere."""
MAX_RUNS = 100_000
MAX_NAME = {"tasks": 200, "changes": 100}
"""Bytes of a name: it becomes part of a folder's name, which has at most 255."""


def _named(value: object) -> object:
    """Accept a list of names where settings of each are possible."""
    settings: list[object]
    if isinstance(value, Mapping):
        names, settings = [_name(name) for name in value], list(value.values())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        names, settings = [_name(name) for name in value], [{}] * len(value)
    else:
        raise ValueError("must be a list of names, or a mapping of names to settings")
    if not names:
        raise ValueError("must have at least one name")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice} is given twice")
    return dict(zip(names, settings, strict=True))


def _name(value: object) -> str:
    """Accept text, and numbers, which are names of changes such as 64."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        hint = "; to give each its settings, write a mapping instead of a list"
        hint = hint if isinstance(value, Mapping) else ""
        raise ValueError(f"{value!r}: a name must be text{hint}")
    return str(value)


def _overrides(value: object) -> object:
    """Accept nothing instead of settings, and refuse names of settings that are not text."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{name!r}: the name of a setting must be text")
    return {} if value is None else value


def _seeds(value: object) -> object:
    """Accept "0..4" and 3, as `--seeds` does."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return tuple(seeds_from(str(value), at=""))
    if not isinstance(value, Sequence):
        raise ValueError("must be seeds such as 0..4, or a list of seeds")
    if not value:
        raise ValueError("must have at least one seed")
    return tuple(value)


Overrides = Annotated[dict[str, Any], BeforeValidator(_overrides)]
Named = Annotated[dict[str, Overrides], BeforeValidator(_named)]


class Grid(Settings):
    """What a grid file says."""

    experiment: Overrides = {}
    """Settings of all runs, nested or with dotted names."""
    algorithms: Named
    """Algorithms, each with settings of its own, if any."""
    tasks: Named
    """Environment ids, each with settings of its own, if any."""
    changes: Named = {ONLY_CHANGE: {}}
    """Name -> settings that differ."""
    training_seeds: Annotated[tuple[Int, ...], BeforeValidator(_seeds)]
    """The training seeds of each combination."""
    presets: bool = True
    """Whether to start from the preset of each algorithm and task, where there is one."""
    reference_returns: dict[str, Float] = {}
    """Task -> return that counts as a score of 1; default: the best mean return in the grid. The
    random policy's return counts as 0."""

    def cells(self) -> list[Cell]:
        """Return every combination of algorithm, task and change, in this order.

        Raises:
            ExperimentError: if one cannot be run as specified; its field is that of the grid.
        """
        return [
            Cell(algo.lower(), env, change, self._experiment(algo, env, change))
            for env in self.tasks
            for algo in self.algorithms
            for change in self.changes
        ]

    def _experiment(self, algo: str, env: str, change: str) -> Experiment:
        sections = {
            "experiment": self.experiment,
            f"tasks.{env}": self.tasks[env],
            f"algorithms.{algo}": self.algorithms[algo],
            f"changes.{change}": self.changes[change],
        }
        data: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for section, settings in sections.items():
            for name, value in flat(settings, SECTIONS):
                override(data, name, value)
                owners[name] = f"{section}.{name}"
        data |= {"algo": algo.lower(), "env": env, "training_seed": self.training_seeds[0]}
        preset = find(algo.lower(), env) if self.presets else None
        try:
            return compose(preset.path if preset else None, data)
        except ExperimentError as error:
            which = f"{self.label(algo, change)} on {env}"
            field = owners.get(error.field, "")
            raise ExperimentError(f"{which}: {error.message}", field) from None

    def label(self, algo: str, change: str) -> str:
        """Return the name of an algorithm with a change, such as "SAC, small_batch"."""
        title = ALGORITHMS[algo.lower()].title
        return title if len(self.changes) == 1 else f"{title}, {change}"

    def beyond(self, other: Grid) -> str:
        """Say what this grid has and another one lacks, such as "task Ant-v5"; empty if nothing."""
        ours, theirs = ([name.lower() for name in grid.algorithms] for grid in (self, other))
        names = {
            "algorithm": [name for name in ours if name not in theirs],
            "task": [name for name in self.tasks if name not in other.tasks],
            "change": [name for name in self.changes if name not in other.changes],
        }
        parts = [
            f"{noun}{'' if len(found) == 1 else 's'} {', '.join(found)}"
            for noun, found in names.items()
            if found
        ]
        known = set(other.training_seeds)
        if seeds := [seed for seed in self.training_seeds if seed not in known]:
            parts.append(f"training seed{'' if len(seeds) == 1 else 's'} {spans(seeds)}")
        return " and ".join(parts)

    def __str__(self) -> str:
        """Describe the grid in a line."""
        parts = [
            counted(len(self.algorithms), "algorithm"),
            counted(len(self.tasks), "task"),
            *([counted(len(self.changes), "change")] if len(self.changes) > 1 else []),
            f"training seeds {spans(self.training_seeds)}",
        ]
        return " × ".join(parts)


class Cell(NamedTuple):
    """One combination: a group of runs that differ only in their training seed."""

    algo: str
    env: str
    change: str
    experiment: Experiment
    """With the first training seed."""


def load(path: Path) -> Grid:
    """Read a grid from a YAML file, and check all its combinations.

    Raises:
        ExperimentError: in one line, with the place, the value and what is allowed.
    """
    grid, lines = _read(path)
    try:
        grid.cells()
    except ExperimentError as error:
        at = place(error.field, path, lines, {})
        raise ExperimentError(f"{at}{error.message}", error.field) from None
    return grid


def read(path: Path) -> Grid:
    """Read a grid from a YAML file, without checking its combinations.

    Raises:
        ExperimentError: as `load` does.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Grid, dict[str, int]]:
    """Return the grid, and the line of each dotted name in its file."""
    data, lines = read_yaml(path, named=True)
    if "algorithms" not in data and "algo" in data:
        raise ExperimentError(f"{path}: is an experiment, not a grid; gallop run {path} trains it")
    if "rounds" in data:
        raise ExperimentError(f"{path}: is a search; gallop tune {path} runs it")
    try:
        return from_data(data), lines
    except ExperimentError as error:
        at = place(error.field, path, lines, {})
        name = f"{error.field}: " if error.field else ""
        raise ExperimentError(f"{at}{name}{error.message}", error.field) from None


def from_data(data: Mapping[str, object]) -> Grid:
    """Make a grid from a plain dictionary, and check it.

    Raises:
        ExperimentError: naming the setting, the value and what is allowed.
    """
    try:
        grid = Grid.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = min(details, key=lambda d: d["type"] != "extra_forbidden")
        raise explain(Grid, first, keys_and_indices=True) from None
    _check(grid)
    return grid


def _check(grid: Grid) -> None:
    _check_names(grid)
    for name in grid.reference_returns:
        if name not in grid.tasks:
            raise ExperimentError(
                f"{name!r} is not among the tasks; {nearest(name, list(grid.tasks))}",
                "reference_returns",
            )
    sections = {"experiment": {"": grid.experiment}, "tasks": grid.tasks}
    sections |= {"algorithms": grid.algorithms, "changes": grid.changes}
    for section, parts in sections.items():
        for part, settings in parts.items():
            for name in _OWNERS.keys() & settings.keys():
                where = f"{section}.{part}" if part else section
                raise ExperimentError(f"{name} is set by {_OWNERS[name]}: leave it out here", where)
    _check_seeds(grid.training_seeds)
    n = len(grid.algorithms) * len(grid.tasks) * len(grid.changes) * len(grid.training_seeds)
    if n > MAX_RUNS:
        raise ExperimentError(f"{n:,} runs: at most {MAX_RUNS:,} are allowed")


def _check_names(grid: Grid) -> None:
    for name in grid.algorithms:
        if name.lower() not in ALGORITHMS:
            hint = nearest(name.lower(), list(ALGORITHMS))
            raise ExperimentError(f"{name!r} is unknown; {hint}", "algorithms")
    if alike := _alike(grid.algorithms):
        raise ExperimentError(f"{alike}: an algorithm is given twice", "algorithms")
    for name in grid.changes:
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
            raise ExperimentError(
                f"{name!r}: must be a name of letters, digits, _, - and ., because it becomes a "
                "folder's name",
                "changes",
            )
    for section, names in (("tasks", grid.tasks), ("changes", grid.changes)):
        for name in names:
            if len(name.encode()) > MAX_NAME[section]:
                raise ExperimentError(
                    f"{name!r}: must have at most {MAX_NAME[section]} bytes, because it becomes a "
                    "folder's name",
                    section,
                )
        if alike := _alike(names):
            raise ExperimentError(
                f"{alike}: names must differ in more than case, because they become names of "
                "folders",
                section,
            )


def _alike(names: Iterable[str]) -> str:
    """Return the first names that differ only in case, such as "sac or SAC"; empty if none do."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(name.casefold(), []).append(name)
    return next((alternatives(found) for found in spellings.values() if len(found) > 1), "")


def _check_seeds(seeds: Sequence[int]) -> None:
    for number, seed in enumerate(seeds):
        if not 0 <= seed <= MAX_SEED:
            raise ExperimentError(
                f"{seed}: must be at least 0 and at most {MAX_SEED}", f"training_seeds.{number}"
            )
    if len(set(seeds)) != len(seeds):
        raise ExperimentError("a seed is given twice", "training_seeds")


def to_yaml(grid: Grid) -> str:
    """Return YAML from which `load` makes an equal grid."""
    return yaml_text.write(plain(grid.model_dump()))
