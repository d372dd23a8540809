"""The loop of a search: round after round, then the retraining of the best trials."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator, Sequence

import optuna
from optuna.trial import FrozenTrial

from gallop.errors import RunError
from gallop.execution.work import Engine, Place
from gallop.experiments import search_results
from gallop.report.display import Display
from gallop.run_folder.provenance import now
from gallop.runs.stopping import Stop, Stopped
from gallop.tuning import artefacts, names, space, study
from gallop.tuning.coordinator import Coordinator, Look
from gallop.tuning.lease import held
from gallop.tuning.live_table import LiveTable
from gallop.tuning.parameter import Space
from gallop.tuning.retraining import DEFAULTS, Again, Candidate, train_again
from gallop.tuning.search import spaces
from gallop.tuning.search_directory import RoundDirectory, RoundRecord
from gallop.tuning.search_settings import Search

OWN_DATABASE = "study.db"  # in a round's own folder


class SearchLoop:
    """A running search."""

    def __init__(
        self,
        first: RoundDirectory,
        search: Search,
        place: Place,
        n_workers: int,
        storage: str,
        display: Display,
        retry_failed: bool = False,
    ) -> None:
        """Prepare to run a search.

        Args:
            first: folder of the first round.
            search: the search.
            place: where the trainings run.
            n_workers: how many run in parallel.
            storage: URL of Optuna's storage; empty: as recorded in the folder.
            display: where to print.
            retry_failed: retry the failed trials of the last round.
        """
        self.retry_failed = retry_failed
        self.first, self.search = first, search
        self.place, self.n_workers = place, n_workers
        self.storage, self.display = storage, display
        self.table = LiveTable(display)
        self.stop = Stop()
        self.algo = search.algo

    def run(self) -> RoundDirectory:
        """Run the search from its current state to its end; return the last round's folder."""
        with self.first.locked(), self.stop.listening(self.display.say):
            n_threads = self.search.trial_experiment(0, {}, 0).n_threads
            engine = self.place.engine(self.n_workers, n_threads, self.first.path.parent)
            try:
                storage = self.storage or self.first.read_record().storage
                with self.first.explaining_full_disk(), study.explaining_storage(storage):
                    return self._rounds(engine)
            except Stopped as stopped:
                engine.close()
                self.display.say(
                    f"stopped by {stopped}: every trial is kept, running ones up to their last "
                    f"boundary\nto resume: gallop tune --resume {self.first.path}"
                )
                raise
            finally:
                engine.close()

    def _rounds(self, engine: Engine) -> RoundDirectory:
        directory = self.first
        while True:
            record = directory.read_record()
            opened = self._open(directory, record)
            with held(opened, settle=record.storage != OWN_DATABASE) as self.lease:
                following = self._one_round(directory, record, opened, engine)
            if following is None:
                return directory
            directory = following

    def _one_round(
        self,
        directory: RoundDirectory,
        record: RoundRecord,
        opened: optuna.Study,
        engine: Engine,
    ) -> RoundDirectory | None:
        """Run a round to its end, and start the next one, if any."""
        last = record.number == len(self.search.rounds) - 1
        with _clocked(opened):
            self._round(directory, record, opened, engine)
        winner = artefacts.chosen(opened, [])
        if winner is None:
            artefacts.write_results(directory, self.search, record, opened, [], finished=True)
            raise RunError(self._nothing(opened))
        again: list[Again] = []
        if last and self.search.retraining.n_best:
            artefacts.write_results(directory, self.search, record, opened, [], finished=False)
            with _clocked(opened):
                again = self._train_again(directory, record, opened, engine)
        artefacts.write_results(directory, self.search, record, opened, again, finished=last)
        with self.display.console.status("drawing figures and the page"):
            artefacts.draw(directory, self.search, record, opened, again)
        self._close(directory, record, opened, again)
        return None if last else self._next(directory, record, winner)

    def _open(self, directory: RoundDirectory, record: RoundRecord) -> optuna.Study:
        url = self.storage or record.storage
        if url == OWN_DATABASE:
            url = f"sqlite:///{directory.database.resolve()}"
        ranges = spaces(self.search, record.number, record.winner)
        identity = study.identity(self.search, record.number, ranges)
        opened = study.open_study(url, record.study_name, identity)
        note = study.check_optuna_version(opened, record.reproducible)
        if note:
            self.display.say(note)
            study.add_optuna_version(opened)
        return opened

    def _round(
        self,
        directory: RoundDirectory,
        record: RoundRecord,
        opened: optuna.Study,
        engine: Engine,
    ) -> None:
        number = record.number
        ranges = spaces(self.search, number, record.winner)
        first = self._first_trial(ranges, record)
        asker = study.Asker(opened, self.search, number, ranges, first)
        retry = self.retry_failed and directory.next_round() is None
        coordinator = Coordinator(
            directory, self.search, number, opened, asker, record.winner or {}, engine,
            record.reproducible, retry,
        )  # fmt: skip
        timesteps = self.search.trial_experiment(number, {}, 0).total_timesteps
        a_trial = timesteps * self.search.n_seeds
        title = f"{self.algo.upper()} on {self.search.env}, round {number + 1}"
        n_trials = self.search.rounds[number].n_trials

        def show(look: Look) -> None:
            self.lease.check()
            again = sum(study.RETRY_OF in t.user_attrs for t in opened.get_trials(deepcopy=False))
            self.table.look(look, title, n_trials + again, a_trial)

        with self.table.shown():
            coordinator.run(self.stop, show)
        engine.close()  # trials that were stopped early must release their folders
        directory.forget_states()

    def _first_trial(self, ranges: Space, record: RoundRecord) -> study.First | None:
        if record.number:
            winner = record.winner or {}
            values = {name: winner[name] for name in ranges if name in winner}
            return study.First(values, f"winner of round {record.number}")
        if self.search.first_trial == "sampled":
            return None
        values, moved = space.defaults(self.algo, ranges, self.search.defaults)
        note = f", moved into the space: {'; '.join(moved)}" if moved else ""
        return study.First(values, f"SB3's defaults{note}")

    def _next(
        self, directory: RoundDirectory, record: RoundRecord, winner: FrozenTrial
    ) -> RoundDirectory:
        """Return the next round, creating it if necessary."""
        found = directory.next_round()
        if found is not None:
            return found
        number = record.number + 1
        name = datetime.datetime.now().strftime("%Y%m%d_%H%M%S")
        if not self.first.path.name[:8].isdigit() or (directory.path.parent / name).exists():
            name = f"{self.first.path.name}_round{number + 1}"
        following = RoundDirectory(directory.path.parent / name)
        base = self.first.read_record().study_name
        own = base.endswith(f"/{self.first.path.name}")
        following.create(
            self.search,
            RoundRecord(
                number=number,
                parent=directory.path.name,
                storage=record.storage,
                study_name=f"{base.rpartition('/')[0]}/{name}"
                if own
                else f"{base}-round{number + 1}",
                start=now(),
                reproducible=record.reproducible,
                winner=names.merged(record.winner or {}, winner.params),
            ),
        )
        return following

    # --- retraining ---

    def _train_again(
        self,
        directory: RoundDirectory,
        record: RoundRecord,
        opened: optuna.Study,
        engine: Engine,
    ) -> list[Again]:
        candidates: list[Candidate] = []
        for trial in sorted(
            artefacts.complete(opened), key=lambda t: (-(t.value or 0.0), t.number)
        ):
            settings = trial.user_attrs["hyperparameters"]
            if settings not in [candidate.settings for candidate in candidates]:
                name = f"trial-{trial.number:03d}"
                candidates.append(Candidate(name, trial.number, settings, trial.value))
        candidates = candidates[: self.search.retraining.n_best]
        defaults = self._defaults()
        for same in [c for c in candidates if c.settings == defaults.settings]:  # trained once
            candidates.remove(same)
            defaults = same._replace(name=DEFAULTS)
        candidates.append(defaults)

        def show(n_done: int, total: int) -> None:
            self.lease.check()
            self.table.again(n_done, total)

        with self.table.shown():
            return train_again(directory, self.search, candidates, engine, self.stop, show)

    def _defaults(self) -> Candidate:
        """Return SB3's defaults, moved into the first round's space, with their value there."""
        ranges = spaces(self.search, 0, None)
        values, _ = space.defaults(self.algo, ranges, self.search.defaults)
        settings = names.hyperparameters(self.algo, values)
        results = search_results.read(self.first.path) if self.first.results_file.exists() else None
        value = None
        for trial in results.trials if results else ():
            if trial["hyperparameters"] == settings and trial["state"] == "COMPLETE":
                value = float(trial["value"])
                break
        return Candidate(DEFAULTS, None, settings, value)

    # --- at the end ---

    def _nothing(self, opened: optuna.Study) -> str:
        reasons = [t.user_attrs.get("reason", "") for t in opened.get_trials(deepcopy=False)]
        said = next((reason for reason in reasons if reason), "no reason was given")
        return (
            f"no trial of {self.first.path} finished; reason of the first failure: {said}; "
            f"{self._retry()}"
        )

    def _retry(self) -> str:
        return f"to retry failed trials: gallop tune --resume {self.first.path} --retry-failed"

    def _close(
        self,
        directory: RoundDirectory,
        record: RoundRecord,
        opened: optuna.Study,
        again: Sequence[Again],
    ) -> None:
        say = self.display.say
        winner = artefacts.chosen(opened, again)
        assert winner is not None
        say(f"round {record.number + 1} of {len(self.search.rounds)}: {directory.path}")
        self.table.best(winner)
        told = dict(artefacts.facts(directory, self.search, record, opened))
        say(f"{told['trials']}; {told['time']}")
        failed = study.failed(opened)
        for trial in failed:
            say(f"trial {trial.number} failed: {trial.user_attrs.get('reason', '')}")
        if failed:
            say(self._retry())
        if self.search.pruner.name != "none":
            say(f"pruner: {told['pruner']}")
        self.table.tables(artefacts.again_tables(again))
        if record.number == len(self.search.rounds) - 1:
            say(f"page    {directory.page}")
            say(f"to train with the best: gallop run CONFIG --best_params {directory.path}")


@contextlib.contextmanager
def _clocked(opened: optuna.Study) -> Iterator[None]:
    """Add the wall-clock and processor time of a block to the study's totals."""
    began, cores = time.monotonic(), _core_seconds()
    try:
        yield
    finally:
        attributes = opened.user_attrs
        for name, passed in (
            (artefacts.SECONDS, time.monotonic() - began),
            (artefacts.CORE_SECONDS, _core_seconds() - cores),
        ):
            opened.set_user_attr(name, round(attributes.get(name, 0.0) + passed, 1))


def _core_seconds() -> float:
    """Return the processor time of ended child processes; 0 on Windows."""
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
