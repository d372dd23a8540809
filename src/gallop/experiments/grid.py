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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError

from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError, alternatives, counted, nearest
from gallop.experiments import yaml_text
from gallop.experiments.explain import explain
from gallop.experiments.presets import find
from gallop.experiments.seeding import seeds_from, spans
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import SECTIONS, compose, override, place, read_yaml
from gallop.fields import Float, Settings, flat, plain

ONLY_CHANGE = "default"
_OWNERS = {"algo": "algorithms", "env": "tasks", "training_seed": "training_seeds"}
"""Settings of an experiment that a grid sets elsewhere."""
MAX_RUNS = 100_000


def _named(value: object) -> object:
    """Accept a list of names where settings of each are possible, and a name without settings."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        names = [str(name) for name in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is given twice")
        return {name: {} for name in names}
    if isinstance(value, Mapping):
        return {str(name): {} if given is None else given for name, given in value.items()}
    return value


def _seeds(value: object) -> object:
    """Accept "0..4" and 3, as `--seeds` does."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return tuple(seeds_from(str(value)))
    return value


Named = Annotated[dict[str, dict[str, Any]], BeforeValidator(_named), Field(min_length=1)]


class Grid(Settings):
    """What a grid file says."""

    experiment: dict[str, Any] = {}
    """Settings of all runs, nested or with dotted names."""
    algorithms: Named
    """Algorithms, each with settings of its own, if any."""
    tasks: Named
    """Environment ids, each with settings of its own, if any."""
    changes: Named = {ONLY_CHANGE: {}}
    """Name -> settings that differ."""
    training_seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds), Field(min_length=1)]
    """The training seeds of each combination."""
    presets: bool = True
    """Whether to start from the preset of each algorithm and task, where there is one."""
    reference_returns: dict[str, Float] = {}
    """Task -> return that counts as a score of 1; default: the best mean return in the grid. The
    random policy's return counts as 0."""

    def cells(self) -> list[Cell]:
        """Return every combination of algorithm, task and change, in this order.

        Raises:
            ExperimentError: if one cannot be run as specified.
        """
        return [
            Cell(algo.lower(), env, change, self._experiment(algo, env, change))
            for env in self.tasks
            for algo in self.algorithms
            for change in self.changes
        ]

    def _experiment(self, algo: str, env: str, change: str) -> Experiment:
        data: dict[str, Any] = {}
        parts = (self.experiment, self.tasks[env], self.algorithms[algo], self.changes[change])
        for settings in parts:
            for name, value in flat(settings, SECTIONS):
                override(data, name, value)
        data |= {"algo": algo.lower(), "env": env, "training_seed": self.training_seeds[0]}
        preset = find(algo.lower(), env) if self.presets else None
        try:
            return compose(preset.path if preset else None, data)
        except ExperimentError as error:
            which = self.label(algo, change)
            raise ExperimentError(f"{which} on {env}: {error.message}", error.field) from None

    def label(self, algo: str, change: str) -> str:
        """Return the name of an algorithm with a change, such as "SAC, small_batch"."""
        title = ALGORITHMS[algo.lower()].title
        return title if len(self.changes) == 1 else f"{title}, {change}"

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
    """Read a grid from a YAML file.

    Raises:
        ExperimentError: in one line, with the place, the value and what is allowed.
    """
    data, lines = read_yaml(path, named=True)
    if "algorithms" not in data and "algo" in data:
        raise ExperimentError(f"{path}: is an experiment, not a grid; gallop run {path} trains it")
    if "rounds" in data:
        raise ExperimentError(f"{path}: is a search; gallop tune {path} runs it")
    try:
        return from_data(data)
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
    for name in grid.algorithms:
        if name.lower() not in ALGORITHMS:
            hint = nearest(name.lower(), list(ALGORITHMS))
            raise ExperimentError(f"{name!r} is unknown; {hint}", "algorithms")
    for name in grid.changes:
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
            raise ExperimentError(
                f"{name!r}: must be a name of letters, digits, _, - and ., because a folder is "
                "called so",
                "changes",
            )
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
    n = len(grid.algorithms) * len(grid.tasks) * len(grid.changes) * len(grid.training_seeds)
    if n > MAX_RUNS:
        raise ExperimentError(f"{n:,} runs: at most {MAX_RUNS:,} are allowed")
    if len(set(grid.training_seeds)) != len(grid.training_seeds):
        raise ExperimentError("a seed is given twice", "training_seeds")
    if len({name.lower() for name in grid.algorithms}) != len(grid.algorithms):
        raise ExperimentError(
            f"{alternatives(grid.algorithms)}: an algorithm is given twice", "algorithms"
        )


def to_yaml(grid: Grid) -> str:
    """Return YAML from which `load` makes an equal grid."""
    return yaml_text.write(plain(grid.model_dump()))
