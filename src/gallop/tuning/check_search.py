"""Checks of a search that find mistakes before anything is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError, counted, nearest
from gallop.experiments import seeding
from gallop.experiments.settings import Experiment
from gallop.tuning.check_space import check_names
from gallop.tuning.names import SCHEDULE, hyperparameters, target
from gallop.tuning.search_settings import Search, n_evaluations
from gallop.tuning.space import extremes


def check(search: Search) -> None:
    """Check everything in a search that could fail an hour later.

    Raises:
        ExperimentError: naming the setting that is wrong.
    """
    algo = str(search.experiment.get("algo", "")).lower()
    if algo not in ALGORITHMS:
        raise ExperimentError(
            f"{algo!r} is unknown; {nearest(algo, list(ALGORITHMS))}" if algo else "is missing",
            "experiment.algo",
        )
    _check_plain(search.experiment, "experiment")
    for name in ("best_params", "trial", "init_from"):
        if search.experiment.get(name):
            raise ExperimentError(
                f"{search.experiment[name]!r}: is not supported in a search; remove it",
                f"experiment.{name}",
            )
    for number in range(len(search.rounds)):
        with _placed("experiment."):
            trained = search.trial_experiment(number, {}, 0)
        with _placed(f"rounds.{number}.space."):
            _check_space(search, number)
        _check_evaluations(search, number, trained)
    _check_pruner(search)


def _check_plain(value: object, name: str) -> None:
    """Refuse YAML's dates, bytes and sets, which JSON cannot hold."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_plain(part, f"{name}.{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check_plain(part, f"{name}.{number}")
    elif not isinstance(value, bool | int | float | str | None):
        raise ExperimentError(f"{value!r} must be text, a number, a list or a mapping", name)


@contextlib.contextmanager
def _placed(prefix: str) -> Iterator[None]:
    """Put the place of a setting before its name in errors."""
    try:
        yield
    except ExperimentError as error:
        if error.message.startswith(f"{error.field}: "):  # from_dict has already named it
            message = error.message.removeprefix(f"{error.field}: ")
        else:
            message = error.message
        raise ExperimentError(message, f"{prefix}{error.field}".rstrip(".")) from None


def _check_space(search: Search, number: int) -> None:
    space = search.rounds[number].space
    last = search.rounds[number - 1].space if number else None
    check_names(search.algo, space, last)
    for name in space:
        given: object = search.defaults
        for part in target(name).split("."):
            given = given.get(part) if isinstance(given, Mapping) else None
        if given is not None and name != SCHEDULE:
            raise ExperimentError(
                f"is also given as experiment.hyperparameters.{target(name)} "
                f"({given!r}); remove one of them",
                name,
            )
    for name, value in extremes(space):
        try:
            settings = hyperparameters(search.algo, {name: value})
            search.trial_experiment(number, settings, 0)
        except ExperimentError as error:
            if not error.field.startswith("hyperparameters"):
                raise ExperimentError(f"{value!r}: {error.message}", name) from None
            message = error.message.removeprefix(f"{error.field}: ")
            shown = message.removeprefix(f"{value!r}: ")
            raise ExperimentError(f"{value!r}: {shown}", name) from None
        except (OverflowError, ValueError, TypeError) as error:
            raise ExperimentError(f"{value!r}: {error}", name) from None


def _check_evaluations(search: Search, number: int, experiment: Experiment) -> None:
    n_episodes = experiment.evaluation.n_episodes
    if n_episodes > seeding.MAX_SEARCH_EPISODES:
        raise ExperimentError(
            f"{n_episodes}: must be at most {seeding.MAX_SEARCH_EPISODES} in a search",
            "experiment.evaluation.n_episodes",
        )
    n = n_evaluations(experiment)
    if search.objective.n_last > n:
        raise ExperimentError(
            f"{search.objective.n_last}: must be at most {n}, the number of evaluations of a trial "
            f"of round {number + 1} (total_timesteps / evaluation.interval)",
            "objective.n_last",
        )


def _check_pruner(search: Search) -> None:
    pruner = search.pruner
    if pruner.name != "wilcoxon":
        return
    least = 0.5 ** (search.n_seeds - 1)
    if search.n_seeds < 2 or least > pruner.p_threshold:
        raise ExperimentError(
            f"wilcoxon can never stop a trial of {counted(search.n_seeds, 'seed')}: the smallest "
            f"possible p-value of {counted(search.n_seeds - 1, 'pair')} is {least:g}, above "
            f"p_threshold {pruner.p_threshold:g}; use more seeds, or median",
            "pruner.name",
        )
