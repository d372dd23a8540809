"""Start a search or resume one, and estimate its cost."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from gallop.errors import ExperimentError, RunError, counted
from gallop.execution.processes import OneMachine
from gallop.execution.work import Place
from gallop.experiments import search_results
from gallop.experiments.presets import config_file
from gallop.machine import available_processors
from gallop.report.display import Display
from gallop.report.expected_time import expected_time
from gallop.report.measured_speed import measure
from gallop.run_folder.consent import require_storage, settings_asked_for, storage_asked_for
from gallop.run_folder.links import check_contents
from gallop.run_folder.prepared import prepare
from gallop.run_folder.provenance import now
from gallop.tuning import lease, study
from gallop.tuning.live_table import LiveTable
from gallop.tuning.search import Cost, cost, load, spaces
from gallop.tuning.search_directory import (
    RoundDirectory,
    RoundRecord,
    search_folder,
    without_password,
)
from gallop.tuning.search_loop import OWN_DATABASE, SearchLoop
from gallop.tuning.search_settings import Search


def tune(
    search: Search | str | PathLike[str],
    *,
    root: str | PathLike[str] = search_results.DEFAULT_ROOT,
    name: str | None = None,
    workers: int | None = None,
    reproducible: bool = False,
    storage: str = "",
    study_name: str = "",
    display: Display | None = None,
    place: Place | None = None,
) -> RoundDirectory:
    """Search for hyper-parameters with Optuna, in new folders.

    Each round has a folder ``root/plots/<ALGO>_<ENV>/<name>``. While it runs, a live table of the
    trials is printed.

    Args:
        search: a YAML file, the name of an example search, or a `Search` from
            `gallop.tuning.search.from_data`.
        root: the folder that holds all searches.
        name: name of the first round's folder; default: the current time, as YYYYMMDD_HHMMSS.
        workers: trainings that run in parallel; default, and at most: as many as the cores allow.
        reproducible: draw the same trials regardless of the number of workers and their timing.
        storage: URL of Optuna's storage; default: an SQLite file in each round's folder.
        study_name: name of the study in the storage; default: made from the folder's name.
        display: where to print; `Display(quiet=True)` prints errors only.
        place: where the trainings run; default: this machine.

    Returns:
        The folder of the last round. `gallop.experiment(..., best_params=...)` accepts it.

    Raises:
        ExperimentError: before anything is written, if the search cannot be run.
        RunError: if the folder already exists or cannot be written.
        Stopped: after SIGINT or SIGTERM; `gallop tune --resume` resumes the search.

    Example:
        Two short trials of PPO's learning rate, and an experiment with the better one::

            import gallop
            from gallop.tuning.search import from_data

            pendulum = {"algo": "ppo", "env": "Pendulum-v1", "total_timesteps": 4_096}
            search = from_data(
                {
                    "experiment": pendulum,
                    "rounds": [{"n_trials": 2, "space": {"learning_rate": [0.0003, 0.001]}}],
                    "retraining": {"n_best": 0},
                }
            )
            last = gallop.tune(search)
            experiment = gallop.experiment(**pendulum, milestones=[100], best_params=last)
    """
    display, place = display or Display(), place or OneMachine()
    if not isinstance(search, Search):
        search = load(config_file(Path(search)))
    name = name or datetime.datetime.now().strftime("%Y%m%d_%H%M%S")
    first = search_folder(Path(root), search.algo, search.env, name)
    if first.exists():
        raise RunError(
            f"{first.path} already exists; to resume it: gallop tune --resume {first.path}"
        )
    n = place.n_workers(workers, _threads(search))
    _announce(search, display, place, workers, n, str(first.path), reproducible)
    record = RoundRecord(
        number=0,
        parent=None,
        storage=without_password(storage) if storage else OWN_DATABASE,
        study_name=study_name or f"{search.algo.upper()}_{search.env}/{name}",
        start=now(),
        reproducible=reproducible,
    )
    # A storage that cannot be used is reported before the folder is created.
    if storage:
        ranges = spaces(search, 0, None)
        found = study.open_study(storage, record.study_name, study.identity(search, 0, ranges))
        study.check_optuna_version(found, reproducible)
        with study.explaining_storage(storage):
            lease.wait_until_free(found)
        storage_asked_for(record.storage)
    settings_asked_for(search.experiment)
    with first.explaining_full_disk():
        first.create(search, record)
    return SearchLoop(first, search, place, n, storage, display).run()


def go_on(
    first: RoundDirectory,
    *,
    n_trials: Sequence[int] = (),
    workers: int | None = None,
    storage: str = "",
    retry_failed: bool = False,
    display: Display | None = None,
    place: Place | None = None,
) -> RoundDirectory:
    """Resume a search from the state of its folders and its storage.

    Args:
        first: any of its rounds.
        n_trials: new totals of trials over all calls, by round.
        workers: as for `tune`.
        storage: URL of Optuna's storage, if it has a password or was not named on this machine.
        retry_failed: retry every failed trial of the last round as a new trial with the same
            values.
        display: where to print.
        place: as for `tune`.

    Returns:
        The folder of the last round.

    Raises:
        ExperimentError, Stopped: as `tune`.
    """
    display, place = display or Display(), place or OneMachine()
    first = first.first_round()
    part: RoundDirectory | None = first
    while part is not None:
        check_contents(part.path)
        part = part.next_round()
    record, search = first.read_record(), first.read_search()
    if "***" in record.storage and not storage:
        raise ExperimentError(
            f"the password of {record.storage} is not stored; give --storage again"
        )
    if storage:
        storage_asked_for(without_password(storage))
    else:
        _check_storages(first)
    if n_trials:
        search = with_n_trials(search, n_trials)
        _check_growth(first, search)
        with first.explaining_full_disk():
            first.create(search, record)
    n = place.n_workers(workers, _threads(search))
    _announce(search, display, place, workers, n, str(first.path), record.reproducible)
    return SearchLoop(first, search, place, n, storage, display, retry_failed).run()


def _check_storages(first: RoundDirectory) -> None:
    """Refuse a storage that this user has not named on this machine."""
    part: RoundDirectory | None = first
    while part is not None:
        url = part.read_record().storage
        if url != OWN_DATABASE:
            require_storage(part.record_file, url)
        part = part.next_round()


def with_n_trials(search: Search, n_trials: Sequence[int]) -> Search:
    """Return the search with other totals of trials for its first rounds.

    Raises:
        ExperimentError: if there are more totals than rounds, or one is below 1.
    """
    if len(n_trials) > len(search.rounds):
        raise ExperimentError(
            f"--n-trials {','.join(map(str, n_trials))}: the search has only "
            f"{counted(len(search.rounds), 'round')}"
        )
    if min(n_trials) < 1:
        raise ExperimentError(f"--n-trials {min(n_trials)}: must be at least 1")
    rounds = list(search.rounds)
    for number, n in enumerate(n_trials):
        rounds[number] = rounds[number].model_copy(update={"n_trials": n})
    return search.model_copy(update={"rounds": tuple(rounds)})


def dry_run(search: Search, display: Display, workers: int | None, place: Place) -> None:
    """Check a search, and print what it would do and cost."""
    n = place.n_workers(workers, _threads(search))
    _announce(search, display, place, workers, n, "", False)


def _announce(
    search: Search,
    display: Display,
    place: Place,
    asked: int | None,
    n: int,
    folder: str,
    reproducible: bool,
) -> None:
    LiveTable(display).plan(search, expected_cost(search, place, n, display), n, folder)
    if asked is not None and asked > n:
        display.say(
            f"{counted(n, 'worker')} instead of {asked}: this machine has "
            f"{counted(available_processors(), 'core')}, which more workers would only share"
        )
    if reproducible and n > search.batch:
        display.say(
            f"--reproducible samples {counted(search.batch, 'trial')} at a time (batch): "
            f"{n - search.batch} of {n} workers will be idle"
        )


def expected_cost(search: Search, place: Place, n_workers: int, display: Display) -> Cost:
    """Prepare a trial of each round, and return what the search will take.

    The speed of this machine is measured, unless the display is quiet.

    Raises:
        ExperimentError: if the task does not work, or the algorithm does not support it.
    """
    rounds = [
        prepare(search.trial_experiment(number, {}, 0)).on_threads(place.threads(n_workers))
        for number in range(len(search.rounds))
    ]
    speed = None if display.console.quiet else measure(rounds[0])
    expected = [expected_time(prepared, speed, is_trial=True) for prepared in rounds]
    return cost(search, expected, rounds[0].choice.n_threads)


def _threads(search: Search) -> int | None:
    return search.trial_experiment(0, {}, 0).n_threads


def _check_growth(first: RoundDirectory, search: Search) -> None:
    """Refuse another number of trials for a round whose winner a later round started from."""
    directory, before = first, first.read_search()
    for number, part in enumerate(search.rounds):
        following = directory.next_round()
        old = before.rounds[number].n_trials
        if following is not None and part.n_trials != old:
            raise ExperimentError(
                f"--n-trials {part.n_trials}: round {number + 1} ended with "
                f"{counted(old, 'trial')}, and round {number + 2} started from its winner"
            )
        if following is None:
            return
        directory = following
