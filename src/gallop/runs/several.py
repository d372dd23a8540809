"""Several runs that train side by side: one queue, and how each of them ended.

Each run's folder is the only record of its progress. What was killed, or is started again, does
what is missing and no more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gallop.execution.work import Ended, Engine, Place, WorkItem
from gallop.report.display import Display
from gallop.report.several_progress import Naming, SeveralProgress, State, share_left
from gallop.run_folder.directory import RunDirectory
from gallop.runs.stopping import Stop

SECONDS_BETWEEN_POLLS = 0.1
COMMAND = ("gallop", "run", "--quiet", "--resume")


class Workers:
    """What trains several runs. It is made before anything is written, because it may be refused.

    Attributes:
        place: where the runs train.
        n: at most so many train at a time.
        engine: trains them.
    """

    def __init__(
        self, place: Place, asked: int | None, n_threads: int | None, folder: Path
    ) -> None:
        """
        Args:
            place: where the runs train.
            asked: the number of workers that was requested, if any.
            n_threads: threads of each run, if its experiment sets them.
            folder: that of the runs; it need not exist yet.

        Raises:
            ExperimentError: if the place cannot be used.
        """
        self.place, self.n = place, place.n_workers(asked, n_threads)
        store = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
        self.engine = place.engine(self.n, n_threads, store)


class SeveralRuns:
    """Runs that train until each has ended.

    Attributes:
        states: name of each run -> its state.
        failures: name of each failed run -> the reason.
    """

    def __init__(
        self,
        runs: Mapping[str, RunDirectory],
        horizons: Mapping[str, int],
        naming: Naming,
        display: Display,
    ) -> None:
        """
        Args:
            runs: by name, in the order in which they start. Their folders exist.
            horizons: last timestep of each run.
            naming: what the runs are called.
            display: where to print.
        """
        self._runs, self._horizons, self._naming = runs, horizons, naming
        self._display = display
        self.states: dict[str, State] = {
            name: "finished" if run.is_finished() else "waiting" for name, run in runs.items()
        }
        self.failures: dict[str, str] = {}

    def leave_out(self, name: str, reason: str) -> None:
        """Do not train a run, because it would fail."""
        self.states[name], self.failures[name] = "failed", reason

    def leave_out_diverged(self) -> None:
        """Do not retry runs that would only repeat their divergence, bit for bit."""
        for name, run in self._runs.items():
            told = run.read_diverged() if self.states[name] == "waiting" else None
            if told is not None and told.would_again:
                self.leave_out(name, told.message)

    def left(self) -> list[float]:
        """Return the share of its timesteps that each unfinished run has yet to train."""
        return [
            share_left(self._runs[name], self._horizons[name])
            for name, state in self.states.items()
            if state == "waiting"
        ]

    def have_ended(self, names: Iterable[str]) -> bool:
        """Whether none of these runs is waiting or running."""
        return not {"waiting", "running"} & {self.states[name] for name in names}

    def train(self, engine: Engine, stop: Stop, on_end: Callable[[str], None]) -> None:
        """Train what is missing; close the engine at the end.

        Args:
            engine: trains the runs.
            stop: whether a signal has arrived.
            on_end: called with the name of each run that has ended.

        Raises:
            Stopped: after a signal.
        """
        queue = deque(name for name, state in self.states.items() if state == "waiting")
        progress = SeveralProgress(
            self._display, self._runs, self.states, self._horizons, self._naming
        )
        try:
            with progress:
                while not self.have_ended(self.states):
                    stop.check()
                    while queue and engine.is_hungry:
                        name = queue.popleft()
                        engine.submit(WorkItem(self._runs[name].path, COMMAND))
                        self.states[name] = "running"
                    for ended in engine.poll():
                        on_end(self._note(ended))
                    progress.show()
                    time.sleep(SECONDS_BETWEEN_POLLS)
        finally:
            engine.close()

    def _note(self, ended: Ended) -> str:
        folder = ended.item.folder
        name = next(name for name, run in self._runs.items() if run.path == folder)
        self.states[name] = "failed" if ended.exit_code else "finished"
        if ended.exit_code:
            self.failures[name] = ended.reason
        return name
