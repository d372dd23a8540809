"""One round under way: the coordinator asks for trials, has them trained, judges and tells.

It alone touches the storage. Trainings are work items in folders; what they are worth is read from
those folders. Killed at any instant and started again it goes on where it was: trials that were
begun are the storage's RUNNING ones, and how far each is stands in its folders.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gallop.errors import ExperimentError
from gallop.evaluation.statistics import interquartile_mean
from gallop.execution.work import Engine, WorkItem
from gallop.experiments import seeding
from gallop.experiments.settings import Experiment
from gallop.policies.policy import Array
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.runs.stopping import Stop
from gallop.tuning.names import beside, hyperparameters
from gallop.tuning.optuna_adapter import is_stopped_again, reported
from gallop.tuning.parameter import Value
from gallop.tuning.search_directory import RoundDirectory
from gallop.tuning.search_settings import Search, n_evaluations
from gallop.tuning.study import Asker, failed
from gallop.tuning.trial import command, make_folder

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
    """Of each seed that came to its end."""


class Open(NamedTuple):
    """A trial that was asked for and not told of."""

    trial: optuna.Trial
    values: dict[str, Value]
    folders: list[RunDirectory]
    """One for each seed; empty where the values do not go together."""
    reason: str
    """Why they do not."""


class Look(NamedTuple):
    """What there is to show."""

    finished: list[optuna.trial.FrozenTrial]
    open: dict[int, Open]
    n_timesteps: dict[int, int]
    """Trained so far in each that is open."""


class Coordinator:
    """Brings one round to its end."""

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
        """
        Args:
            retry_failed: begin with the values of every trial that has failed.
            fixed: values of the last round's winner, under the trial's own.
            reproducible: ask in batches and tell in order, so that no timing decides anything.
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
        """Until every trial of the round is told of.

        Raises:
            Stopped: after a signal; calling again goes on.
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
            self._ask()  # before anything is told: after a kill, the rest of a batch
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
        """As many trials as there is room for; in batches where nothing may hang on timing."""
        while self._n_asked < self._n_trials and self._may_ask(self._n_asked):
            self._begin(*self._asker.ask())
            self._n_asked += 1

    def _may_ask(self, number: int) -> bool:
        """A batch is asked for at once, when every trial before it has been told of."""
        if not self._reproducible:
            return self._engine.is_hungry
        first = number // self._search.batch * self._search.batch
        return not any(before < first for before in self._open)

    def _begin(self, trial: optuna.Trial, values: dict[str, Value]) -> None:
        """Make the folders of a trial's seeds and have them trained."""
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
                self._engine.submit(WorkItem(folder.path, command(folder)))

    def settings(self, values: dict[str, Value]) -> dict[str, object]:
        """A trial's hyper-parameters, nested: the last winner's, then its own."""
        return hyperparameters(self._search.algo, beside(self._fixed, values))

    def _experiment(self, values: dict[str, Value], index: int) -> Experiment:
        return self._search.trial_experiment(self._round, self.settings(values), self._seeds[index])

    # --- judging and telling ---

    def _judge(self) -> None:
        for number in sorted(self._open):
            verdict = self._verdict(number)
            if verdict is not None:
                self._tell(number, verdict)
            elif self._reproducible:
                return  # those after it are told after it, whatever they have come to

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
    """Reads one trial's folders, reports to the pruner, and says when it has ended.

    Reports go seed by seed, evaluation by evaluation: an order that no timing changes.
    """

    def __init__(
        self, search: Search, round_number: int, trial: optuna.Trial, folders: list[RunDirectory]
    ) -> None:
        self._search, self._trial, self._folders = search, trial, folders
        self._by_seed = search.pruner.name == "wilcoxon"
        self._reported = reported(trial)
        experiment = search.trial_experiment(round_number, {}, 0)
        self._n_evaluations = n_evaluations(experiment)
        self._n_looked_at = 0  # evaluations of the seed that is looked at
        self._scores: list[float] = []

    def verdict(self, failures: dict[Path, str]) -> Verdict | None:
        """How the trial ended; None while it goes on."""
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
                return self._ended("PRUNED", None, f"stopped after {len(self._scores)} seeds")
        return self._ended("COMPLETE", float(interquartile_mean(self._scores)), "")

    def _look_at_evaluations(self, folder: RunDirectory) -> Verdict | None:
        means = self._means(folder)
        while self._n_looked_at < len(means):
            self._n_looked_at += 1
            value = float(means[self._n_looked_at - 1])
            if not np.isfinite(value):
                return self._ended("FAIL", None, f"an evaluation's return is {value}")
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
        """Report, and ask the pruner; at the end there is nothing to save any more."""
        if step not in self._reported:
            self._trial.report(value, step)
            self._reported[step] = value
            return not last and self._trial.should_prune()
        # It was reported before a kill. What went on after it, goes on.
        later = max(self._reported) > step
        return not last and not later and is_stopped_again(self._trial, value)

    def _means(self, folder: RunDirectory) -> Array:
        evaluations = folder.numbers.read_evaluations()
        return np.zeros(0) if evaluations is None else evaluations.results.mean(axis=1)

    def _ended(self, state: str, value: float | None, reason: str) -> Verdict:
        return Verdict(state, value, reason, tuple(self._scores))


def timestep_of(folder: RunDirectory, last: int) -> int:
    """Where a training stands: at its last boundary, or its end, `last`."""
    return last if folder.is_finished() else resume_state.last_timestep(folder.state)
