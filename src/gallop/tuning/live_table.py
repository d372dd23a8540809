"""What a person sees of a search: its cost before, the best trials and the time left during."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gallop.errors import printable
from gallop.report.display import Display, duration, plain
from gallop.tuning.artefacts import parameters, shown
from gallop.tuning.coordinator import Look
from gallop.tuning.search import Cost
from gallop.tuning.search_settings import Search, n_evaluations
from gallop.tuning.study_page import PageTable
from gallop.tuning.study_summary import many

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


N_BEST = 5


class LiveTable:
    """Prints a search for a person: a table that lives on a terminal, lines elsewhere."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self._live: Live | None = None
        self._began = time.monotonic()
        self._first: int | None = None
        self._told: set[int] | None = None

    def plan(self, search: Search, cost: Cost, n_workers: int, folder: str) -> None:
        """What the search will do and what it will cost."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        title = f"{search.algo.upper()} on {search.env}, seed {search.search_seed}"
        table.add_row("search", plain(title))
        for number, part in enumerate(search.rounds):
            experiment = search.trial_experiment(number, {}, 0)
            n = n_evaluations(experiment)
            table.add_row(
                f"round {number + 1}",
                f"{part.n_trials} trials of {search.n_seeds} × {experiment.total_timesteps:,} "
                f"timesteps, {many(n, 'evaluation')} of "
                f"{many(experiment.evaluation.n_episodes, 'episode')} each: "
                f"{escape(printable(', '.join(part.space)))}",
            )
        again = search.retraining
        if again.n_best:
            table.add_row(
                "trained again",
                f"the best {'trial' if again.n_best == 1 else f'{again.n_best} trials'} and SB3's "
                f"defaults, on {many(again.n_seeds, 'fresh seed')} each",
            )
        else:
            table.add_row("trained again", "nothing: the winner's value will flatter it")
        table.add_row(
            "pruner",
            "none" if search.pruner.name == "none" else f"{search.pruner.name} (saves some)",
        )
        hours = cost.seconds / 3600
        table.add_row(
            "cost",
            f"{cost.n_runs} trainings, {cost.timesteps:,} timesteps, about {hours:.1f} core hours, "
            f"{duration(cost.seconds / n_workers)} with {many(n_workers, 'worker')} "
            "(rough: from a server core of 2026)",
        )
        if folder:
            table.add_row("folder", plain(folder))
        self.display.console.print(table)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While a round, or the retraining, is under way."""
        self._began, self._first, self._told = time.monotonic(), None, None
        console = self.display.console
        if not console.is_terminal or console.quiet:
            yield
            return
        with Live(console=console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None

    def look(self, look: Look, title: str, n_trials: int, timesteps_a_trial: int) -> None:
        """Show a round as it stands."""
        n_done = len(look.finished) * timesteps_a_trial + sum(look.n_timesteps.values())
        left = self._left(n_done, n_trials * timesteps_a_trial)
        # One that was stopped early has a value too: its last report.
        complete = (t for t in look.finished if t.state.name == "COMPLETE")
        best = sorted(complete, key=lambda t: -(t.value or 0.0))
        if self._live is None:
            self._say_new(look.finished, n_trials, left)
            return
        table = Table(title=plain(title, "bold"), title_justify="left", box=None, padding=(0, 1))
        for heading in ("trial", "return", "state"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("parameters", overflow="ellipsis", no_wrap=True)
        for trial in best[:N_BEST]:
            # SB3's defaults, or the winner of the round before.
            note = str(trial.user_attrs.get("first_trial", "finished")).partition(",")[0]
            table.add_row(
                str(trial.number),
                f"{trial.value:,.0f}",
                plain(note),
                plain(parameters(trial.params)),
            )
        for number, opened in sorted(look.open.items())[: 2 * N_BEST]:
            share = 100 * look.n_timesteps[number] // timesteps_a_trial
            table.add_row(
                str(number), "", f"training {share:2} %", plain(parameters(opened.values)),
                style="dim",
            )  # fmt: skip
        n_pruned = sum(t.state.name == "PRUNED" for t in look.finished)
        n_failed = sum(t.state.name == "FAIL" for t in look.finished)
        line = Text(
            f"{len(look.finished)} of {n_trials} trials, {n_pruned} stopped early, "
            f"{n_failed} failed{left}"
        )
        self._live.update(Group(table, _bar(n_done, n_trials * timesteps_a_trial), line))

    def again(self, n_done: int, total: int) -> None:
        """Show the retraining as it stands."""
        line = Text(f"training again on fresh seeds: {n_done:,} of {total:,} timesteps")
        line.append(self._left(n_done, total))
        if self._live is not None:
            self._live.update(Group(_bar(n_done, total), line))

    def tables(self, tables: Sequence[PageTable]) -> None:
        """The closing tables."""
        for page in tables:
            table = Table(
                title=plain(page.title, "bold"), title_justify="left", box=None, padding=(0, 1)
            )
            for number, heading in enumerate(page.headings):
                table.add_column(plain(heading), justify="right" if number else "left")
            for row in page.rows:
                table.add_row(*map(plain, row))
            self.display.console.print(table)
            if page.note:
                self.display.say(page.note)

    def best(self, trial: FrozenTrial) -> None:
        """A round's winner, in a line."""
        value = f"{trial.value:,.1f}" if trial.value is not None else ""
        self.display.say(f"best: trial {trial.number}, return {value}: {parameters(trial.params)}")

    def _say_new(self, finished: Sequence[FrozenTrial], n_trials: int, left: str) -> None:
        if self._told is None:  # what earlier calls have told of
            self._told = {trial.number for trial in finished}
        for trial in sorted(finished, key=lambda t: t.number):
            if trial.number in self._told:
                continue
            self._told.add(trial.number)
            value = "" if trial.value is None else f"return {shown(trial.value)}"
            reason = trial.user_attrs.get("reason", "")
            state = trial.state.name.lower()
            self.display.say(
                f"trial {trial.number:>3} {state:<8} {value or reason}  "
                f"{parameters(trial.params)}  ({len(finished)} of {n_trials}{left})"
            )

    def _left(self, n_done: int, total: int) -> str:
        """Time left, from how fast it went since this call began."""
        if self._first is None:
            self._first, self._began = n_done, time.monotonic()
        gone, seconds = n_done - self._first, time.monotonic() - self._began
        if gone <= 0 or seconds < 2:
            return ""
        return f", {duration(seconds * (total - n_done) / gone)} left"


def _bar(n_done: int, total: int) -> Table:
    """A bar on a line of its own."""
    line = Table.grid(expand=True)
    line.add_row(ProgressBar(total=total, completed=n_done))
    return line
