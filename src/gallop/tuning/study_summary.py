"""What a study tells so far: its finished trials, their parameters, and which of them matter."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


NOTHING_YET = "No trial has finished yet, so there is nothing to see."
NO_PARAMETERS = "The finished trials have no parameters to compare."
_FEWEST = 5  # finished trials; of two, PED-ANOVA finds every parameter as important
NO_IMPORTANCES = (
    "Importances cannot be told yet: they take different returns, of at least "
    f"{_FEWEST} finished trials, and parameters that differ between the best and the others."
)

# What Optuna and matplotlib say of one trial, of equal values and of rare parameters. Figures of
# them are drawn all the same, or replaced by a sentence that says it.
_EXPECTED_WARNINGS = (
    "Attempting to set identical low and high",
    "The number of trials is too small to compute importances",
    "Target and region quantiles select the same set of trials",
    "Some regimes for parameter",
)


def finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials whose return is known, in order; neither pruned, failed nor infinite."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [t for t in complete if t.value is not None and math.isfinite(t.value)]


def parameter_names(study: optuna.Study) -> list[str]:
    """Of all finished trials, sorted, those that only some of them have included."""
    return sorted({name for trial in finished_trials(study) for name in trial.params})


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each parameter in reaching the best returns; they sum to 1, the greatest first.

    Empty where they cannot be told: with fewer than 5 finished trials, or where no parameter tells
    the best tenth of them from the others (as of equal returns). Of a single parameter it is 1.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    names = parameter_names(study)
    if len(names) < 2:
        return dict.fromkeys(names, 1.0)
    if len(finished_trials(study)) < _FEWEST:
        return {}
    with quiet():
        found = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=names, normalize=False
        )
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def why_nothing(study: optuna.Study) -> str | None:
    """Why no parameter can be drawn, in a sentence; None if one can."""
    if not finished_trials(study):
        return NOTHING_YET
    return None if parameter_names(study) else NO_PARAMETERS


def counts(study: optuna.Study) -> str:
    """12 finished, 1 pruned, 2 failed."""
    from optuna.trial import TrialState

    words = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    parts = [f"{len(finished_trials(study))} finished"]
    for word, state in words.items():
        n = len(study.get_trials(deepcopy=False, states=(state,)))
        parts += [f"{n} {word}"] if n else []
    return ", ".join(parts)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's remarks on small studies, and on functions that it calls experimental."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message, UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
