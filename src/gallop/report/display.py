"""What a person sees: the plan before, a progress bar during, a table after."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gallop.errors import printable, printable_lines
from gallop.evaluation.statistics import Comparison, SeedSummary, Slope, Summary
from gallop.experiments.presets import Preset
from gallop.plain_output import keep_printable
from gallop.report.figures import short
from gallop.run_folder.listing import Listed
from gallop.run_folder.numbers import Cut
from gallop.run_folder.prepared import PreparedRun


def plain(text: object, style: str = "") -> Text:
    """One line for a table or a bar that may hold a name from a file or a folder: what a terminal
    or Rich would obey in it is spelled out."""
    return Text(printable(str(text)), style)


class Printable(logging.Formatter):
    """Log lines that no terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class Row(NamedTuple):
    """One policy in a table of returns."""

    policy: str
    timestep: int | None
    """None where it is not known, as for a stranger's policy."""
    summary: Summary


class Pair(NamedTuple):
    """Two policies in a table of comparisons."""

    label: str
    comparison: Comparison


class Display:
    """Prints for a person; says nothing but errors when quiet."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        keep_printable()  # for those who come by Python
        self.console = Console(quiet=quiet, highlight=False)
        # Warnings of ours belong on the screen; the rest is in run.log.
        handler = RichHandler(console=self.console, show_path=False, show_time=False)
        handler.setFormatter(Printable("%(message)s"))
        handler.setLevel(logging.INFO if verbose else logging.WARNING)
        logger = logging.getLogger("gallop")
        logger.handlers = [h for h in logger.handlers if not isinstance(h, RichHandler)]
        logger.addHandler(handler)
        self._bar: Progress | None = None
        self._total = 0
        self._started = self._learning_since = time.monotonic()
        self._first = self._now = self._segment_start = 0
        self._last_return: float | None = None

    @property
    def timestep(self) -> int:
        """The latest timestep shown."""
        return self._now

    def say(self, text: str) -> None:
        """One line, or a few; escape sequences and markup in it are shown as they are."""
        self.console.print(Text(printable_lines(text)), soft_wrap=True)

    @contextlib.contextmanager
    def episodes(self, policy: str, n: int, limit: int) -> Iterator[Callable[[], None]]:
        """A bar over the timesteps of n episodes that step together, at most `limit` of them."""
        if not self.console.is_terminal:
            self.say(f"{policy}: {n} episodes")
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("timesteps"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bar:
            task = bar.add_task(printable(f"{policy}: {n} episodes"), total=limit)
            yield lambda: bar.advance(task)

    # --- before ---

    def plan(self, prepared: PreparedRun, folder: Path | None) -> None:
        """What the run will do and what it will cost."""
        experiment, plan, choice = prepared.experiment, prepared.plan, prepared.choice
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        marks = [b for b in plan.boundaries if b.milestone is not None]
        rounded = [b for b in plan.boundaries if b.timestep != b.nominal]
        given = experiment.evaluation.max_episode_timesteps
        utd = f"UTD ratio {plan.utd_ratio:g}"
        rows = {
            "experiment": f"{experiment.algorithm.title} on {experiment.env}, "
            f"training seed {experiment.training_seed}",
            "timesteps": f"{plan.horizon:,} over {experiment.n_envs} "
            f"environment{'s' if experiment.n_envs > 1 else ''}",
            "segments": f"{len(plan.boundaries)} of {experiment.segment:,} timesteps; "
            "each ends in a resumable state",
            "evaluations": f"{sum(b.evaluates for b in plan.boundaries)}, every "
            f"{experiment.evaluation.interval:,} timesteps, "
            f"{experiment.evaluation.n_episodes} episodes"
            + (f", cut after {given:,} timesteps" if given else ""),
            "milestones": ", ".join(f"{b.milestone} % at {b.timestep:,}" for b in marks),
            "gradient steps": f"{plan.n_gradient_steps:,} ({utd})",
            "learner": f"{choice.name} ({choice.reason}), "
            f"{choice.instruction_set or experiment.device}, "
            f"{choice.n_threads} thread{'s' if choice.n_threads > 1 else ''}",
            "disk": f"up to {plan.disk_bytes / 1e6:,.0f} MB",
            "expected time": f"about {duration(plan.expected_seconds)} (rough: from a server core "
            "of 2026, films and evaluations not counted)",
        }
        if rounded:
            rows["rounded up"] = (
                f"{len(rounded)} boundaries, to whole PPO rollouts of "
                f"{experiment.hyperparameters.quantum(experiment.n_envs):,} timesteps"
            )
        if prepared.time_limit is None:
            rows["time limit"] = (
                "none that the task tells of: training may never see an episode end, and "
                f"evaluations cut theirs after {prepared.cut_after:,} timesteps"
                f"{', the evaluation.max_episode_timesteps given' if given else ''}; "
                "--env-kwargs '{max_episode_steps: 1000}' sets one"
            )
        if prepared.reward_wrappers.note:
            rows["returns"] = prepared.reward_wrappers.note
        if folder is not None:
            rows["folder"] = str(folder)
        for name, value in rows.items():
            table.add_row(name, plain(value))
        self.console.print(table)

    # --- during ---

    @contextlib.contextmanager
    def bar(self, total: int, first: int) -> Iterator[None]:
        """A progress bar over the whole budget, from timestep `first` on."""
        self._total, self._first, self._now = total, first, first
        self._started = time.monotonic()
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[evaluation]}"),
            console=self.console,
            expand=True,
            refresh_per_second=4,
            disable=not self.console.is_terminal,
        )
        with bar:
            bar.add_task("training", total=total, completed=first, speed="", left="", evaluation="")
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def learning(self) -> None:
        """A segment begins: the clock of SPS starts."""
        self._learning_since, self._segment_start = time.monotonic(), self._now
        self.activity("training")

    def activity(self, text: str) -> None:
        """What is going on beside the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.tasks[0].id, description=text)

    def tick(self, timestep: int) -> None:
        """Move the bar."""
        self._now = timestep
        if self._bar is not None and self.console.is_terminal:
            self._bar.update(
                self._bar.tasks[0].id, completed=timestep, speed=self._speed(), left=self._left()
            )

    def evaluated(self, timestep: int, mean_return: float) -> None:
        """Show the latest evaluation; where there is no terminal, print a line."""
        self._last_return = mean_return
        shown = f"return {mean_return:,.1f}"
        if self._bar is None:
            return
        if self.console.is_terminal:
            self._bar.update(self._bar.tasks[0].id, evaluation=shown)
        else:
            share = 100 * timestep / self._total
            self.say(
                f"{timestep:>10,} of {self._total:,} timesteps  {share:3.0f} %  "
                f"{self._speed():>9}  {self._left()}  {shown}"
            )

    def _speed(self) -> str:
        seconds = time.monotonic() - self._learning_since
        done = self._now - self._segment_start
        return f"{done / seconds:,.0f} SPS" if done and seconds > 0.5 else ""

    def _left(self) -> str:
        done = self._now - self._first
        if not done:
            return ""
        seconds = (time.monotonic() - self._started) * (self._total - self._now) / done
        return f"{duration(seconds)} left"

    # --- after ---

    def results(self, title: str, rows: Sequence[Row], pairs: Sequence[Pair] = ()) -> None:
        """Every policy on the same seeds, with intervals, and pairs of them compared."""
        table = _table(title, "policy")
        timesteps_are_known = any(row.timestep is not None for row in rows)
        for heading in (["timestep"] if timesteps_are_known else []) + [
            *("mean", "std", "IQM", "95 % of mean")
        ]:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            s = row.summary
            known = "" if row.timestep is None else short(row.timestep)
            table.add_row(
                plain(row.policy),
                *([known] if timesteps_are_known else []),
                *(_number(value) for value in (s.mean, s.std, s.iqm)),
                " … ".join(_number(bound) for bound in s.mean_interval),
            )
        self.console.print(table)
        if pairs:
            self._compare(pairs)

    def seeds(
        self, title: str, returns: Mapping[int, tuple[float, float]], final: SeedSummary
    ) -> None:
        """Training seed -> mean return of its final and of its best policy, and what they say."""
        self.say(f"\n{title}")
        table = _table("", "training seed")
        table.title = None
        for heading in ("final", "best"):
            table.add_column(heading, justify="right", no_wrap=True)
        for seed, values in returns.items():
            table.add_row(str(seed), *(_number(value) for value in values))
        self.console.print(table)
        low, high = (_number(bound) for bound in final.iqm_interval)
        self.say(
            f"Final policies: IQM {_number(final.iqm)} [95 %: {low} … {high}], mean "
            f"{_number(final.mean)}, std {_number(final.std)}, over {final.n} "
            f"training seed{'s' if final.n > 1 else ''}.\nEach return is the mean of the episodes "
            "on the evaluation seeds."
        )

    def _compare(self, pairs: Sequence[Pair]) -> None:
        table = _table("Seed by seed", "policies")
        for heading in ("difference [95 %]", "P(better) [95 %]", "p sign flip", "p Wilcoxon"):
            table.add_column(heading, justify="right", no_wrap=True)
        for label, comparison in pairs:
            difference, probability = comparison[:2]
            low, high = (_number(bound, "+") for bound in difference.interval)
            table.add_row(
                plain(label),
                f"{_number(difference.mean, '+')} [{low}, {high}]",
                f"{probability.value:.2f} [{probability.interval.low:.2f}, "
                f"{probability.interval.high:.2f}]",
                *(f"{p:.3f}" for p in comparison[2:]),
            )
        self.console.print(table)

    def runs(self, listed: Sequence[Listed]) -> None:
        """`gallop list`."""
        table = _table("", "run")
        table.title = None
        for heading in ("algorithm", "task"):
            table.add_column(heading, overflow="fold")
        for heading in ("timesteps", "return"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("status", no_wrap=True)
        for run in listed:
            timesteps = (
                short(run.horizon)
                if run.status == "finished"
                else f"{short(run.timestep)} of {short(run.horizon)}"
            )
            table.add_row(
                plain(run.name),
                plain(run.algo.upper()),
                plain(run.env),
                timesteps if run.status != "damaged" else "",
                "" if run.mean_return is None else _number(run.mean_return),
                run.status,
            )
        self.console.print(table)
        for run in listed:
            if run.status in ("damaged", "diverged"):
                self.say(f"{run.path}: {run.reason}")

    def presets(self, presets: Sequence[Preset]) -> None:
        """`gallop presets`."""
        table = _table("", "algorithm")
        table.title = None
        table.add_column("task", no_wrap=True)
        table.add_column("source", overflow="fold")
        for preset in presets:
            table.add_row(preset.algo.upper(), plain(preset.env), plain(preset.source))
        self.console.print(table)

    def left_out(self, cut: Mapping[str, Cut], not_finite: Mapping[str, tuple[int, int]]) -> None:
        """What `results` cannot show: policy -> episodes that were cut; policy -> returns that
        are not finite, of how many."""
        for policy, (n, of, length) in cut.items():
            self.say(
                f"{policy}: {n} of {of} episodes did not end and were cut after {length:,} "
                "timesteps; their returns are what they had gathered by then"
            )
        for policy, (n, of) in not_finite.items():
            self.say(f"{policy}: {n} of {of} returns are NaN or infinite, and left out")

    def meaning(self, n: int) -> None:
        """What the intervals of `results` are about."""
        self.say(
            f"Returns of {n} deterministic episodes on the evaluation seeds. Intervals are over "
            "the starts of one\ntrained policy, not over training seeds."
        )

    def slope(self, slope: Slope | None, n_evaluations: int) -> None:
        """Whether more timesteps would help."""
        if slope is None:
            self.say(
                f"Too few evaluations ({n_evaluations}) to say whether the return still rises: "
                "three are needed in the last quarter."
            )
            return
        low, high = (_number(bound, "+") for bound in slope.interval)
        words = {
            "rising": f"still rising by {_number(slope.per_100k)}",
            "falling": f"falling by {_number(-slope.per_100k)}",
            "level": f"neither clearly rising nor falling: {_number(slope.per_100k, '+')}",
        }[slope.trend]
        self.say(
            f"Evaluation return {words} per 100k timesteps [{low}, {high}] "
            f"(last quarter, {slope.n} evaluations)."
        )


def _table(title: str, first: str) -> Table:
    table = Table(
        title=plain(title, "bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,  # 80 columns are enough
    )
    table.add_column(first, no_wrap=True)
    return table


def _number(value: float, sign: str = "") -> str:
    """A return with as many digits as it deserves: 6,143 but -3.1; a dash where none is finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:{sign},.{0 if abs(value) >= 100 else 1}f}"


def duration(seconds: float) -> str:
    """1.5 hours as "1 h 30 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
