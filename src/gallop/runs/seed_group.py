"""One experiment with several training seeds: its runs train in parallel.

Each run's folder is the only record of its progress. A group that was killed, or is started again,
does what is missing and no more.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from gallop.environments.probe import Probed
from gallop.errors import DivergedError, ExperimentError, RunError, counted
from gallop.execution.processes import OneMachine
from gallop.execution.work import Place
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import from_dict, settings_of
from gallop.fields import flat
from gallop.report import group_report
from gallop.report.display import Display
from gallop.report.expected_time import Expected
from gallop.report.pages import page
from gallop.report.several_progress import SEEDS, timestep_of
from gallop.run_folder import consent, manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.holder import SUFFIX
from gallop.run_folder.links import check_contents
from gallop.run_folder.lookup import name_of_now, run_path
from gallop.run_folder.prepared import PreparedRun, prepare, prepare_again
from gallop.run_folder.run_paths import TEMPORARY
from gallop.run_folder.seed_group import LOCK, SeedGroup, each_once, is_group
from gallop.runs import space
from gallop.runs.several import SeveralRuns, Workers
from gallop.runs.stopping import Stop, Stopped
from gallop.runs.training import initial_learner
from gallop.runs.workflow import make_folder

MAY_DIFFER = ("training_seed", "source")  # within a group


class SeedsFailedError(DivergedError):
    """Some runs of a group failed; the others finished."""


def run_seeds(
    experiment: Experiment,
    seeds: Sequence[int],
    *,
    results: str | PathLike[str] = Path("results"),
    name: str | None = None,
    workers: int | None = None,
    display: Display | None = None,
    place: Place | None = None,
) -> SeedGroup:
    """Train one experiment with several training seeds, in parallel.

    Called again with the same name, it trains what is missing: unfinished seeds of the group, and
    new ones. Finished runs are not touched.

    Args:
        experiment: what to train, from `gallop.experiment`; its own training seed is ignored.
        seeds: the training seeds.
        results: the folder that holds all runs.
        name: name of the group's folder; default: the current time, as YYYYMMDD_HHMMSS.
        workers: runs that train in parallel; default: as many as the cores allow, or the CPUs of
            the cluster.
        display: where to print; `Display(quiet=True)` prints errors only.
        place: where the runs train; default: this machine. `gallop.RayCluster("10.0.0.1:6379")` is
            a cluster.

    Returns:
        The group's folder; `runs()` maps each training seed to its run.

    Raises:
        ExperimentError: before anything is written, if the experiment cannot be run, or the group
            of this name belongs to another experiment.
        RunError: if the folder cannot be used, or another process is running the group.
        SeedsFailedError: at the end, if a run failed.
        Stopped: after SIGINT or SIGTERM; `gallop run --resume` resumes the group.

    Example:
        Two training seeds, and the mean return of each best policy::

            import gallop

            experiment = gallop.experiment(
                algo="ppo", env="Pendulum-v1", total_timesteps=4_096, milestones=[100], films=False
            )
            group = gallop.run_seeds(experiment, [0, 1])
            for seed, run in group.runs().items():
                print(seed, gallop.evaluate(run).returns.mean())
    """
    display = display or Display()
    seeds = each_once(seeds)
    check_workers(workers)
    first = with_seed(experiment, seeds[0])
    group = SeedGroup(run_path(Path(results), first.algo, first.env, name or name_of_now()))
    consent.asked_for(first)
    prepared = prepare(first)
    first = prepared.experiment
    refuse_another_experiment(group, first)
    if not is_group(group.path):
        with initial_learner(prepared):
            pass  # raises once, before anything is written, if it cannot be made
    team = Workers(place or OneMachine(), workers, first.n_threads, group.path)
    with group.locked():
        if is_group(group.path):
            first, there = group.read_experiment(), group.read_seeds()
            prepared = dataclasses.replace(prepared, experiment=first)
            seeds = [*there, *(seed for seed in seeds if seed not in there)]
        group.write(first, seeds)
        _Runs(group, prepared, seeds, team, display).go()
    return group


def resume_group(
    folder: Path,
    display: Display | None = None,
    workers: int | None = None,
    place: Place | None = None,
) -> SeedGroup:
    """Resume a group, given only its folder.

    Args:
        folder: the group's folder.
        display: where to print; default: standard output.
        workers: number of runs at a time, as for `run_seeds`.
        place: as for `run_seeds`.

    Returns:
        The group.

    Raises:
        RunError: if the folder is not a group, or another process is running it.
        SeedsFailedError: at the end, if a run failed.
        Stopped: after SIGINT or SIGTERM.
    """
    check_workers(workers)
    check_contents(folder)
    group = SeedGroup(folder)
    experiment, seeds = group.read_experiment(), group.read_seeds()
    prepared = prepare_again(experiment, _probed_of(group))
    team = Workers(place or OneMachine(), workers, experiment.n_threads, group.path)
    with group.locked():
        _Runs(group, prepared, seeds, team, display or Display()).go()
    return group


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """Return the same experiment with another training seed.

    Raises:
        ExperimentError: if the seed is not a valid training seed.
    """
    return from_dict(settings_of(experiment) | {"training_seed": seed})


def _probed_of(group: SeedGroup) -> Probed:
    """What was found out about the task when the first run of the group began."""
    return next((run.read_probed() for run in group.runs().values()), Probed())


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers below 1."""
    if workers is not None and workers < 1:
        raise ExperimentError(f"--workers {workers}: must be at least 1")


def refuse_another_experiment(group: SeedGroup, experiment: Experiment) -> None:
    """Refuse a folder that is not a group, or is a group with another experiment."""
    path = group.path
    check_contents(path)
    if is_group(path):
        before = dict(flat(settings_of(group.read_experiment())))
        now = dict(flat(settings_of(experiment)))
        for name in before | now:
            if name not in MAY_DIFFER and repr(before.get(name)) != repr(now.get(name)):
                raise ExperimentError(
                    f"{path} holds runs with {name} {before.get(name)!r}, not {now.get(name)!r}; "
                    "choose another name with --name",
                    name,
                )
    elif path.exists():
        # Files left by a group that was killed just after its start do not count.
        ours = (LOCK, LOCK + SUFFIX, group.seeds_file.name, manifest.NAME)
        others = [
            p.name
            for p in path.iterdir()
            if p.name not in ours and not p.name.startswith(TEMPORARY)
        ]
        if others:
            raise RunError(
                f"{path} already exists and is not a group of training seeds (it holds "
                f"{others[0]}); choose another name with --name"
            )


def report_on(group: SeedGroup, runs: Mapping[int, RunDirectory], experiment: Experiment) -> None:
    """Write figure, numbers and page of a group, after the end of its last run."""
    group_report.draw(group, runs, experiment)
    page.keep_report(group)


class _Runs:
    """The runs of a group while they train."""

    def __init__(
        self,
        group: SeedGroup,
        prepared: PreparedRun,
        seeds: Sequence[int],
        workers: Workers,
        display: Display,
    ) -> None:
        self.group, self.display, self.workers = group, display, workers
        self.runs = {seed: group.run(seed) for seed in seeds}
        self.n_workers = min(workers.n, len(seeds))
        self.prepared = prepared.on_threads(workers.place.threads(self.n_workers))
        self.horizon = prepared.plan.horizon
        self.failures: dict[int, str] = {}
        self.stop = Stop()

    def go(self) -> None:
        """Train what is missing, then draw and print the results of all runs together."""
        expected = self.display.plan(self.prepared, self.group.path)
        missing = [run for run in self.runs.values() if not run.experiment_file.is_file()]
        space.check_before(self.group.path, self.prepared.plan, self.display, len(missing))
        self._make_folders()
        self.several = SeveralRuns(
            {str(seed): run for seed, run in self.runs.items()},
            {str(seed): self.horizon for seed in self.runs},
            SEEDS,
            self.display,
        )
        for seed, reason in self.failures.items():
            self.several.leave_out(str(seed), reason)
        n, seeds = len(self.runs), ", ".join(map(str, self.runs))
        self.display.say(
            f"training seed{'' if n == 1 else 's'} {seeds}: {counted(n, 'run')} as planned above, "
            f"{self.n_workers} at a time{self._together(expected)}"
        )
        self.several.leave_out_diverged()
        with self.stop.listening(self.display.say):
            try:
                self.several.train(
                    self.workers.engine, self.stop, lambda name: page.keep_report(self.group)
                )
            except Stopped as stopped:
                self._say_what_is_kept(stopped)
                raise
        failed = {int(name): reason for name, reason in self.several.failures.items()}
        self.failures = group_report.damaged(self.runs) | failed
        report_on(self.group, self.runs, self.prepared.experiment)
        group_report.show(self.group, self.runs, self.prepared.experiment, self.display)
        self._report_failures()

    def _together(self, expected: Expected | None) -> str:
        """How long the runs take that are not finished."""
        left = self.several.left()
        return "" if expected is None else expected.of_runs(left, self.n_workers)

    def _make_folders(self) -> None:
        for leftover in self.group.path.glob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for seed, run in self.runs.items():
            if not run.experiment_file.is_file():
                experiment = with_seed(self.prepared.experiment, seed)
                prepared = dataclasses.replace(self.prepared, experiment=experiment)
                try:
                    make_folder(run.path, prepared)
                except RunError as error:  # the other runs can still train
                    self.failures[seed] = error.message

    def _say_what_is_kept(self, stopped: Stopped) -> None:
        self.display.say(f"stopped by {stopped}; saved so far:")
        for seed, run in self.runs.items():
            timestep = timestep_of(run, self.several.states[str(seed)], self.horizon)
            self.display.say(f"seed {seed}: up to timestep {timestep:,} of {self.horizon:,}")
        self.display.say(f"to resume: gallop run --resume {self.group.path}")

    def _report_failures(self) -> None:
        """Print one line for each failure, and raise an error if there are any."""
        for seed, reason in self.failures.items():
            self.display.say(f"seed {seed} failed: {reason}")
        if self.failures:
            n, (seed, reason) = len(self.failures), next(iter(self.failures.items()))
            told = [self.runs[failed].read_diverged() for failed in self.failures]
            can_go_on = any(each is None or not each.would_again for each in told)
            again = f"; to retry: gallop run --resume {self.group.path}" if can_go_on else ""
            raise SeedsFailedError(
                f"{n} of {counted(len(self.runs), 'run')} of {self.group.path} failed: seed "
                f"{seed}: {reason}{again}"
            )
