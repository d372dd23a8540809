"""The results.json of a search: its format, and the hyper-parameters that a run takes from it.

This is the only module that knows the format. It is plain JSON; nothing in it is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallop.errors import ExperimentError, nearest
from gallop.reading import open_regular

NAME = "results.json"
MAX_BYTES = 50_000_000
MAX_NUMBER = 1e300  # of returns and ratios; NaN is refused, too
DEFAULT_ROOT = Path("optuna_results")


@dataclass(frozen=True)
class SearchResults:
    """The results of one round of a search. The value of a trial is a return: higher is better."""

    algo: str
    """Name of the algorithm."""
    env: str
    """Id of the task."""
    study_name: str
    """Name of the Optuna study."""
    finished: bool
    """Whether the round is finished."""
    utd_ratio: float | None
    """UTD ratio of the best trial; None if no trial has finished."""
    best_trial: int | None
    """Number of the best trial; None if no trial has finished."""
    best_params: Mapping[str, Any]
    """Hyper-parameters of the best trial, nested, with SB3's names."""
    best_value: float | None
    """Value of the best trial; None if no trial has finished."""
    trials: Sequence[Mapping[str, Any]]
    """All trials, each with number, state, value, params (as sampled), hyperparameters and more."""
    more: Mapping[str, Any]
    """The other keys of the file, such as parent, search, machine and times."""


def write_text(results: SearchResults) -> str:
    """The results as the text of results.json."""
    fields = {name: value for name, value in vars(results).items() if name != "more"}
    return json.dumps(_finite({**fields, **results.more}), indent=2) + "\n"


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None, because JSON does not have them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def read(path: Path) -> SearchResults:
    """Read the results from a results.json, or from the folder of a search.

    Raises:
        ExperimentError: if the file is missing or does not have the format.
    """
    file = path / NAME if path.is_dir() else path
    try:
        with open_regular(file) as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ExperimentError(f"{file}: larger than the results of a search can be")
        data = json.loads(content)
    except OSError as error:
        raise ExperimentError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ExperimentError(f"{file}: not the results of a search: not valid JSON") from None
    if not isinstance(data, dict):
        raise ExperimentError(f"{file}: not the results of a search: not a JSON object")
    fields = set(SearchResults.__annotations__) - {"more"}
    for name in sorted(fields):
        _check(file, name, name in data, data.get(name), _KINDS[name])
    for number, trial in enumerate(data["trials"]):
        _check(file, f"trials.{number}", True, trial, dict)
        for name, kind in _KINDS_IN_A_TRIAL.items():
            _check(file, f"trials.{number}.{name}", name in trial, trial.get(name), kind)
    more = {name: value for name, value in data.items() if name not in fields}
    return SearchResults(**{name: data[name] for name in fields}, more=more)


_NUMBER = int | float | None
_KINDS: dict[str, Any] = {
    "algo": str,
    "env": str,
    "study_name": str,
    "finished": bool,
    "utd_ratio": _NUMBER,
    "best_trial": int | None,
    "best_params": dict,
    "best_value": _NUMBER,
    "trials": list,
}
_KINDS_IN_A_TRIAL: dict[str, Any] = {"number": int, "hyperparameters": dict, "utd_ratio": _NUMBER}


def _check(file: Path, name: str, is_there: bool, value: Any, kind: Any) -> None:
    what = ""
    if not is_there:
        what = f"{name} is missing"
    elif not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        what = f"{name} is {str(value)[:50]!r}"
    elif kind is _NUMBER and value is not None and not abs(value) < MAX_NUMBER:
        what = f"{name} is {str(value)[:50]}"
    if what:
        raise ExperimentError(f"{file}: not the results of a search: {what}")


def newest(root: Path, algo: str, env: str) -> Path:
    """The results.json of the newest finished search of an algorithm on a task.

    Args:
        root: folder of all searches.
        algo: name of the algorithm.
        env: id of the task.

    Raises:
        ExperimentError: if there is no finished one.
    """
    found = []
    for file in sorted(root.glob(f"plots/*/*/{NAME}")):
        try:
            results = read(file)
        except ExperimentError:
            continue
        if (results.algo, results.env) == (algo, env) and results.best_trial is not None:
            found.append((_is_last(results), file.stat().st_mtime, file))
    finished = [(when, file) for is_finished, when, file in found if is_finished]
    if not finished:
        unfinished = f"; {found[-1][2].parent} is not finished" if found else ""
        raise ExperimentError(
            f"best: no finished search of {algo.upper()} on {env} under {root}"
            f"{unfinished}; gallop tune runs one"
        )
    return max(finished)[1]


def _is_last(results: SearchResults) -> bool:
    """Whether the round is finished and is the last one of its search."""
    search = results.more.get("search")
    rounds = search.get("rounds") if isinstance(search, dict) else None
    n_rounds = len(rounds) if isinstance(rounds, list) else 1
    return results.finished and results.more.get("round", n_rounds) == n_rounds


def hyperparameters_of(results: SearchResults, trial: int | str) -> tuple[int, dict[str, Any]]:
    """The number and the hyper-parameters of a trial.

    Args:
        results: of the search.
        trial: its number, from 0, or "best".

    Returns:
        The number, and the hyper-parameters, nested, with SB3's names.

    Raises:
        ExperimentError: if there is no such trial.
    """
    if trial == "best":
        if results.best_trial is None:
            raise ExperimentError(f"no trial of {results.study_name} has finished")
        return int(results.best_trial), dict(results.best_params)
    for data in results.trials:
        if data.get("number") == trial:
            if not data["hyperparameters"]:
                raise ExperimentError(
                    f"trial {trial} of {results.study_name} has no hyper-parameters yet"
                )
            return int(data["number"]), dict(data["hyperparameters"])
    numbers = [str(data.get("number")) for data in results.trials]
    raise ExperimentError(
        f"{trial}: no such trial of {results.study_name}; {nearest(str(trial), [*numbers, 'best'])}"
    )


def utd_ratio_of(results: SearchResults, trial: int) -> float | None:
    """The UTD ratio of a trial; None if it is unknown."""
    for data in results.trials:
        if data.get("number") == trial and isinstance(data.get("utd_ratio"), int | float):
            return float(data["utd_ratio"])
    return results.utd_ratio
