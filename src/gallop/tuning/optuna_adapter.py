"""What Optuna offers no public way to do. No other file touches its internals.

Another version of Optuna may need changes here, and only here.
"""

from __future__ import annotations

from types import SimpleNamespace

import optuna
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

# Successive halving notes in these system attributes with which value a trial reached each rung.
_RUNG = "completed_rung_"


def running_trial(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """The trial of a study that can be reported to and told, as `study.ask` returned it once."""
    return optuna.trial.Trial(study, frozen._trial_id)


def reported(trial: optuna.Trial) -> dict[int, float]:
    """What was reported of a trial that is running: step → value."""
    return dict(trial.study._storage.get_trial(trial._trial_id).intermediate_values)


class KeyedHyperband(HyperbandPruner):
    """Deals trials to brackets by a key of ours, where Optuna takes the study's name.

    So which trials are stopped does not depend on what a study is called.
    """

    def __init__(
        self, key: str, min_resource: int, max_resource: int, reduction_factor: int
    ) -> None:
        super().__init__(min_resource, max_resource, reduction_factor)
        self._key = key

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        return super()._get_bracket_id(SimpleNamespace(study_name=self._key), trial)  # type: ignore[arg-type]


def in_memory(
    study: optuna.Study, trials: list[FrozenTrial], sampler: BaseSampler | None = None
) -> optuna.Study:
    """A copy of a study to try things in, whose trials have the same numbers."""
    copied = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        direction="maximize",
        sampler=sampler,
        pruner=study.pruner,
    )
    copied.add_trials(trials)
    return copied


def is_stopped_again(trial: optuna.Trial, value: float) -> bool:
    """What the pruner says of a trial's last report, if it may have been asked already.

    Successive halving writes down the rungs that a trial has reached, and would take the same
    question for one about the next rung. So it is asked in a copy that does not know of the first.

    Args:
        value: of the last report.
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
