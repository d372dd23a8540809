"""What is printed for a person: the plan before a run, a progress bar, tables of results."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress
from rich.text import Text

from gallop.errors import counted, printable, printable_lines
from gallop.evaluation.statistics import Comparison, SeedSummary, Slope, Summary
from gallop.experiments.plan import Boundary
from gallop.experiments.presets import Preset
from gallop.plain_output import keep_printable
from gallop.report.expected_time import Expected, expected_time
from gallop.report.measured_speed import measure
from gallop.report.progress_line import FittedLine, time_left
from gallop.report.tables import UNBROKEN, Column, NameTable, exact, interval, number
from gallop.run_folder.listing import Listed
from gallop.run_folder.numbers import Cut
from gallop.run_folder.prepared import PreparedRun

CI = f"[95{UNBROKEN}%{UNBROKEN}CI]"  # in headings


class Printable(logging.Formatter):
    """Spells out escape sequences in log lines, so that no terminal obeys them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record with control characters spelled out."""
        return printable_lines(super().format(record))


class Row(NamedTuple):
    """One policy in a table of returns."""

    policy: str
    timestep: int | None
    """None where it is unknown, as for a policy file without a run."""
    summary: Summary


class Pair(NamedTuple):
    """Two policies in a table of comparisons."""

    label: str
    comparison: Comparison


class Display:
    """Prints for a person; when quiet, it prints nothing."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        """Create a display on standard output.

        Args:
            quiet: print nothing.
            verbose: print log messages of level INFO, too; by default only warnings.
        """
        keep_printable()  # for callers of the Python API
        self.console = Console(quiet=quiet, highlight=False)
        # Gallop's warnings belong on the screen; everything else is in run.log.
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

    def say(self, text: str, style: str = "") -> None:
        """Print text as it is: markup is not interpreted, escape sequences are spelled out.

        Lines longer than the console are left to the terminal to wrap, so paths can be copied.
        """
        self.console.print(Text(printable_lines(text), style), soft_wrap=True)

    def tell(self, text: str) -> None:
        """Print a sentence, wrapped between words; a path is never broken."""
        width = max(self.console.width, 24)
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        self.say("\n".join(lines))

    def table(self, table: NameTable) -> None:
        """Print a table that fits the console's width."""
        if table.title:
            self.say(table.title, "bold")
            table = dataclasses.replace(table, title="")
        self.console.print(table, crop=False)

    def rows(self, rows: Mapping[str, str]) -> None:
        """Print labels and values in two columns; values are wrapped between words."""
        indent = max(map(len, rows), default=0) + 2
        width = max(self.console.width - indent, 24)
        for label, value in rows.items():
            # A path is never broken: it could not be copied.
            lines = textwrap.wrap(
                printable(value), width, break_long_words=False, break_on_hyphens=False
            )
            for place, line in enumerate(lines or [""]):
                text = Text.assemble((f"{'' if place else label:<{indent}}", "bold"), line)
                self.console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def episodes(self, policy: str, n: int, limit: int) -> Iterator[Callable[[], None]]:
        """Show a bar over the timesteps of n episodes that step together.

        Args:
            policy: what to call the policy.
            n: number of episodes.
            limit: timesteps of the longest possible episode.

        Yields:
            A function to be called once per timestep.
        """
        label = f"{policy}: {counted(n, 'episode')}"
        if not self.console.is_terminal:
            self.say(label)
        with Progress(
            FittedLine(name_is_kept=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bar:
            task = bar.add_task(label, total=limit, unit="timesteps")
            yield lambda: bar.advance(task)

    # --- before ---

    def plan(self, prepared: PreparedRun, folder: Path | None, done: int = 0) -> Expected | None:
        """Print what the run will do and how long it will take, which is measured for it.

        Args:
            prepared: the run.
            folder: where it will be; None for a dry run.
            done: timesteps that it has trained already.

        Returns:
            How long it is expected to take; None if nothing is printed and nothing was measured.
        """
        if self.console.quiet:
            return None
        experiment, plan, choice = prepared.experiment, prepared.plan, prepared.choice
        marks = [b for b in plan.boundaries if b.milestone is not None]
        evaluations = [b for b in plan.boundaries if b.evaluates]
        assert experiment.segment and experiment.evaluation.interval, "resolve() sets them"
        segments = _gap(plan.boundaries, experiment.segment)
        between = _gap(evaluations, experiment.evaluation.interval, "every ")
        given = experiment.evaluation.max_episode_timesteps
        rows = {
            "experiment": f"{experiment.algorithm.title} on {experiment.env}, "
            f"training seed {experiment.training_seed}",
            "timesteps": f"{plan.horizon:,} in {counted(experiment.n_envs, 'environment')}"
            f"{_rounded_up(prepared)}",
            "segments": f"{len(plan.boundaries):,} of {segments} timesteps, each ending in a state "
            "that can be resumed",
            "evaluations": f"{len(evaluations):,}, {between} timesteps, "
            f"{counted(experiment.evaluation.n_episodes, 'episode')} each"
            + (f", cut after {counted(given, 'timestep')}" if given else ""),
            "milestones": ", ".join(f"{b.milestone} % at {b.timestep:,}" for b in marks),
            "gradient steps": f"{plan.n_gradient_steps:,} (UTD ratio {plan.utd_ratio:g})",
            "learner": f"{choice.name} ({choice.reason}), "
            f"{choice.instruction_set or experiment.device}, "
            f"{counted(choice.n_threads, 'thread')}",
            "disk": f"up to {plan.disk_bytes / 1e6:,.0f} MB",
        }
        expected = None
        if done < plan.horizon:
            expected = expected_time(prepared, measure(prepared), done)
            rows["time left" if done else "expected time"] = str(expected)
        if prepared.time_limit is None:
            rows["time limit"] = (
                "the task declares none: episodes may never end in training, and evaluations "
                f"cut theirs after {prepared.cut_after:,} timesteps"
                f"{' (evaluation.max_episode_timesteps)' if given else ''}; "
                "--env-kwargs '{max_episode_steps: 1000}' sets one"
            )
        if prepared.reward_wrappers.note:
            rows["returns"] = prepared.reward_wrappers.note
        from gallop.environments.actions import far_from_one  # imports Gymnasium

        far = far_from_one(prepared.action_space)
        if far and experiment.algorithm.networks.actor_outputs == "plain":
            rows["actions"] = (
                f"{far}, but {experiment.algorithm.title} begins near 0 with a standard deviation "
                "of 1, in the task's own units; --rescale-actions true maps -1 … 1 to the bounds"
            )
        if prepared.start_notes:
            rows["start"] = "; ".join(prepared.start_notes)
        if note := prepared.probed.note:
            rows["task"] = note
        if folder is not None:
            rows["folder"] = str(folder)
        self.rows(rows)
        return expected

    # --- during ---

    @contextlib.contextmanager
    def bar(self, total: int, first: int) -> Iterator[None]:
        """Show a progress bar over all `total` timesteps of a run that starts at `first`."""
        self._total, self._first, self._now = total, first, first
        self._started = time.monotonic()
        bar = Progress(
            FittedLine(),
            console=self.console,
            expand=True,
            refresh_per_second=4,
            disable=not self.console.is_terminal,
        )
        with bar:
            bar.add_task("training", total=total, completed=first)
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def learning(self) -> None:
        """Start the clock of SPS at the beginning of a segment."""
        self._learning_since, self._segment_start = time.monotonic(), self._now
        self.activity("training")

    def activity(self, text: str) -> None:
        """Show what the run is doing at the moment."""
        if self._bar is not None:
            self._bar.update(self._bar.tasks[0].id, description=text)

    def tick(self, timestep: int) -> None:
        """Move the bar to this timestep."""
        self._now = timestep
        if self._bar is not None and self.console.is_terminal:
            self._bar.update(
                self._bar.tasks[0].id, completed=timestep, speed=self._speed(), left=self._left()
            )

    def evaluated(self, timestep: int, mean_return: float) -> None:
        """Show the mean return of the latest evaluation; without a terminal, print a line."""
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
        return f"{done / seconds:,.0f} SPS" if done and seconds > 0.05 else ""

    def _left(self) -> str:
        done = self._now - self._first
        if not done:
            return ""
        seconds = (time.monotonic() - self._started) * (self._total - self._now) / done
        return time_left(seconds)

    # --- after ---

    def results(self, title: str, rows: Sequence[Row], pairs: Sequence[Pair] = ()) -> None:
        """Print the returns of policies on the same seeds, and comparisons of pairs of them.

        Args:
            title: what was evaluated.
            rows: one policy each.
            pairs: two policies each; printed as a second table.
        """
        known = any(row.timestep is not None for row in rows)
        headings = [*(["timestep"] if known else []), "mean", "std", "IQM", f"{CI[1:-1]} of mean"]
        cells = []
        for row in rows:
            s = row.summary
            timestep = [] if not known else ["" if row.timestep is None else exact(row.timestep)]
            numbers = [number(value) for value in (s.mean, s.std, s.iqm)]
            cells.append([row.policy, *timestep, *numbers, interval(s.mean_interval)])
        self.table(NameTable([Column("policy", "name"), *map(Column, headings)], cells, title))
        if pairs:
            self._compare(pairs)

    def seeds(
        self, title: str, returns: Mapping[int, tuple[float, float]], final: SeedSummary
    ) -> None:
        """Print the returns of a group of runs, and a summary over its training seeds.

        Args:
            title: what the group is.
            returns: training seed -> mean return of its final and of its best policy.
            final: summary of the final policies' returns.
        """
        columns = [Column("training seed"), Column("final policy"), Column("best policy")]
        cells = [[str(seed), *map(number, values)] for seed, values in returns.items()]
        self.say("")
        self.table(NameTable(columns, cells, title))
        self.say(
            f"Final policies: IQM {number(final.iqm)}, 95 % CI {interval(final.iqm_interval)}, "
            f"mean {number(final.mean)}, std {number(final.std)}, over "
            f"{counted(final.n, 'training seed')}.\nEach return is the mean over the evaluation "
            "episodes of one policy."
        )

    def _compare(self, pairs: Sequence[Pair]) -> None:
        columns = [
            Column("policies", "word"),
            *map(Column, (f"difference {CI}", f"P(improvement) {CI}")),
            *map(Column, ("sign-flip p", "Wilcoxon p")),
        ]
        cells = []
        for label, comparison in pairs:
            difference, probability = comparison[:2]
            cells.append(
                [
                    label,
                    f"{number(difference.mean, '+')} {interval(difference.interval, '+')}",
                    f"{probability.value:.2f} [{probability.interval.low:.2f}, "
                    f"{probability.interval.high:.2f}]",
                    *(f"{p:.3f}" for p in comparison[2:]),
                ]
            )
        self.say("")
        self.table(NameTable(columns, cells, "Differences between policies, paired by seed"))

    def runs(self, listed: Sequence[Listed]) -> None:
        """Print the table of `gallop list`."""
        columns = [
            *(Column("run", "name"), Column("algorithm", "word"), Column("task", "name")),
            *(Column("timesteps"), Column("return"), Column("status", "word")),
        ]
        cells = []
        for run in listed:
            timesteps = exact(run.horizon)
            if run.status != "finished":
                timesteps = f"{exact(run.timestep)} of {timesteps}"
            cells.append(
                [
                    run.name,
                    run.algo.upper(),
                    run.env,
                    timesteps if run.status != "damaged" else "",
                    "" if run.mean_return is None else number(run.mean_return),
                    run.status,
                ]
            )
        self.table(NameTable(columns, cells))
        for run in listed:
            if run.status in ("damaged", "diverged"):
                self.say(f"{run.path}: {run.reason}")

    def presets(self, presets: Sequence[Preset]) -> None:
        """Print the table of `gallop presets`."""
        columns = [Column("algorithm", "word"), Column("task", "name"), Column("source", "prose")]
        cells = [[preset.algo.upper(), preset.env, preset.source] for preset in presets]
        self.table(NameTable(columns, cells))

    def left_out(self, cut: Mapping[str, Cut], not_finite: Mapping[str, tuple[int, int]]) -> None:
        """Print what the table of `results` does not show.

        Args:
            cut: policy -> its episodes that were cut.
            not_finite: policy -> number of returns that are not finite, and of all its returns.
        """
        for line in left_out_lines(cut, not_finite):
            self.say(line)

    def meaning(self, n: int) -> None:
        """Print what the returns and intervals of `results` are."""
        self.say(
            f"Returns of {counted(n, 'deterministic episode')} on the evaluation seeds.\n"
            "Intervals are over initial states of one policy, not over training seeds."
        )

    def slope(
        self,
        slope: Slope | None,
        n_evaluations: int,
        horizon: int,
        shorter_interval: int | None = None,
    ) -> None:
        """Print whether the return is still rising at the end of training.

        Args:
            slope: of the evaluations in the last quarter; None if there are too few.
            n_evaluations: in all of training.
            horizon: timesteps of training, up to which the slope was taken.
            shorter_interval: evaluation interval that would give enough evaluations; None if there
                is none.
        """
        if slope is None:
            enough = f" A run with --eval-freq {shorter_interval} has enough."
            self.say(
                f"Too few evaluations ({n_evaluations}) to tell whether the return is still "
                "rising: at least 3\nare needed in the last quarter."
                + ("" if shorter_interval is None else enough)
            )
            return
        self.say("\n".join(textwrap.wrap(slope_sentence(slope, horizon), 80)))


def left_out_lines(cut: Mapping[str, Cut], not_finite: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return what a table of returns does not show; see `Display.left_out`."""
    lines = []
    for policy, (n, of, length) in cut.items():
        one = n == 1
        lines.append(
            f"{policy}: {n} of {counted(of, 'episode')} did not end and "
            f"{'was' if one else 'were'} cut after {counted(length, 'timestep')}; "
            f"{'its return counts' if one else 'their returns count'} the rewards up to there"
        )
    for policy, (n, of) in not_finite.items():
        verb = "is" if n == 1 else "are"
        lines.append(
            f"{policy}: {n} of {counted(of, 'return')} {verb} NaN or infinite, and left out"
        )
    return lines


def slope_sentence(slope: Slope, horizon: int) -> str:
    """Say whether the return is still rising at the end of training.

    Args:
        slope: of the evaluations in the last quarter.
        horizon: timesteps of training, up to which the slope was taken.
    """
    trend = {
        "rising": "is still rising",
        "falling": "is falling",
        "level": "is neither clearly rising nor falling",
    }[slope.trend]
    in_quarter = slope.per_100k * horizon / 4 / 100_000
    return (
        f"The evaluation return {trend}: {number(in_quarter, '+')} in the last quarter of "
        f"training, or {number(slope.per_100k, '+')} per 100k timesteps (95 % CI "
        f"{interval(slope.interval, '+')}; {counted(slope.n, 'evaluation')})."
    )


def _gap(boundaries: Sequence[Boundary], nominal: int, every: str = "") -> str:
    """Return the timesteps between boundaries; "about" if they differ, after rounding up."""
    gaps = {later.timestep - before.timestep for before, later in pairwise(boundaries)}
    gaps |= {b.timestep for b in boundaries[:1]}
    if len(gaps) == 1:
        return f"{every}{gaps.pop():,}"
    return f"about {every}{nominal:,}"


def _rounded_up(prepared: PreparedRun) -> str:
    """Return what was rounded up to whole rollouts, in parentheses; empty if nothing was."""
    experiment, plan = prepared.experiment, prepared.plan
    if all(b.timestep == b.nominal for b in plan.boundaries):
        return ""
    total = experiment.total_timesteps
    what = "segments" if plan.horizon == total else f"{total:,}"
    rollout = experiment.hyperparameters.quantum(experiment.n_envs)
    return f" ({what} rounded up to whole rollouts of {rollout:,})"
