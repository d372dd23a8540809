"""results.json of a search: what it found, and how a run takes it.

The only module that knows its format. Plain JSON; nothing in it is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallop.settings import ExperimentError, nearest

NAME = "results.json"
MAX_BYTES = 50_000_000
DEFAULT_ROOT = Path("optuna_results")


@dataclass(frozen=True)
class SearchResults:
    """What a round of a search found. A trial's value is a return: more is better."""

    algo: str
    env: str
    study_name: str
    finished: bool
    utd_ratio: float | None
    """Gradient steps per timestep of the best trial; None before there is one."""
    best_trial: int | None
    """Its number; None where no trial finished."""
    best_params: Mapping[str, Any]
    """Hyper-parameters of the best trial, nested, under SB3's names."""
    best_value: float | None
    trials: Sequence[Mapping[str, Any]]
    """Every trial: number, state, value, params (as searched), hyperparameters (SB3's names)…"""
    more: Mapping[str, Any]
    """What else the file holds: parent, search, trained again, machine, times."""


def write_text(results: SearchResults) -> str:
    """The text of results.json."""
    fields = {name: value for name, value in vars(results).items() if name != "more"}
    return json.dumps(_finite({**fields, **results.more}), indent=2) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def read(path: Path) -> SearchResults:
    """The results in a file, or in a search's folder.

    Raises:
        ExperimentError: if there are none, or they are no search's.
    """
    file = path / NAME if path.is_dir() else path
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ExperimentError(f"{file} is larger than the results of a search can be")
        data = json.loads(text)
    except OSError as error:
        raise ExperimentError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ExperimentError(f"{file} holds no results of a search: it is no JSON") from None
    fields = set(SearchResults.__annotations__) - {"more"}
    missing = sorted(fields - set(data)) if isinstance(data, dict) else ["best_params"]
    if missing or not isinstance(data["trials"], list):
        raise ExperimentError(
            f"{file} holds no results of a search: {missing[0] if missing else 'trials'} is missing"
        )
    more = {name: value for name, value in data.items() if name not in fields}
    return SearchResults(**{name: data[name] for name in fields}, more=more)


def newest(root: Path, algo: str, env: str) -> Path:
    """The newest finished search of an algorithm on a task.

    Raises:
        ExperimentError: if there is none.
    """
    found = []
    for file in sorted(root.glob(f"plots/*/*/{NAME}")):
        try:
            results = read(file)
        except ExperimentError:
            continue
        if (results.algo, results.env) == (algo, env) and results.best_trial is not None:
            found.append((results.finished, file.stat().st_mtime, file))
    finished = [(when, file) for is_finished, when, file in found if is_finished]
    if not finished:
        unfinished = f"; {found[-1][2].parent} is not finished" if found else ""
        raise ExperimentError(
            f"best: there is no finished search of {algo.upper()} on {env} below {root}{unfinished};"
            " gallop tune makes one"
        )
    return max(finished)[1]


def hyperparameters_of(results: SearchResults, trial: int | str) -> tuple[int, dict[str, Any]]:
    """A trial's number and hyper-parameters, nested.

    Args:
        trial: its number, 0 included, or "best".

    Raises:
        ExperimentError: if there is no such trial.
    """
    if trial == "best":
        if results.best_trial is None:
            raise ExperimentError(f"no trial of {results.study_name} has finished")
        return int(results.best_trial), dict(results.best_params)
    for data in results.trials:
        if data.get("number") == trial:
            return int(data["number"]), dict(data.get("hyperparameters") or {})
    numbers = [str(data.get("number")) for data in results.trials]
    raise ExperimentError(
        f"{trial} is no trial of {results.study_name}; {nearest(str(trial), [*numbers, 'best'])}"
    )


def utd_ratio_of(results: SearchResults, trial: int) -> float | None:
    """The UTD ratio that a trial was trained with."""
    for data in results.trials:
        if data.get("number") == trial and isinstance(data.get("utd_ratio"), int | float):
            return float(data["utd_ratio"])
    return results.utd_ratio
