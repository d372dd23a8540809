"""Summary of a study: its finished trials, their parameters, and which parameters matter."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


NOTHING_YET = "No trial has finished yet, so there is nothing to plot."
NO_PARAMETERS = "The finished trials have no parameters to compare."
_FEWEST = 5  # finished trials; with two, PED-ANOVA finds all parameters equally important
NO_IMPORTANCES = (
    f"Importances are not available yet. They require at least {_FEWEST} finished trials with "
    "different returns, and parameters that differ between the best trials and the others."
)

# Warnings of Optuna and matplotlib about single trials, equal values and rare parameters. The
# figures are plotted all the same, or replaced by a sentence.
_EXPECTED_WARNINGS = (
    "Attempting to set identical low and high",
    "The number of trials is too small to compute importances",
    "Target and region quantiles select the same set of trials",
    "Some regimes for parameter",
)


def finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials with a finite return, in order, without pruned and failed ones."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [t for t in complete if t.value is not None and math.isfinite(t.value)]


def parameter_names(study: optuna.Study) -> list[str]:
    """Return the names of all parameters of finished trials, sorted."""
    return sorted({name for trial in finished_trials(study) for name in trial.params})


def importances(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share of the importance, largest first; the shares sum to 1.

    Empty if unavailable: with fewer than 5 finished trials, or if no parameter distinguishes the
    best 10 % of trials from the others (as with equal returns). A single parameter has share 1.
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
    """Return a sentence that says why no parameter can be plotted; None if one can."""
    if not finished_trials(study):
        return NOTHING_YET
    return None if parameter_names(study) else NO_PARAMETERS


def counts(study: optuna.Study) -> str:
    """Return counts of trials as text, such as "12 finished, 1 pruned, 2 failed"."""
    from optuna.trial import TrialState

    words = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    parts = [f"{len(finished_trials(study))} finished"]
    for word, state in words.items():
        n = len(study.get_trials(deepcopy=False, states=(state,)))
        parts += [f"{n} {word}"] if n else []
    return ", ".join(parts)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's messages about small studies and experimental functions."""
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
