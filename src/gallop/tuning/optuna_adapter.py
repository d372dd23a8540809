"""Access to Optuna's internals, where it has no public API. No other file accesses them.

A new version of Optuna may require changes here, and only here.
"""

from __future__ import annotations

from types import SimpleNamespace

import optuna
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

# System attributes in which successive halving stores a trial's value at each rung.
_RUNG = "completed_rung_"


def running_trial(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """Return the live trial of a frozen one, as `study.ask` returned it."""
    return optuna.trial.Trial(study, frozen._trial_id)


def reported(trial: optuna.Trial) -> dict[int, float]:
    """Return the values that a running trial has reported, by step."""
    return dict(trial.study._storage.get_trial(trial._trial_id).intermediate_values)


class KeyedHyperband(HyperbandPruner):
    """Hyperband that assigns trials to brackets by a given key instead of the study's name.

    Which trials are stopped then does not depend on the study's name.
    """

    def __init__(
        self, key: str, min_resource: int, max_resource: int, reduction_factor: int
    ) -> None:
        """Create the pruner; the arguments after `key` are those of `HyperbandPruner`."""
        super().__init__(min_resource, max_resource, reduction_factor)
        self._key = key

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        return super()._get_bracket_id(SimpleNamespace(study_name=self._key), trial)  # type: ignore[arg-type]


def in_memory(
    study: optuna.Study, trials: list[FrozenTrial], sampler: BaseSampler | None = None
) -> optuna.Study:
    """Return a copy of a study in memory, for experiments; its trials have the same numbers."""
    copied = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        direction="maximize",
        sampler=sampler,
        pruner=study.pruner,
    )
    copied.add_trials(trials)
    return copied


def is_stopped_again(trial: optuna.Trial, value: float) -> bool:
    """Return whether the pruner stops a trial at its last report, asking possibly once more.

    Successive halving stores the rungs that a trial has reached, and would take a second question
    about the same report for one about the next rung. Therefore it is asked in a copy of the study
    without that rung.

    Args:
        trial: a running trial.
        value: its last reported value.
    """
    study = trial.study
    trials = study.get_trials()
    kept = trials[trial.number].system_attrs.items()
    trials[trial.number].system_attrs = {
        k: v for k, v in kept if not (k.startswith(_RUNG) and v == value)
    }
    copied = in_memory(study, trials)
    stopped = study.pruner.prune(copied, copied.get_trials()[trial.number])
    for name, reached in copied.get_trials()[trial.number].system_attrs.items():
        if name.startswith(_RUNG):
            study._storage.set_trial_system_attr(trial._trial_id, name, reached)
    return stopped
