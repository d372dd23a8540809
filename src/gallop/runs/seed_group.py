"""One experiment with several training seeds: its runs side by side, and what they say together.

results/<ALGO>_<ENV_ID>/<name>/
├── group.yaml            the resolved experiment, with the first training seed
├── seeds.json            the training seeds; they stand nowhere else
├── seed-0/, seed-1/, …   an ordinary run each: any command takes it
├── curve.csv, learning_curve.png
└── summary.json

The truth about a run is its own folder. A group that was killed, or is asked for again, does what
is missing and no more.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Group as Stacked
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from gallop.errors import DivergedError, ExperimentError, RunError
from gallop.evaluation.statistics import SeedCurve, curve_over_seeds, summarise_seeds
from gallop.execution.processes import Processes, n_workers
from gallop.execution.work import Ended, WorkItem
from gallop.experiments.plan import Plan
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import from_dict, to_yaml
from gallop.fields import flat
from gallop.learners.choose import Choice
from gallop.machine import available_processors
from gallop.report import figures
from gallop.report.display import Display, duration
from gallop.report.run_report import as_plain
from gallop.run_folder import resume_state
from gallop.run_folder.directory import GROUP_FILE, RunDirectory
from gallop.run_folder.files import hold, write_bytes
from gallop.run_folder.find_policy import policy_path
from gallop.run_folder.imported_code import read_trained
from gallop.run_folder.lookup import run_path
from gallop.runs.stopping import Stop, Stopped
from gallop.runs.training import learner_for
from gallop.runs.workflow import plan_run, prepare

State: TypeAlias = Literal["waiting", "running", "finished", "failed"]

SECONDS_BETWEEN_POLLS = 0.1
SECONDS_BETWEEN_LOOKS = 0.5  # into the folders, for what is shown
LOCK = "lock"
MAY_DIFFER = ("training_seed", "source")  # within a group


class SeedsFailedError(DivergedError):
    """Some runs of a group did not come to their ends; the others did."""


class SeedGroup:
    """Paths and formats of one group. Making the object touches nothing on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def experiment_file(self) -> Path:
        return self.path / GROUP_FILE

    @property
    def seeds_file(self) -> Path:
        return self.path / "seeds.json"

    @property
    def learning_curve(self) -> Path:
        return self.path / "learning_curve.png"

    @property
    def curve_file(self) -> Path:
        return self.path / "curve.csv"

    @property
    def summary_file(self) -> Path:
        return self.path / "summary.json"

    def run(self, seed: int) -> RunDirectory:
        """The run of one training seed, whether it is there or not."""
        return RunDirectory(self.path / f"seed-{seed}")

    def write(self, experiment: Experiment, seeds: Sequence[int]) -> None:
        """Write the seeds and then the experiment, which makes the folder a group."""
        text = json.dumps({"training_seeds": list(seeds)}, indent=2)
        write_bytes(self.seeds_file, f"{text}\n".encode())
        write_bytes(self.experiment_file, to_yaml(experiment).encode())

    def read_experiment(self) -> Experiment:
        """The resolved experiment, with the first training seed.

        Raises:
            RunError: if the folder is no group.
        """
        if not is_group(self.path):
            raise RunError(f"{self.path} is no group of training seeds: it holds no {GROUP_FILE}")
        return read_trained(self.experiment_file)

    def read_seeds(self) -> list[int]:
        """The training seeds, in the order in which they were asked for.

        Raises:
            RunError: if the file that names them is damaged.
        """
        try:
            seeds = json.loads(self.seeds_file.read_text(encoding="utf-8"))["training_seeds"]
            return _checked([int(seed) for seed in seeds])
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{self.seeds_file} does not name training seeds: {reason}") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the group, whose folder is made; a second process that wants it is refused.

        Raises:
            RunError: if another process is running it, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}") from None
        busy = RunError(f"{self.path} is being run by another process")
        with hold(self.path / LOCK, self.path, busy):
            yield


def is_group(path: Path) -> bool:
    """Whether a folder is a group of training seeds."""
    return (path / GROUP_FILE).is_file()


def run_seeds(
    experiment: Experiment,
    seeds: Sequence[int],
    *,
    results: Path = Path("results"),
    name: str | None = None,
    workers: int | None = None,
    display: Display | None = None,
) -> SeedGroup:
    """Train one experiment with each of several training seeds, side by side.

    Called again under the same name it does what is missing, of the seeds that the group has and
    of new ones; a run that is finished is not touched.

    Args:
        experiment: resolved; its own training seed means nothing.
        seeds: the training seeds.
        results: the folder of all runs.
        name: of the group's folder; default: now, as YYYYMMDD_HHMMSS.
        workers: runs side by side; default, and at most: as many as the cores can serve.

    Raises:
        ExperimentError: before anything is written, if the experiment cannot be run, or the name
            is one of another experiment.
        RunError: if the folder cannot be used, or another process is running the group.
        SeedsFailedError: at the end, if a run failed.
        Stopped: after SIGINT or SIGTERM; `resume_group` goes on.
    """
    display = display or Display()
    seeds = _checked(seeds)
    _check_workers(workers)
    first = with_seed(experiment, seeds[0])
    name = name or datetime.datetime.now().strftime("%Y%m%d_%H%M%S")
    group = SeedGroup(run_path(results, first.algo, first.env, name))
    _check_name(group, first)
    plan, choice = plan_run(first)
    if not is_group(group.path):
        _try_out(first)
    with group.locked():
        if is_group(group.path):
            first, there = group.read_experiment(), group.read_seeds()
            seeds = [*there, *(seed for seed in seeds if seed not in there)]
        group.write(first, seeds)
        _Runs(group, first, seeds, plan, choice, workers, display).go()
    return group


def resume_group(
    folder: Path, display: Display | None = None, workers: int | None = None
) -> SeedGroup:
    """Go on with a group, from its folder alone.

    Raises:
        RunError: if the folder is no group, or another process is running it.
        SeedsFailedError, Stopped: as `run_seeds` does.
    """
    _check_workers(workers)
    group = SeedGroup(folder)
    experiment, seeds = group.read_experiment(), group.read_seeds()
    plan, choice = plan_run(experiment)
    with group.locked():
        _Runs(group, experiment, seeds, plan, choice, workers, display or Display()).go()
    return group


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """The same experiment with another training seed.

    Raises:
        ExperimentError: if it is no training seed.
    """
    return from_dict(experiment.model_dump(mode="json") | {"training_seed": seed})


def _checked(seeds: Sequence[int]) -> list[int]:
    if not seeds:
        raise ExperimentError("no training seed is given; --seeds 0..9 gives ten")
    twice = [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]
    if twice:
        raise ExperimentError(f"training seed {twice[0]} is given twice; each is trained once")
    return list(seeds)


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise ExperimentError(f"--workers {workers}: at least 1 is needed")


def _check_name(group: SeedGroup, experiment: Experiment) -> None:
    """Refuse a folder that is something else, or a group of another experiment."""
    path = group.path
    if is_group(path):
        before = dict(flat(group.read_experiment().model_dump(mode="json")))
        now = dict(flat(experiment.model_dump(mode="json")))
        for name in before | now:
            if name not in MAY_DIFFER and before.get(name) != now.get(name):
                raise ExperimentError(
                    f"{path} holds runs with {name} {before.get(name)!r}, not {now.get(name)!r}; "
                    "--name gives another group",
                    name,
                )
    elif path.exists():
        ours = (LOCK, group.seeds_file.name)  # a group killed in its first moment
        others = [p.name for p in path.iterdir() if p.name not in ours and p.name[:5] != ".new-"]
        if others:
            raise RunError(
                f"{path} exists already and is no group of training seeds (it holds {others[0]}); "
                "--name gives another"
            )


def _try_out(experiment: Experiment) -> None:
    """What cannot be made is refused once, before anything is written."""
    with learner_for(experiment) as (_, learner):
        if experiment.init_from:
            learner.read_policy(policy_path(Path(experiment.init_from)))


class _Runs:
    """The runs of a group, under way."""

    def __init__(
        self,
        group: SeedGroup,
        experiment: Experiment,
        seeds: Sequence[int],
        plan: Plan,
        choice: Choice,
        workers: int | None,
        display: Display,
    ) -> None:
        self.group, self.experiment, self.plan = group, experiment, plan
        self.display = display
        self.runs = {seed: group.run(seed) for seed in seeds}
        self.n_workers = min(n_workers(workers, experiment.n_threads), len(seeds))
        # The cores are divided among the runs: processes.py.
        share = max(1, available_processors() // self.n_workers)
        n_threads = experiment.n_threads or min(choice.n_threads, share)
        self.choice = choice._replace(n_threads=n_threads)
        self.states: dict[int, State] = {}
        self.failures: dict[int, str] = {}
        self.stop = Stop()

    def go(self) -> None:
        """From wherever the folders stand to the end, and what they say together."""
        self._make_folders()
        self.display.plan(self.experiment, self.plan, self.choice, self.group.path)
        n = len(self.runs)
        self.display.say(
            f"training seeds {', '.join(map(str, self.runs))}: {n} run{'s' if n > 1 else ''} like "
            f"this one, {self.n_workers} side by side"
        )
        self.states = {
            seed: "finished" if run.is_finished() else "waiting" for seed, run in self.runs.items()
        }
        with self.stop.listening():
            try:
                self._train()
            except Stopped as stopped:
                self._say_what_is_kept(stopped)
                raise
        draw_group(self.group, self.runs, self.experiment)
        self._say_what_came_out()

    def _make_folders(self) -> None:
        for leftover in self.group.path.glob(".new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for seed, run in self.runs.items():
            if not run.experiment_file.is_file():
                prepare(run.path, with_seed(self.experiment, seed), self.plan, self.choice)

    def _train(self) -> None:
        queue = deque(seed for seed, state in self.states.items() if state == "waiting")
        engine = Processes(self.n_workers)
        try:
            with _Progress(self.display, self.runs, self.states, self.plan.horizon) as progress:
                while "waiting" in self.states.values() or "running" in self.states.values():
                    self.stop.check()
                    self._submit(queue, engine)
                    for ended in engine.poll():
                        self._note(ended)
                    progress.show()
                    time.sleep(SECONDS_BETWEEN_POLLS)
        finally:
            engine.close()

    def _submit(self, queue: deque[int], engine: Processes) -> None:
        """Give the engine what it has room for, but no run that another process holds.

        A group that was killed leaves workers behind that need a moment to stop.
        """
        for seed in list(queue):
            if not engine.is_hungry:
                return
            run = self.runs[seed]
            if _is_held(run):
                continue
            queue.remove(seed)
            if run.is_finished():  # whoever held it brought it to its end
                self.states[seed] = "finished"
                continue
            command = ("gallop", "run", "--resume", str(run.path), "--quiet")
            engine.submit(WorkItem(run.path, command))
            self.states[seed] = "running"

    def _note(self, ended: Ended) -> None:
        seed = next(seed for seed, run in self.runs.items() if run.path == ended.item.folder)
        self.states[seed] = "failed" if ended.exit_code else "finished"
        if ended.exit_code:
            self.failures[seed] = ended.reason

    def _say_what_is_kept(self, stopped: Stopped) -> None:
        self.display.say(f"stopped by {stopped}; kept:")
        for seed, run in self.runs.items():
            timestep = _timestep(run, self.states[seed], self.plan.horizon)
            self.display.say(f"seed {seed}: up to timestep {timestep:,} of {self.plan.horizon:,}")
        self.display.say(f"to go on: gallop run --resume {self.group.path}")

    def _say_what_came_out(self) -> None:
        """Table, figures, and an error where a run failed."""
        returns = final_and_best(self.runs)
        if returns:
            final = summarise_seeds([final for final, _ in returns.values()], _generator())
            self.display.seeds(f"{_title(self.experiment)}, {self.group.path}", returns, final)
            self.display.say(f"\nfigure  {self.group.learning_curve}")
            self.display.say(f"numbers {self.group.summary_file}")
        for seed, reason in self.failures.items():
            self.display.say(f"seed {seed} failed: {reason}")
        if self.failures:
            n, (seed, reason) = len(self.failures), next(iter(self.failures.items()))
            raise SeedsFailedError(
                f"{n} of {len(self.runs)} runs of {self.group.path} failed: seed {seed}: {reason}; "
                f"gallop run --resume {self.group.path} tries again"
            )


# --- what the runs say together, from their files alone ------------------------------------------


def final_and_best(runs: Mapping[int, RunDirectory]) -> dict[int, tuple[float, float]]:
    """Training seed -> mean evaluation return of its final and its best policy; finished runs."""
    found = {}
    for seed, run in runs.items():
        policies = [run.numbers.read_episodes(policy) for policy in ("final", "best")]
        if run.is_finished() and all(policies):
            final, best = (float(episodes.returns.mean()) for episodes in policies if episodes)
            found[seed] = final, best
    return found


def evaluations_over_seeds(
    runs: Mapping[int, RunDirectory],
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[int]]:
    """Every evaluation during training so far.

    Returns:
        Timesteps [k]; mean returns [n_runs, k], NaN where a run has no such evaluation; and the
        seeds [n_runs] of those that have any.
    """
    means: dict[int, dict[int, float]] = {}
    for seed, run in runs.items():
        evaluations = run.numbers.read_evaluations()
        if evaluations is not None and len(evaluations.timesteps):
            rows = evaluations.results.mean(axis=1).tolist()
            means[seed] = dict(zip(evaluations.timesteps.tolist(), rows, strict=True))
    timesteps = sorted({timestep for row in means.values() for timestep in row})
    returns = [[row.get(timestep, np.nan) for timestep in timesteps] for row in means.values()]
    shape = len(means), len(timesteps)
    return np.array(timesteps, dtype=np.int64), np.array(returns).reshape(shape), list(means)


def draw_all(path: Path) -> list[Path]:
    """curve.csv, learning_curve.png and summary.json anew, from the runs' files; the paths written.

    Raises:
        RunError: if the folder is no group, or nothing of it was evaluated so far.
    """
    group = SeedGroup(path)
    experiment = group.read_experiment()
    runs = {seed: group.run(seed) for seed in group.read_seeds()}
    written = draw_group(group, runs, experiment)
    if not written:
        raise RunError(f"{path} has nothing to draw yet: none of its runs was evaluated so far")
    return written


def draw_group(
    group: SeedGroup, runs: Mapping[int, RunDirectory], experiment: Experiment
) -> list[Path]:
    """curve.csv, learning_curve.png and summary.json, as far as the runs are; the paths written."""
    written = []
    timesteps, returns, seeds = evaluations_over_seeds(runs)
    if seeds:
        curve = curve_over_seeds(returns, _generator())
        _write_curve(group.curve_file, timesteps, curve)
        figure = figures.curves_over_seeds(_title(experiment), timesteps, returns, seeds, curve)
        figures.save(figure, group.learning_curve)
        written += [group.curve_file, group.learning_curve]
    judged = final_and_best(runs)
    if judged:
        summary = _summary(experiment, judged, [seed for seed in runs if seed not in judged])
        write_bytes(group.summary_file, (json.dumps(summary, indent=2) + "\n").encode())
        written.append(group.summary_file)
    return written


def _write_curve(path: Path, timesteps: NDArray[np.int64], curve: SeedCurve) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["timestep", "iqm", "low", "high", "n"])
    columns = (timesteps, curve.iqm, curve.low, curve.high, curve.n)
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    write_bytes(path, text.getvalue().encode())


def _summary(
    experiment: Experiment, judged: Mapping[int, tuple[float, float]], unfinished: Sequence[int]
) -> dict[str, Any]:
    """summary.json: the final and the best policies over the training seeds that are finished."""
    summary: dict[str, Any] = {
        "algo": experiment.algo.upper(),
        "env": experiment.env,
        "training_seeds": list(judged),
        "unfinished_training_seeds": list(unfinished),
    }
    for place, policy in enumerate(("final", "best")):
        returns = {str(seed): values[place] for seed, values in judged.items()}
        over_seeds = summarise_seeds(list(returns.values()), _generator())
        summary[policy] = as_plain(over_seeds) | {"mean_return_of_seed": returns}
    return summary


def _title(experiment: Experiment) -> str:
    return f"{experiment.algo.upper()} on {experiment.env}"


def _generator() -> np.random.Generator:
    """For bootstrap intervals: the same returns always have the same interval."""
    return np.random.default_rng(0)


def _is_held(run: RunDirectory) -> bool:
    """Whether another process is running it. What cannot be written is not held: it will fail."""
    return os.access(run.state, os.W_OK) and run.is_locked()


def _timestep(run: RunDirectory, state: State, horizon: int) -> int:
    return horizon if state == "finished" else resume_state.last_timestep(run.state)


class _Progress:
    """How far the runs are, seen from their folders: a live table, or lines without a terminal."""

    def __init__(
        self,
        display: Display,
        runs: Mapping[int, RunDirectory],
        states: Mapping[int, State],
        horizon: int,
    ) -> None:
        self._display, self._runs, self._states, self._horizon = display, runs, states, horizon
        self._returns: dict[int, tuple[int, float]] = {}
        """Seed -> timestep and mean return of its latest evaluation."""
        self._shown: dict[int, tuple[State, int]] = {}
        self._bar = Progress(
            TextColumn("all runs"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[left]}"),
            expand=True,
            console=display.console,
        )
        self._task = self._bar.add_task("", total=horizon * len(runs), speed="", left="")
        self._live: Live | None = None
        self._started = self._looked = time.monotonic()
        self._first = 0

    def __enter__(self) -> _Progress:
        for seed in self._runs:
            self._look(seed)
            self._shown[seed] = self._states[seed], self._returns.get(seed, (0, 0.0))[0]
        self._first = self._now()
        if self._display.console.is_terminal:
            console = self._display.console
            self._live = Live(self._picture(), console=console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.show(at_once=True)
        if self._live is not None:
            self._live.stop()

    def show(self, at_once: bool = False) -> None:
        """Look into the folders and show what is new; often called, seldom done."""
        if not at_once and time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        for seed in self._runs:
            if self._shown[seed][0] != "finished":
                self._look(seed)
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        for seed, state in self._states.items():
            timestep, mean_return = self._returns.get(seed, (0, 0.0))
            before, evaluated_before = self._shown[seed]
            self._shown[seed] = state, timestep
            if self._live is not None:
                continue
            if timestep > evaluated_before:
                self._display.say(
                    f"seed {seed}: {timestep:>10,} of {self._horizon:,} timesteps  "
                    f"return {mean_return:,.1f}  {self._speed()}  {self._left()}".rstrip()
                )
            if state != before and state in ("finished", "failed"):
                final = self._runs[seed].numbers.final_return() if state == "finished" else None
                shown = "" if final is None else f"; return of the final policy {final:,.1f}"
                self._display.say(f"seed {seed}: {state}{shown}")

    def _look(self, seed: int) -> None:
        evaluations = self._runs[seed].numbers.read_evaluations()
        if evaluations is not None and len(evaluations.timesteps):
            mean_return = float(evaluations.results[-1].mean())
            self._returns[seed] = int(evaluations.timesteps[-1]), mean_return

    def _now(self) -> int:
        """Timesteps of all runs."""
        return sum(self._timestep(seed) for seed in self._runs)

    def _timestep(self, seed: int) -> int:
        return _timestep(self._runs[seed], self._states[seed], self._horizon)

    def _picture(self) -> Stacked:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("seed", justify="right")
        table.add_column("timestep", justify="right")
        table.add_column("return", justify="right")
        table.add_column("")
        for seed, state in self._states.items():
            known = seed in self._returns
            shown = f"{self._returns[seed][1]:,.1f}" if known else ""
            table.add_row(str(seed), f"{self._timestep(seed):,}", shown, state)
        self._bar.update(self._task, completed=self._now(), speed=self._speed(), left=self._left())
        return Stacked(self._bar.get_renderable(), table)  # a table too long is cut at its end

    def _speed(self) -> str:
        seconds, done = time.monotonic() - self._started, self._now() - self._first
        return f"{done / seconds:,.0f} SPS" if done else ""

    def _left(self) -> str:
        seconds, done = time.monotonic() - self._started, self._now() - self._first
        left = len(self._runs) * self._horizon - self._now()
        return f"{duration(seconds * left / done)} left" if done else ""
