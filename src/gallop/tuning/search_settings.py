"""A search's settings: typed, frozen; each with its default, unit and range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gallop.errors import ExperimentError
from gallop.experiments import seeding
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import from_dict
from gallop.fields import Float, Int, PositiveInt, Settings
from gallop.tuning.parameter import Space


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

    experiment: dict[str, object]
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
    def _leave_out_nothing(cls, data: object) -> object:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @property
    def algo(self) -> str:
        return str(self.experiment["algo"]).lower()

    @property
    def env(self) -> str:
        return str(self.experiment["env"])

    @property
    def defaults(self) -> dict[str, object]:
        """The experiment's own hyper-parameters, nested; SB3's where it says nothing."""
        given = self.experiment.get("hyperparameters")
        if given is not None and not isinstance(given, Mapping):
            raise ExperimentError(f"{given!r}: a mapping is needed", "hyperparameters")
        return dict(given or {})

    def trial_experiment(
        self, round_number: int, settings: Mapping[str, object], training_seed: int
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
            given = data.get("evaluation")
            evaluation = given if isinstance(given, Mapping) else {}
            data["evaluation"] = {**evaluation, "interval": interval}
        timesteps = self.rounds[round_number].total_timesteps
        if timesteps is not None:
            data["total_timesteps"] = timesteps
        merged = self.defaults
        for name, value in settings.items():
            own = merged.get(name)
            if isinstance(own, Mapping) and isinstance(value, Mapping):
                value = {**own, **value}
            merged[name] = value
        data |= {
            "hyperparameters": merged,
            "training_seed": training_seed,
            "milestones": [100],
            "films": False,
            "trackers": [],
        }
        return from_dict(data)


def n_evaluations(experiment: Experiment) -> int:
    """Evaluations of a trial's every seed."""
    assert experiment.evaluation.interval
    return experiment.total_timesteps // experiment.evaluation.interval
