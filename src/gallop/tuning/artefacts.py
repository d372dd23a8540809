"""The results of a round: results.json, trials.csv, four figures and study.html."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from gallop import __version__
from gallop.errors import ExperimentError, counted
from gallop.experiments import search_results
from gallop.experiments.search_results import SearchResults
from gallop.fields import plain
from gallop.report.progress_line import core_time, duration
from gallop.run_folder.files import write_bytes
from gallop.strict_json import strict
from gallop.tuning import study_figures, study_page
from gallop.tuning.retraining import DEFAULTS, Again, gain
from gallop.tuning.search_directory import RoundDirectory, RoundRecord
from gallop.tuning.search_settings import Search, n_evaluations
from gallop.tuning.study import optuna_versions
from gallop.tuning.study_page import PageTable

if TYPE_CHECKING:
    from gallop.evaluation.statistics import Interval


SECONDS, CORE_SECONDS = "seconds", "core_seconds"  # user attributes of a study


def write_results(
    directory: RoundDirectory,
    search: Search,
    record: RoundRecord,
    study: optuna.Study,
    again: Sequence[Again],
    finished: bool,
) -> SearchResults:
    """Write results.json and trials.csv.

    Args:
        directory: folder of the round.
        search: the search.
        record: of the round.
        study: of the round.
        again: results of retraining; empty if there was none, or not yet.
        finished: whether the search is finished.
    """
    best = chosen(study, again)
    trials = [_trial(search, record, trial) for trial in study.get_trials(deepcopy=False)]
    results = SearchResults(
        algo=search.algo,
        env=search.env,
        study_name=study.study_name,
        finished=finished,
        utd_ratio=_utd_ratio(search, record, best) if best else None,
        best_trial=best.number if best else None,
        best_params=best.user_attrs["hyperparameters"] if best else {},
        best_value=best.value if best else None,
        trials=trials,
        more={
            "round": record.number + 1,
            "parent": record.parent,
            "storage": record.storage,
            "search": strict(plain(search.model_dump())),
            "trained_again": [_again(one, again) for one in again],
            "seconds": study.user_attrs.get(SECONDS, 0.0),
            "core_seconds": study.user_attrs.get(CORE_SECONDS, 0.0),
            "versions": {"gallop": __version__, "optuna": ", ".join(optuna_versions(study))},
        },
    )
    write_bytes(directory.results_file, search_results.write_text(results).encode())
    text = io.StringIO(newline="")
    study.trials_dataframe().to_csv(text, index=False, lineterminator="\n")
    write_bytes(directory.trials_file, text.getvalue().encode())
    return results


def chosen(study: optuna.Study, again: Sequence[Again]) -> FrozenTrial | None:
    """Return the best trial: on fresh seeds if trials were retrained, otherwise by its value."""
    trials = {trial.number: trial for trial in complete(study)}
    retrained = [one for one in again if one.candidate.trial in trials and one.value is not None]
    if retrained:
        number = max(retrained, key=lambda one: one.value or 0.0).candidate.trial
        assert number is not None
        return trials[number]
    return max(trials.values(), key=lambda t: (t.value, -t.number), default=None)


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that finished."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _trial(search: Search, record: RoundRecord, trial: FrozenTrial) -> dict[str, object]:
    start, end = trial.datetime_start, trial.datetime_complete
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "params": trial.params,
        "hyperparameters": trial.user_attrs.get("hyperparameters", {}),
        "utd_ratio": _utd_ratio(search, record, trial),
        "scores": trial.user_attrs.get("scores", []),
        "training_seeds": trial.user_attrs.get("training_seeds", []),
        "n_timesteps": trial.user_attrs.get("n_timesteps", 0),
        "reason": trial.user_attrs.get("reason", ""),
        "note": trial.user_attrs.get("first_trial", ""),
        "evaluations": {str(step): value for step, value in trial.intermediate_values.items()},
        "start": start.isoformat(timespec="seconds") if start else None,
        "end": end.isoformat(timespec="seconds") if end else None,
    }


def _utd_ratio(search: Search, record: RoundRecord, trial: FrozenTrial) -> float | None:
    """Return a trial's UTD ratio; None if its settings are inconsistent."""
    settings = trial.user_attrs.get("hyperparameters", {})
    try:
        experiment = search.trial_experiment(record.number, settings, 0)
        return experiment.hyperparameters.utd_ratio(experiment.n_envs)
    except ExperimentError:
        return None


def _again(one: Again, every: Sequence[Again]) -> dict[str, object]:
    difference = gain(one, _defaults(every)) if one.candidate.name != DEFAULTS else None
    return {
        "name": one.candidate.name,
        "trial": one.candidate.trial,
        "hyperparameters": dict(one.candidate.settings),
        "in_the_search": one.candidate.in_the_search,
        "scores": list(one.scores),
        "trained_again": one.value,
        "interval": list(one.interval) if one.interval else None,
        "gain_over_defaults": difference.mean if difference else None,
        "gain_interval": list(difference.interval) if difference else None,
        "reason": one.reason,
    }


def _defaults(every: Sequence[Again]) -> Again:
    return next(one for one in every if one.candidate.name == DEFAULTS)


# --- for people ----------------------------------------------------------------------------------


def draw(
    directory: RoundDirectory,
    search: Search,
    record: RoundRecord,
    study: optuna.Study,
    again: Sequence[Again],
) -> None:
    """Plot the four figures, and write study.html."""
    title = f"{search.algo.upper()} on {search.env}, round {record.number + 1}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's about itself, and matplotlib's about fonts
        study_figures.draw(study, directory.path, title)
        tables = [*again_tables(again), _trials_table(study)]
        study_page.write(
            directory.page, study, f"Search of {title}", facts(directory, search, record, study),
            tables,
        )  # fmt: skip


def facts(
    directory: RoundDirectory, search: Search, record: RoundRecord, study: optuna.Study
) -> list[tuple[str, str]]:
    """Return names and values of the facts at the top of study.html."""
    trials = study.get_trials(deepcopy=False)
    n_in = {state: sum(t.state == state for t in trials) for state in TrialState}
    experiment = search.trial_experiment(record.number, {}, 0)
    n = n_evaluations(experiment)
    last = search.objective.n_last
    what = "the last evaluation" if last == 1 else f"the mean of the last {last} evaluations"
    seeds = "" if search.n_seeds == 1 else f", IQM over {search.n_seeds} training seeds"
    n_episodes = experiment.evaluation.n_episodes
    how = "reproducible" if record.reproducible else "not reproducible (depends on timing)"
    return [
        (
            "trials",
            f"{n_in[TrialState.COMPLETE]} finished, {n_in[TrialState.PRUNED]} stopped early, "
            f"{n_in[TrialState.FAIL]} failed, {search.rounds[record.number].n_trials} planned",
        ),
        (
            "per trial",
            f"{counted(experiment.total_timesteps, 'timestep')} on "
            f"{counted(search.n_seeds, 'training seed')}, {counted(n, 'evaluation')} of "
            f"{counted(n_episodes, 'episode')} each",
        ),
        ("value of a trial", f"return: {what}{seeds}"),
        ("sampler", f"{search.sampler.name}, search seed {search.search_seed}, {how}"),
        ("pruner", f"{search.pruner.name}; {saved(search, record, study)}"),
        (
            "time",
            f"{duration(study.user_attrs.get(SECONDS, 0.0))} of wall-clock time, "
            f"{core_time(study.user_attrs.get(CORE_SECONDS, 0.0))}",
        ),
        ("previous round", record.parent or "none (this is the first)"),
        ("folder", directory.path.name),
        ("storage", f"{record.storage}, study {study.study_name}"),
        ("versions", f"Gallop {__version__}, Optuna {', '.join(optuna_versions(study))}"),
    ]


def saved(search: Search, record: RoundRecord, study: optuna.Study) -> str:
    """Return what stopping trials early saved, as text."""
    stopped = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.PRUNED]
    whole = search.trial_experiment(record.number, {}, 0).total_timesteps * search.n_seeds
    spared = sum(whole - int(t.user_attrs.get("n_timesteps", whole)) for t in stopped)
    planned = whole * len(study.get_trials(deepcopy=False))
    if search.pruner.name == "none" or not planned:
        return "no trials are stopped early"
    return (
        f"stopping {counted(len(stopped), 'trial')} early saved {spared:,} of "
        f"{counted(planned, 'timestep')} ({100 * spared / planned:.0f} %)"
    )


def again_tables(again: Sequence[Again]) -> list[PageTable]:
    """Values in the search next to those after retraining, for the page and for the screen."""
    if not again:
        return []
    n = max(len(one.scores) for one in again)
    defaults = _defaults(again)
    rows, failed = [], ""
    for one in again:
        difference = None if one is defaults else gain(one, defaults)
        before, now = one.candidate.in_the_search, defaults.candidate.in_the_search
        flattered = (
            "" if before is None or now is None or one is defaults else f"{before - now:+,.0f}"
        )
        name = one.candidate.name.replace("-", " ")
        if one.value is None:
            failed += f" {name} failed: {one.reason}."
        rows.append(
            (
                name,
                "" if before is None else f"{before:,.0f}",
                "failed" if one.value is None else f"{one.value:,.0f}{_interval(one.interval)}",
                flattered,
                ""
                if difference is None
                else f"{difference.mean:+,.0f}{_interval(difference.interval, '+')}",
            )
        )
    note = (
        f"Retrained: IQM over {counted(n, 'training seed')} that no trial used, on other "
        "episodes, scored as in the search [95 % bootstrap interval over seeds, too narrow for so "
        "few seeds]. "
        "Gain: mean difference from the defaults on the same seeds [95 % interval, Student's t]."
    )
    if sum(one.candidate.trial is not None for one in again) > 1:
        note += (
            " Choosing the best of several on the fresh seeds biases its value upwards a little, "
            "too."
        )
    headings = ("settings", "in the search", "retrained", "gain in the search", "gain retrained")
    title = "In the search, and retrained on fresh seeds"
    return [PageTable(title, headings, tuple(rows), f"{note}{failed}")]


def _interval(interval: Interval | None, sign: str = "") -> str:
    if interval is None or not math.isfinite(interval.high):  # of one seed
        return ""
    return f" [{interval.low:{sign},.0f}, {interval.high:{sign},.0f}]"


def _trials_table(study: optuna.Study) -> PageTable:
    trials = study.get_trials(deepcopy=False)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    ordered = sorted(trials, key=lambda t: (t.value is None, -(t.value or 0.0), t.number))
    rows = tuple(
        (
            str(trial.number),
            trial.state.name.lower(),
            "" if trial.value is None else f"{trial.value:,.1f}",
            *(shown(trial.params.get(name, "")) for name in names),
            str(trial.user_attrs.get("reason") or trial.user_attrs.get("first_trial") or ""),
        )
        for trial in ordered
    )
    return PageTable("All trials", ("trial", "state", "return", *names, "note"), rows)


def shown(value: object) -> str:
    """Return a parameter's value as text for a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parameters(values: Mapping[str, object]) -> str:
    """Return a trial's values as one line: "gamma 0.99, net_arch small"."""
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items())
