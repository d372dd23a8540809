"""A search: typed, frozen, validated; from a YAML file, and what it will cost.

Every number and range is a setting of the file (`configs/*_search*.yaml`, `configs/searches/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import Field, ValidationError, model_validator

from gallop.errors import ExperimentError, nearest
from gallop.experiments import seeding
from gallop.experiments.explain import explain
from gallop.experiments.settings import EXPERIMENTS, Algo, Experiment
from gallop.experiments.yaml_file import from_dict, override, place, read_yaml
from gallop.fields import Float, Int, PositiveInt, Settings
from gallop.tuning.space import Space, check_names, extremes, hyperparameters, narrowed, target


class Objective(Settings):
    """What a trial is worth: the IQM over its seeds of each seed's score."""

    n_last: PositiveInt = 1
    """Evaluations at the end whose mean return is a seed's score."""


class Sampler(Settings):
    """Optuna's sampler, seeded anew for each trial from (search seed, round, trial number)."""

    name: Literal["tpe", "random"] = "tpe"
    """tpe: tree-structured Parzen estimator; random: evenly."""
    n_startup_trials: Annotated[Int, Field(ge=0)] = 10
    """Trials drawn evenly before TPE begins."""
    multivariate: bool = True
    """TPE of all parameters together, not of each on its own."""
    constant_liar: bool = True
    """TPE stays away from what other workers are trying."""


class Pruner(Settings):
    """Which trials are stopped early, at a segment's boundary where they are evaluated."""

    name: Literal["none", "median", "successive_halving", "hyperband", "wilcoxon"] = "none"
    """wilcoxon looks at the scores of whole seeds, the others at every evaluation."""
    n_startup_trials: Annotated[Int, Field(ge=0)] = 5
    """median: trials that finish before any is stopped."""
    n_warmup_steps: Annotated[Int, Field(ge=0)] = 0
    """median: evaluations of a trial before it can be stopped; wilcoxon: seeds."""
    min_resource: PositiveInt = 1
    """successive halving, Hyperband: evaluations of the first rung."""
    reduction_factor: Annotated[Int, Field(ge=2)] = 3
    """successive halving, Hyperband: one in so many goes on to the next rung."""
    p_threshold: Annotated[Float, Field(gt=0, le=1)] = 0.1
    """wilcoxon: p-value below which a trial is worse than the best one."""


class Retraining(Settings):
    """The best trials trained again on training seeds that the search has not seen."""

    n_best: Annotated[Int, Field(ge=0, le=100)] = 1
    """Trials; SB3's defaults are trained beside them. 0: none."""
    n_seeds: Annotated[Int, Field(ge=1, le=1000)] = 3
    """Fresh training seeds of each."""


class Round(Settings):
    """One study: a space, and how many trials."""

    n_trials: PositiveInt
    """Over all calls."""
    space: Space
    """Name -> range or choices. In a later round, what is left out keeps the winner's value."""
    total_timesteps: PositiveInt | None = None
    """Timesteps of a trial's every seed; default: the experiment's."""


class Search(Settings):
    """A search, described completely."""

    experiment: dict[str, Any]
    """What every trial trains, as in a file of `gallop run`."""
    rounds: Annotated[tuple[Round, ...], Field(min_length=1, max_length=20)]
    """A later round begins with the winner of the one before."""
    search_seed: Annotated[Int, Field(ge=0, lt=seeding.MAX_SEARCH_SEED)] = 0
    """Seed of the sampler and of the training seeds of trials."""
    n_seeds: Annotated[Int, Field(ge=1, le=100)] = 1
    """Training seeds of each trial, the same for every trial of a round."""
    objective: Objective = Objective()
    """What a trial is worth."""
    sampler: Sampler = Sampler()
    """How values are drawn."""
    pruner: Pruner = Pruner()
    """Which trials are stopped early."""
    first_trial: Literal["defaults", "sampled"] = "defaults"
    """First trial of the first round: SB3's defaults, moved to the nearest values inside."""
    batch: PositiveInt = 4
    """--reproducible: trials that are asked for before any of them is told."""
    retraining: Retraining = Retraining()
    """The best trials trained again."""
    source: str = ""
    """Where the ranges come from; changes nothing."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @property
    def algo(self) -> Algo:
        algo: Algo = str(self.experiment["algo"]).lower()  # type: ignore[assignment]
        return algo

    @property
    def env(self) -> str:
        return str(self.experiment["env"])

    @property
    def defaults(self) -> dict[str, Any]:
        """The experiment's own hyper-parameters, nested; SB3's where it says nothing."""
        given = self.experiment.get("hyperparameters")
        if given is not None and not isinstance(given, Mapping):
            raise ExperimentError(f"{given!r}: a mapping is needed", "hyperparameters")
        return dict(given or {})

    def trial_experiment(
        self, round_number: int, settings: Mapping[str, Any], training_seed: int
    ) -> Experiment:
        """What one seed of a trial trains.

        Args:
            round_number: from 0.
            settings: hyper-parameters, nested, on top of the experiment's own.

        Raises:
            ExperimentError: where they do not go together.
        """
        data = dict(self.experiment)
        if settings:
            # Unasked, the interval would follow the settings, and trials would be judged unlike.
            interval = self.trial_experiment(round_number, {}, 0).evaluation.interval
            data["evaluation"] = {**(data.get("evaluation") or {}), "interval": interval}
        timesteps = self.rounds[round_number].total_timesteps
        if timesteps is not None:
            data["total_timesteps"] = timesteps
        merged = self.defaults
        for name, value in settings.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = {**merged[name], **value} if both else value
        data |= {
            "hyperparameters": merged,
            "training_seed": training_seed,
            "milestones": [100],
            "films": False,
            "trackers": [],
        }
        return from_dict(data)


class Cost(NamedTuple):
    """What a search will take."""

    n_trials: int
    n_runs: int
    """Trainings: trials × seeds, and those of the retraining."""
    timesteps: int
    seconds: float
    """Of cores, one after the other; rough."""


# --- from YAML -----------------------------------------------------------------------------------


def load(path: Path, settings: Mapping[str, Any] | None = None) -> Search:
    """The search of a YAML file.

    Args:
        settings: on top of the file's, dotted: {"search_seed": 1, "experiment.env": "Hopper-v5"}.

    Raises:
        ExperimentError: with one line that holds place, value and the nearest right thing.
    """
    data, lines = read_yaml(path)
    if "algo" in data and "experiment" not in data:
        raise ExperimentError(
            f"{path}: is an experiment; gallop run {path} trains it. A search has an experiment "
            "and rounds, as configs/halfcheetah_sac_search.yaml has"
        )
    for name, value in (settings or {}).items():
        override(data, name, value)
    try:
        return from_data(data)
    except ExperimentError as error:
        at = place(error.field, path, lines, {name: name for name in settings or {}})
        name = f"{error.field}: " if error.field else ""
        raise ExperimentError(f"{at}{name}{error.message}", error.field) from None


def from_data(data: Mapping[str, Any]) -> Search:
    """The search of a plain dictionary, checked.

    Raises:
        ExperimentError: naming the setting, the value and what is allowed.
    """
    try:
        search = Search.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = min(details, key=lambda d: d["type"] != "extra_forbidden")
        raise explain(Search, first, keys_and_indices=True) from None
    _check(search)
    return search


def to_yaml(search: Search) -> str:
    """YAML from which `load` makes an equal search."""
    data = search.model_dump(mode="json") | {"experiment": search.experiment}
    for part in data["rounds"]:
        part["space"] = {
            name: {
                k: v for k, v in parameter.items() if v is not None and v is not False and v != {}
            }
            for name, parameter in part["space"].items()
        }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


# --- what depends on several settings ------------------------------------------------------------


def _check(search: Search) -> None:
    """Everything that could go wrong an hour later.

    Raises:
        ExperimentError: naming the place.
    """
    algo = str(search.experiment.get("algo", "")).lower()
    if algo not in EXPERIMENTS:
        raise ExperimentError(
            f"{algo!r} is unknown; {nearest(algo, list(EXPERIMENTS))}"
            if algo
            else "is missing, and has no default",
            "experiment.algo",
        )
    _check_plain(search.experiment, "experiment")
    for name in ("best_params", "trial", "init_from"):
        if search.experiment.get(name):
            raise ExperimentError(
                f"{search.experiment[name]!r}: a search begins without it: leave it out",
                f"experiment.{name}",
            )
    for number in range(len(search.rounds)):
        trained = _with_place("experiment.", lambda n=number: search.trial_experiment(n, {}, 0))
        assert isinstance(trained, Experiment)
        _with_place(f"rounds.{number}.space.", lambda n=number: _check_space(search, n))
        _check_evaluations(search, number, trained)
    _check_pruner(search)


def _check_plain(value: Any, name: str) -> None:
    """YAML's dates, bytes and sets are no settings, and JSON cannot hold them."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_plain(part, f"{name}.{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check_plain(part, f"{name}.{number}")
    elif not isinstance(value, bool | int | float | str | None):
        raise ExperimentError(f"{value!r} is no text, number, list or mapping", name)


def _with_place(prefix: str, call: Any) -> Any:
    try:
        return call()
    except ExperimentError as error:
        if error.message.startswith(f"{error.field}: "):  # from_dict has named it already
            message = error.message.removeprefix(f"{error.field}: ")
        else:
            message = error.message
        raise ExperimentError(message, f"{prefix}{error.field}".rstrip(".")) from None


def _check_space(search: Search, number: int) -> None:
    algo = str(search.experiment["algo"]).lower()
    assert algo in EXPERIMENTS
    space = search.rounds[number].space
    last = search.rounds[number - 1].space if number else None
    check_names(algo, space, last)  # type: ignore[arg-type]
    for name in space:
        given: Any = search.defaults
        for part in target(name).split("."):
            given = given.get(part) if isinstance(given, Mapping) else None
        if given is not None and name != "lr_schedule":
            raise ExperimentError(
                f"is also given as experiment.hyperparameters.{target(name)} "
                f"({given!r}): leave one of them out",
                name,
            )
    for name, value in extremes(space):
        try:
            settings = hyperparameters(algo, {name: value})  # type: ignore[arg-type]
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
            f"{n_episodes}: a search has seeds for {seeding.MAX_SEARCH_EPISODES}",
            "experiment.evaluation.n_episodes",
        )
    n = n_evaluations(experiment)
    if search.objective.n_last > n:
        raise ExperimentError(
            f"{search.objective.n_last} evaluations are asked for, and a trial of round "
            f"{number + 1} has {n} (total_timesteps / evaluation.interval)",
            "objective.n_last",
        )


def _check_pruner(search: Search) -> None:
    pruner = search.pruner
    if pruner.name != "wilcoxon":
        return
    least = 0.5 ** (search.n_seeds - 1)
    if search.n_seeds < 2 or least > pruner.p_threshold:
        raise ExperimentError(
            f"wilcoxon cannot stop a trial of {search.n_seeds} seeds: the least p-value of "
            f"{search.n_seeds - 1} pairs is {least:g}, above p_threshold {pruner.p_threshold:g}; "
            "use more seeds, or median",
            "pruner.name",
        )


def n_evaluations(experiment: Experiment) -> int:
    """Evaluations of a trial's every seed."""
    assert experiment.evaluation.interval
    return experiment.total_timesteps // experiment.evaluation.interval


def spaces(search: Search, number: int, winner: Mapping[str, Any] | None) -> Space:
    """The space of a round, each `around` as a range about the last round's winner."""
    if number == 0:
        return search.rounds[0].space
    assert winner is not None
    return narrowed(search.rounds[number].space, widest(search, number), winner)


def widest(search: Search, number: int) -> Space:
    """For each parameter, the range of the latest round before that has one."""
    found: Space = {}
    for earlier in search.rounds[:number]:
        found |= {n: p for n, p in earlier.space.items() if p.around is None}
    return found


def cost(search: Search, seconds_a_run: list[float]) -> Cost:
    """What the search will take.

    Args:
        seconds_a_run: of cores, expected of one training, by round.
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
        seconds += runs * seconds_a_run[number]
    return Cost(n_trials, n_runs, timesteps, seconds)
