"""The settings of a search: typed and frozen, each with its default, unit and range."""

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
    """The value of a trial: the IQM of its seeds' scores."""

    n_last: PositiveInt = 1
    """Evaluations at the end of training whose mean return is a seed's score."""


class Sampler(Settings):
    """Optuna's sampler; the seed of each trial is (search seed, round, trial number)."""

    name: Literal["tpe", "random"] = "tpe"
    """tpe: tree-structured Parzen estimator; random: uniform sampling."""
    n_startup_trials: Annotated[Int, Field(ge=0)] = 10
    """Trials sampled uniformly before TPE starts."""
    multivariate: bool = True
    """Whether TPE models all parameters jointly instead of each on its own."""
    constant_liar: bool = True
    """Whether TPE avoids the values that other workers are trying."""


class Pruner(Settings):
    """Which trials are stopped early, at a segment boundary with an evaluation."""

    name: Literal["none", "median", "successive_halving", "hyperband", "wilcoxon"] = "none"
    """wilcoxon compares the scores of whole seeds, the others compare every evaluation."""
    n_startup_trials: Annotated[Int, Field(ge=0)] = 5
    """median: trials that finish before any is stopped early."""
    n_warmup_steps: Annotated[Int, Field(ge=0)] = 0
    """Before a trial can be stopped: evaluations (median) or seeds (wilcoxon)."""
    min_resource: PositiveInt = 1
    """successive_halving, hyperband: evaluations up to the first rung."""
    reduction_factor: Annotated[Int, Field(ge=2)] = 3
    """successive_halving, hyperband: one in this many trials reaches the next rung."""
    p_threshold: Annotated[Float, Field(gt=0, le=1)] = 0.1
    """wilcoxon: p-value below which a trial counts as worse than the best one."""


class Retraining(Settings):
    """Retraining of the best trials on fresh training seeds, which no trial used."""

    n_best: Annotated[Int, Field(ge=0, le=100)] = 1
    """Trials to retrain, together with SB3's defaults; 0: none."""
    n_seeds: Annotated[Int, Field(ge=1, le=1000)] = 3
    """Fresh training seeds per trial."""


class Round(Settings):
    """One Optuna study: a space and a number of trials."""

    n_trials: PositiveInt
    """Trials in total, over all calls."""
    space: Space
    """Name -> range or choices; parameters missing in a later round keep the winner's value."""
    total_timesteps: PositiveInt | None = None
    """Timesteps per seed of a trial; default: the experiment's."""


class Search(Settings):
    """The complete description of a search."""

    experiment: dict[str, object]
    """The experiment that every trial trains, as in a file for `gallop run`."""
    rounds: Annotated[tuple[Round, ...], Field(min_length=1, max_length=20)]
    """Each later round starts with the winner of the previous one."""
    search_seed: Annotated[Int, Field(ge=0, lt=seeding.MAX_SEARCH_SEED)] = 0
    """Seed of the sampler and of the trials' training seeds."""
    n_seeds: Annotated[Int, Field(ge=1, le=100)] = 1
    """Training seeds per trial, the same for every trial of a round."""
    objective: Objective = Objective()
    """The value of a trial."""
    sampler: Sampler = Sampler()
    """How values are sampled."""
    pruner: Pruner = Pruner()
    """Which trials are stopped early."""
    first_trial: Literal["defaults", "sampled"] = "defaults"
    """First trial: SB3's defaults, moved to the nearest values of the space, or sampled."""
    batch: PositiveInt = 4
    """With --reproducible: trials sampled together, before any of them has ended."""
    retraining: Retraining = Retraining()
    """Retraining of the best trials on fresh seeds."""
    source: str = ""
    """Where the ranges come from; has no effect."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, data: object) -> object:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @property
    def algo(self) -> str:
        """The name of the algorithm, in lower case."""
        return str(self.experiment["algo"]).lower()

    @property
    def env(self) -> str:
        """The id of the task."""
        return str(self.experiment["env"])

    @property
    def defaults(self) -> dict[str, object]:
        """The hyper-parameters that the experiment sets, nested."""
        given = self.experiment.get("hyperparameters")
        if given is not None and not isinstance(given, Mapping):
            raise ExperimentError(f"{given!r}: must be a mapping", "hyperparameters")
        return dict(given or {})

    def trial_experiment(
        self, round_number: int, settings: Mapping[str, object], training_seed: int
    ) -> Experiment:
        """Return the experiment that one seed of a trial trains.

        Args:
            round_number: counted from 0.
            settings: nested hyper-parameters that override the experiment's.
            training_seed: the training seed.

        Raises:
            ExperimentError: if the hyper-parameters are inconsistent.
        """
        data = dict(self.experiment)
        if settings:
            # The default interval depends on the settings; every trial must have the same one.
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
    """Return the number of evaluations per seed of a trial."""
    assert experiment.evaluation.interval
    return experiment.total_timesteps // experiment.evaluation.interval
