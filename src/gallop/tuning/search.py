"""Read a search from YAML and write it back; the spaces of its rounds, and its cost.

Every number and range is a setting of the file (`configs/*_search*.yaml`, `configs/searches/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from gallop.errors import ExperimentError
from gallop.experiments import yaml_text
from gallop.experiments.explain import explain
from gallop.experiments.yaml_file import override, place, read_yaml
from gallop.fields import plain
from gallop.report.expected_time import Expected
from gallop.tuning.check_search import check
from gallop.tuning.parameter import Space, Value
from gallop.tuning.search_settings import Search
from gallop.tuning.space import narrowed


def load(path: Path, settings: Mapping[str, object] | None = None) -> Search:
    """Read a search from a YAML file.

    Args:
        path: the file.
        settings: override the file's, by dotted name:
            {"search_seed": 1, "experiment.env": "Hopper-v5"}.

    Raises:
        ExperimentError: in one line, with the place, the value and what is allowed.
    """
    data, lines = read_yaml(path, named=True)
    if "algo" in data and "experiment" not in data:
        raise ExperimentError(
            f"{path}: is an experiment, not a search; to train it: gallop run {path}. A search has "
            "an experiment and rounds, as the example halfcheetah_sac_search"
        )
    if "rounds" not in data and "algorithms" in data:
        raise ExperimentError(f"{path}: is a grid; gallop experiment {path} trains it")
    for name, value in (settings or {}).items():
        override(data, name, value)
    try:
        return from_data(data)
    except ExperimentError as error:
        at = place(error.field, path, lines, {name: name for name in settings or {}})
        name = f"{error.field}: " if error.field else ""
        raise ExperimentError(f"{at}{name}{error.message}", error.field) from None


def from_data(data: Mapping[str, object]) -> Search:
    """Make a search from a plain dictionary, and check it.

    Raises:
        ExperimentError: naming the setting, the value and what is allowed.
    """
    try:
        search = Search.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = min(details, key=lambda d: d["type"] != "extra_forbidden")
        raise explain(Search, first, keys_and_indices=True) from None
    check(search)
    return search


def to_yaml(search: Search) -> str:
    """Return YAML from which `load` makes an equal search."""
    data = plain(search.model_dump()) | {"experiment": plain(search.experiment)}
    for part in data["rounds"]:
        part["space"] = {
            name: {
                k: v for k, v in parameter.items() if v is not None and v is not False and v != {}
            }
            for name, parameter in part["space"].items()
        }
    return yaml_text.write(data)


# --- what it will do ---


def spaces(search: Search, number: int, winner: Mapping[str, Value] | None) -> Space:
    """Return the space of a round, with each `around` as a range about the last winner."""
    if number == 0:
        return search.rounds[0].space
    assert winner is not None
    return narrowed(search.rounds[number].space, widest(search, number), winner)


def widest(search: Search, number: int) -> Space:
    """Return each parameter's range in the latest earlier round that has one."""
    found: Space = {}
    for earlier in search.rounds[:number]:
        found |= {n: p for n, p in earlier.space.items() if p.around is None}
    return found


class Cost(NamedTuple):
    """What a search will take."""

    n_trials: int
    n_runs: int
    """Number of trainings: trials × seeds, and those of the retraining."""
    timesteps: int
    seconds: float
    """Of wall-clock time, if one worker trained everything."""
    n_threads: int = 1
    """Of each training."""
    note: str = ""
    """Where the number of seconds comes from."""

    @property
    def core_seconds(self) -> float:
        """Processor time of all trainings, in seconds."""
        return self.seconds * self.n_threads


def cost(search: Search, expected: Sequence[Expected], n_threads: int) -> Cost:
    """Return what the search will take.

    Args:
        search: the search.
        expected: of one training, by round.
        n_threads: of one training.
    """
    n_trials = n_runs = timesteps = 0
    seconds = 0.0
    for number, part in enumerate(search.rounds):
        trained = search.trial_experiment(number, {}, 0).total_timesteps
        runs = part.n_trials * search.n_seeds
        if number == len(search.rounds) - 1 and search.retraining.n_best:
            runs += (search.retraining.n_best + 1) * search.retraining.n_seeds
        n_trials += part.n_trials
        n_runs += runs
        timesteps += runs * trained
        seconds += runs * expected[number].seconds
    note = expected[0].note
    if expected[0].is_busy:
        times = f"{expected[0].busy:.1f}"
        note += f"; {times} times as long while this machine is as busy as now"
    return Cost(n_trials, n_runs, timesteps, seconds, n_threads, note)
