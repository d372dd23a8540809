"""The coordinator of one round: it samples trials, has them trained, and reports their values.

Only the coordinator accesses the storage. Trainings are work items in folders, and their values
are read from those folders. If it is killed and restarted, it resumes where it was: started trials
have the state RUNNING in the storage, and their progress is in their folders.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gallop.errors import ExperimentError, counted
from gallop.evaluation.statistics import interquartile_mean
from gallop.execution.work import Engine, WorkItem
from gallop.experiments import seeding
from gallop.experiments.settings import Experiment
from gallop.policies.policy import Array
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.runs.stopping import Stop
from gallop.tuning.names import hyperparameters, merged
from gallop.tuning.optuna_adapter import is_stopped_again, reported
from gallop.tuning.parameter import Value
from gallop.tuning.search_directory import RoundDirectory
from gallop.tuning.search_settings import Search, n_evaluations
from gallop.tuning.study import Asker, failed
from gallop.tuning.trial import COMMAND, make_folder

if TYPE_CHECKING:
    import optuna


SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_SHOWS = 0.5


class Verdict(NamedTuple):
    """How a trial ended."""

    state: str
    """COMPLETE, PRUNED or FAIL, as Optuna names them."""
    value: float | None
    reason: str
    scores: tuple[float, ...]
    """The score of each seed that finished."""


class Open(NamedTuple):
    """A trial that has started and not ended."""

    trial: optuna.Trial
    values: dict[str, Value]
    folders: list[RunDirectory]
    """One per seed; empty if the values are inconsistent."""
    reason: str
    """Why the values are inconsistent; otherwise empty."""


class Look(NamedTuple):
    """The state of a round, for display."""

    finished: list[optuna.trial.FrozenTrial]
    open: dict[int, Open]
    n_timesteps: dict[int, int]
    """Timesteps trained so far, per open trial."""


class Coordinator:
    """Runs one round to its end."""

    def __init__(
        self,
        directory: RoundDirectory,
        search: Search,
        round_number: int,
        study: optuna.Study,
        asker: Asker,
        fixed: dict[str, Value],
        engine: Engine,
        reproducible: bool,
        retry_failed: bool = False,
    ) -> None:
        """Prepare a round.

        Args:
            directory: the round's folder.
            search: the search.
            round_number: counted from 0.
            study: the round's study.
            asker: samples the trials.
            fixed: values of the last round's winner, which a trial's own values override.
            engine: trains the work items.
            reproducible: sample in batches and report in order, so that timing has no effect.
            retry_failed: start by retrying every failed trial.
        """
        self._directory, self._search, self._round = directory, search, round_number
        self._study, self._asker, self._fixed = study, asker, fixed
        self._engine, self._reproducible = engine, reproducible
        self._retry_failed = retry_failed
        self._open: dict[int, Open] = {}
        self._failures: dict[Path, str] = {}
        self._judges: dict[int, _Judge] = {}
        self._n_trials, self._n_asked = search.rounds[round_number].n_trials, 0
        self._timesteps = search.trial_experiment(round_number, {}, 0).total_timesteps
        self._seeds = seeding.tuning_seeds(search.search_seed, round_number, search.n_seeds)

    def run(self, stop: Stop, show: Callable[[Look], None]) -> None:
        """Run until every trial of the round has ended.

        Args:
            stop: whether a signal has arrived.
            show: called with the state of the round, twice a second at most.

        Raises:
            Stopped: after a signal; another call resumes the round.
        """
        for trial, values in self._asker.running():
            self._begin(trial, values)
        if self._retry_failed:
            for frozen in failed(self._study):
                self._begin(*self._asker.ask_again(frozen))
        self._n_asked = self._asker.n_asked()
        looked = 0.0
        while True:
            stop.check()
            self._ask()  # before anything is reported: after a kill, the rest of a batch
            for ended in self._engine.poll():
                if ended.exit_code != 0:
                    self._failures[ended.item.folder] = ended.reason
            self._judge()
            if time.monotonic() - looked > SECONDS_BETWEEN_SHOWS or not self._open:
                looked = time.monotonic()
                show(self._look())
            if not self._open and self._n_asked >= self._n_trials:
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)

    # --- asking ---

    def _ask(self) -> None:
        """Sample as many trials as there is room for, or whole batches if reproducible."""
        while self._n_asked < self._n_trials and self._may_ask(self._n_asked):
            self._begin(*self._asker.ask())
            self._n_asked += 1

    def _may_ask(self, number: int) -> bool:
        """Return whether the trial may be sampled: a batch waits for all trials before it."""
        if not self._reproducible:
            return self._engine.is_hungry
        first = number // self._search.batch * self._search.batch
        return not any(before < first for before in self._open)

    def _begin(self, trial: optuna.Trial, values: dict[str, Value]) -> None:
        """Create the folders of a trial's seeds and submit them."""
        folders: list[RunDirectory] = []
        reason = ""
        try:
            for index in range(len(self._seeds)):
                experiment = self._experiment(values, index)
                seeds = seeding.search_episodes(experiment.evaluation.n_episodes)
                path = self._directory.training(trial.number, index).path
                folders.append(make_folder(path, experiment, seeds))
        except ExperimentError as error:
            folders, reason = [], str(error)
        self._open[trial.number] = Open(trial, values, folders, reason)
        self._judges[trial.number] = _Judge(self._search, self._round, trial, folders)
        for folder in folders:
            if not folder.is_finished():
                self._engine.submit(WorkItem(folder.path, COMMAND))

    def settings(self, values: dict[str, Value]) -> dict[str, object]:
        """Return a trial's nested hyper-parameters: the last winner's, overridden by its own."""
        return hyperparameters(self._search.algo, merged(self._fixed, values))

    def _experiment(self, values: dict[str, Value], index: int) -> Experiment:
        return self._search.trial_experiment(self._round, self.settings(values), self._seeds[index])

    # --- judging and telling ---

    def _judge(self) -> None:
        for number in sorted(self._open):
            verdict = self._verdict(number)
            if verdict is not None:
                self._tell(number, verdict)
            elif self._reproducible:
                return  # later trials are reported after it, even if they have ended

    def _verdict(self, number: int) -> Verdict | None:
        opened = self._open[number]
        if opened.reason:
            return Verdict("FAIL", None, opened.reason, ())
        return self._judges[number].verdict(self._failures)

    def _tell(self, number: int, verdict: Verdict) -> None:
        import optuna

        opened = self._open.pop(number)
        for folder in opened.folders:
            self._engine.cancel(folder.path)
        timesteps = sum(timestep_of(folder, self._timesteps) for folder in opened.folders)
        trial = opened.trial
        for name, value in (
            ("hyperparameters", self.settings(opened.values)),
            ("scores", list(verdict.scores)),
            ("training_seeds", self._seeds),
            ("n_timesteps", timesteps),
            ("reason", verdict.reason),
        ):
            trial.set_user_attr(name, value)
        state = optuna.trial.TrialState[verdict.state]
        values = verdict.value if verdict.state == "COMPLETE" else None
        self._study.tell(number, values, state=state)

    def _look(self) -> Look:
        finished = [t for t in self._study.get_trials(deepcopy=False) if t.state.is_finished()]
        trained = {
            number: sum(timestep_of(folder, self._timesteps) for folder in opened.folders)
            for number, opened in self._open.items()
        }
        return Look(finished, dict(self._open), trained)


class _Judge:
    """Reads one trial's folders, reports to the pruner, and decides when the trial has ended.

    It reports seed by seed, evaluation by evaluation, an order that does not depend on timing.
    """

    def __init__(
        self, search: Search, round_number: int, trial: optuna.Trial, folders: list[RunDirectory]
    ) -> None:
        self._search, self._trial, self._folders = search, trial, folders
        self._by_seed = search.pruner.name == "wilcoxon"
        self._reported = reported(trial)
        experiment = search.trial_experiment(round_number, {}, 0)
        self._n_evaluations = n_evaluations(experiment)
        self._n_looked_at = 0  # evaluations of the current seed
        self._scores: list[float] = []

    def verdict(self, failures: dict[Path, str]) -> Verdict | None:
        """Return how the trial ended; None while it is running."""
        while len(self._scores) < len(self._folders):
            folder = self._folders[len(self._scores)]
            verdict = self._look_at_evaluations(folder)
            if verdict is not None:
                return verdict
            if self._n_looked_at < self._n_evaluations or not folder.is_finished():
                reason = failures.get(folder.path)
                return None if reason is None else self._ended("FAIL", None, reason)
            means = self._means(folder)
            self._scores.append(float(means[-self._search.objective.n_last :].mean()))
            self._n_looked_at = 0
            last = len(self._scores) == len(self._folders)
            if self._by_seed and self._is_stopped(len(self._scores) - 1, self._scores[-1], last):
                return self._ended(
                    "PRUNED", None, f"stopped after {counted(len(self._scores), 'seed')}"
                )
        return self._ended("COMPLETE", float(interquartile_mean(self._scores)), "")

    def _look_at_evaluations(self, folder: RunDirectory) -> Verdict | None:
        means = self._means(folder)
        while self._n_looked_at < len(means):
            self._n_looked_at += 1
            value = float(means[self._n_looked_at - 1])
            if not np.isfinite(value):
                return self._ended("FAIL", None, f"the return of an evaluation is {value}")
            if self._by_seed:
                continue
            step = len(self._scores) * self._n_evaluations + self._n_looked_at
            last = step == len(self._folders) * self._n_evaluations
            if self._is_stopped(step, value, last):
                seed = f" of seed {len(self._scores) + 1}" if len(self._folders) > 1 else ""
                reason = f"stopped at evaluation {self._n_looked_at}{seed}"
                return self._ended("PRUNED", None, reason)
        return None

    def _is_stopped(self, step: int, value: float, last: bool) -> bool:
        """Report a value, and ask the pruner, except at the end, when nothing is left to save."""
        if step not in self._reported:
            self._trial.report(value, step)
            self._reported[step] = value
            return not last and self._trial.should_prune()
        # It was reported before a kill. If later values were reported, it was not stopped here.
        later = max(self._reported) > step
        return not last and not later and is_stopped_again(self._trial, value)

    def _means(self, folder: RunDirectory) -> Array:
        evaluations = folder.numbers.read_evaluations()
        return np.zeros(0) if evaluations is None else evaluations.results.mean(axis=1)

    def _ended(self, state: str, value: float | None, reason: str) -> Verdict:
        return Verdict(state, value, reason, tuple(self._scores))


def timestep_of(folder: RunDirectory, last: int) -> int:
    """Return the timestep of a training's last boundary, or `last` if it is finished."""
    return last if folder.is_finished() else resume_state.last_timestep(folder.state)
