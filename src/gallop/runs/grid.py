"""A grid of experiments: all its runs train side by side, and what is missing is trained.

Each run's folder is the only record of its progress, as in a group of training seeds.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gallop.errors import DivergedError, ExperimentError, RunError, counted
from gallop.execution.processes import OneMachine
from gallop.execution.work import Engine, Place
from gallop.experiments.grid import Cell, Grid
from gallop.report import grid_report
from gallop.report.display import Display
from gallop.report.expected_time import expected_time, side_by_side
from gallop.report.grid_results import Found
from gallop.report.measured_speed import measure
from gallop.report.progress_line import duration
from gallop.report.several_progress import RUNS, share_left
from gallop.report.tables import Column, NameTable
from gallop.run_folder import consent
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import write_bytes
from gallop.run_folder.grid_folder import GridFolder, is_grid
from gallop.run_folder.prepared import PreparedRun, prepare
from gallop.run_folder.seed_group import SeedGroup, is_group
from gallop.runs.seed_group import (
    check_workers,
    refuse_another_experiment,
    report_on,
    with_seed,
)
from gallop.runs.several import SeveralRuns, Workers
from gallop.runs.stopping import Stop, Stopped
from gallop.runs.workflow import make_folder


class RunsFailedError(DivergedError):
    """Some runs of a grid failed; the others finished."""


class CombinationError(ExperimentError):
    """A combination of the grid cannot be run on this machine."""


class Combination(NamedTuple):
    """A combination of the grid, and its runs."""

    cell: Cell
    label: str
    """Such as "SAC on Hopper-v5"."""
    group: SeedGroup
    seeds: tuple[int, ...]

    def runs(self) -> dict[int, RunDirectory]:
        """Return the run of each training seed, whether it exists or not."""
        return {seed: self.group.run(seed) for seed in self.seeds}

    def n_finished(self) -> int:
        """Return how many runs are finished."""
        return sum(run.is_finished() for run in self.runs().values())


def run_grid(
    grid: Grid,
    folder: Path,
    *,
    workers: int | None = None,
    display: Display | None = None,
    place: Place | None = None,
    only_prepare: bool = False,
) -> GridFolder:
    """Train what is missing of a grid, and report over all its runs.

    Args:
        grid: from `gallop.experiments.grid.load`.
        folder: the grid's folder. One that exists must be of the same grid, or of a smaller one.
        workers: runs that train in parallel; default: as many as there is room for.
        display: where to print.
        place: where the runs train; default: this machine.
        only_prepare: make and list the folders of all runs, for a batch system to train them.

    Raises:
        ExperimentError: before anything is written, if a combination cannot be run, or the folder
            belongs to another grid, or to a larger one.
        RunError: if the folder cannot be used, or another process is running the grid.
        RunsFailedError: at the end, if a run failed.
        Stopped: after SIGINT or SIGTERM; calling it again continues.
    """
    check_workers(workers)
    display = display or Display()
    running = _Grid(GridFolder(folder), grid, display, place or OneMachine(), workers)
    running.go(only_prepare)
    return running.folder


def show_plan(
    grid: Grid, folder: Path, *, workers: int | None, display: Display, place: Place
) -> None:
    """Print what `run_grid` would train, and how long it would take. Nothing is written."""
    check_workers(workers)
    _Grid(GridFolder(folder), grid, display, place, workers).show_plan()


class _Grid:
    """A grid while it runs."""

    def __init__(
        self, folder: GridFolder, grid: Grid, display: Display, place: Place, workers: int | None
    ) -> None:
        self.folder, self.grid, self.display = folder, grid, display
        self.combinations = [
            Combination(
                cell,
                f"{grid.label(cell.algo, cell.change)} on {cell.env}",
                folder.group(cell),
                grid.training_seeds,
            )
            for cell in grid.cells()
        ]
        _refuse_folder(folder, grid)
        for each in self.combinations:
            if not each.cell.experiment.init_from:  # else known when the policy has been read
                refuse_another_experiment(each.group, each.cell.experiment)
        self.n_threads = max(c.cell.experiment.n_threads or 1 for c in self.combinations)
        n_runs = len(self.combinations) * len(grid.training_seeds)
        self.n_workers = min(place.n_workers(workers, self.n_threads), n_runs)
        self.place, self.asked, self.stop = place, workers, Stop()
        self.prepared: dict[str, PreparedRun] = {}

    def go(self, only_prepare: bool) -> None:
        """Train what is missing, then write and print the results."""
        workers = None
        if not only_prepare:
            workers = Workers(self.place, self.asked, self.n_threads, self.folder.path)
        self._prepare()
        self.show_plan()
        with self.folder.locked(), contextlib.ExitStack() as locks:
            self.folder.write(self.grid)
            for each in self.combinations:
                locks.enter_context(each.group.locked())
            several = self._several(self._make_folders())
            found = None
            if workers is None:
                self._list_runs(several)
            else:
                found = self._train(several, workers.engine)
        if found is not None:
            grid_report.show(self.folder, self.grid, found, self.display)
        self._report_failures(several.failures)

    @property
    def n_runs(self) -> int:
        """Return the number of all runs."""
        return len(self.combinations) * len(self.grid.training_seeds)

    def _in_order(self) -> Iterator[tuple[Combination, int]]:
        """Yield all runs in the order in which they train: the first seed of all, the next ..."""
        for seed in self.grid.training_seeds:
            for each in self.combinations:
                yield each, seed

    def _missing(self) -> list[Combination]:
        return [each for each in self.combinations if each.n_finished() < len(each.seeds)]

    def _prepare(self) -> None:
        """Try out each task that has something to train."""
        missing = [each for each in self._missing() if each.label not in self.prepared]
        for number, each in enumerate(missing):
            consent.asked_for(each.cell.experiment)
            told = f"trying out {each.label}, {number + 1} of {len(missing)}"
            with self.display.console.status(told):
                try:
                    self.prepared[each.label] = prepare(each.cell.experiment).on_threads(
                        self.place.threads(self.n_workers)
                    )
                except ExperimentError as error:
                    raise CombinationError(f"{each.label}: {error.message}") from None
            refuse_another_experiment(each.group, self.prepared[each.label].experiment)

    def show_plan(self) -> None:
        """Print what is done and what is left, and how long that will take."""
        self._prepare()
        rows = []
        for each in self.combinations:
            n, done = len(each.seeds), each.n_finished()
            begun = sum(run.experiment_file.is_file() for run in each.runs().values()) - done
            timesteps = f"{each.cell.experiment.total_timesteps:,}"
            rows.append([each.label, timesteps, str(n), str(done), str(begun), str(n - done)])
        headings = ("timesteps", "runs", "finished", "begun", "left")
        columns = [Column("combination", "label"), *map(Column, headings)]
        self.display.table(NameTable(columns, rows, f"{self.folder.path}: {self.grid}"))
        self.display.say(self._cost())

    def _cost(self) -> str:
        """Say how many runs are left, and how long they take side by side."""
        runs = [(each, each.group.run(seed)) for each, seed in self._in_order()]
        left = [(each, run) for each, run in runs if not run.is_finished()]
        if not left:
            return "0 runs left"
        told, n_workers = f"{counted(len(left), 'run')} left", min(self.n_workers, len(left))
        if not self.display.console.quiet:
            seconds = {}
            for each in self._missing():
                prepared = self.prepared[each.label]
                with self.display.console.status(f"measuring {each.label}"):
                    seconds[each.label] = expected_time(prepared, measure(prepared)).seconds
            times = [
                seconds[each.label] * share_left(run, self.prepared[each.label].plan.horizon)
                for each, run in left
            ]
            together = side_by_side(times, n_workers)
            told += f", about {duration(together)} at the speed of this machine"
        return f"{told}, {n_workers} at a time"

    def _make_folders(self) -> dict[str, str]:
        """Make the folders of all runs; return name -> why one could not be made."""
        failures = {}
        for each in self._missing():
            prepared = self.prepared[each.label]
            seeds = list(each.seeds)
            if is_group(each.group.path):
                there = each.group.read_seeds()
                seeds = [*there, *(seed for seed in seeds if seed not in there)]
            each.group.write(prepared.experiment, seeds)
            for seed, run in each.runs().items():
                if run.experiment_file.is_file():
                    continue
                experiment = with_seed(prepared.experiment, seed)
                try:
                    make_folder(run.path, dataclasses.replace(prepared, experiment=experiment))
                except RunError as error:  # the other runs can still train
                    failures[_name(each, seed)] = error.message
        return failures

    def _several(self, failures: dict[str, str]) -> SeveralRuns:
        """Return all runs, without those that would fail."""
        runs = {_name(each, seed): each.group.run(seed) for each, seed in self._in_order()}
        horizons = {
            _name(each, seed): self.prepared[each.label].plan.horizon
            if each.label in self.prepared
            else each.cell.experiment.total_timesteps
            for each, seed in self._in_order()
        }
        several = SeveralRuns(runs, horizons, RUNS, self.display)
        for name, reason in failures.items():
            several.leave_out(name, reason)
        several.leave_out_diverged()
        return several

    def _train(self, several: SeveralRuns, engine: Engine) -> Found:
        """Train what is missing; write and return the results.

        Raises:
            Stopped: after a signal, once the results so far are written.
        """
        for each in self.combinations:  # those that ended just before this process was killed
            if each.n_finished() and not each.group.report.is_file():
                self._draw_ended(several, each)
        by_name = {_name(each, seed): each for each, seed in self._in_order()}
        with self.stop.listening(self.display.say):
            try:
                several.train(
                    engine, self.stop, lambda name: self._draw_ended(several, by_name[name])
                )
            except Stopped as stopped:
                done = sum(each.n_finished() for each in self.combinations)
                self.display.say(
                    f"stopped by {stopped}: {done} of {self.n_runs} runs are finished, the others "
                    "are kept up to their last boundary; run the same command again to continue"
                )
                grid_report.write(self.folder, self.grid)
                raise
        return grid_report.write(self.folder, self.grid)

    def _draw_ended(self, several: SeveralRuns, each: Combination) -> None:
        """Write the figure and the page of a group, if all its runs have finished or failed."""
        if several.have_ended(_name(each, seed) for seed in each.seeds):
            report_on(each.group, each.runs(), each.cell.experiment)

    def _list_runs(self, several: SeveralRuns) -> None:
        """List the folders that are left to be trained, one a line, for a batch system."""
        paths = [
            each.group.run(seed).path
            for each in self.combinations
            for seed in each.seeds
            if several.states[_name(each, seed)] == "waiting"
        ]
        write_bytes(self.folder.run_list, "".join(f"{path}\n" for path in paths).encode())
        self.display.say(
            f"{counted(len(paths), 'run')} left to train, each with gallop run --resume RUN; their "
            f"folders are listed in {self.folder.run_list}"
        )

    def _report_failures(self, failures: dict[str, str]) -> None:
        for name, reason in failures.items():
            self.display.say(f"{name} failed: {reason}")
        if failures:
            name, reason = next(iter(failures.items()))
            raise RunsFailedError(
                f"{len(failures)} of {counted(self.n_runs, 'run')} of {self.folder.path} failed: "
                f"{name}: {reason}"
            )


def _refuse_folder(folder: GridFolder, grid: Grid) -> None:
    """Refuse a folder that is not a grid's, or is that of a grid with more in it."""
    path = folder.path
    if not is_grid(path):
        if path.exists() and any(path.glob("*/*")):
            raise RunError(f"{path} already exists and is not a grid; choose another --name")
    elif more := folder.read().beyond(grid):
        raise RunError(
            f"{path}: the grid in this folder also has {more}; keep it in the file, or choose "
            "another --name"
        )


def _name(each: Combination, seed: int) -> str:
    return f"{each.label}, seed {seed}"
