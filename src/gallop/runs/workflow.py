"""One run from beginning to end: baseline → segments → milestones → figures and films.

Everything that a run writes happens here or below; `run` and `resume` differ only in where the
loop starts. The commit point is `checkpoint.save_boundary`: whatever a killed run wrote after its
last boundary is forgotten, or written again with the same bits.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallop import __version__
from gallop.environments.make import evaluation_env, try_out
from gallop.environments.spaces import Space
from gallop.errors import RunError
from gallop.evaluation.episodes import Episodes, RandomPolicy, evaluate
from gallop.evaluation.statistics import compare, summarise
from gallop.experiments import seeding
from gallop.experiments.plan import Boundary, Plan, make_plan
from gallop.experiments.settings import Experiment
from gallop.learners.choose import Choice, choose_learner
from gallop.learners.learner import Learner
from gallop.machine import machine
from gallop.policies.policy import Policy
from gallop.report import video
from gallop.report.display import Display, Pair, Row
from gallop.report.run_report import (
    _generator,
    _meta,
    _slope,
    _title,
    draw_curves,
    draw_milestone,
    draw_milestone_bars,
    milestone_returns,
)
from gallop.run_folder import resume_state, trackers
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import new_folder, remove_leftovers, replacing
from gallop.run_folder.find_policy import policy_path
from gallop.run_folder.lookup import run_path
from gallop.run_folder.provenance import now, provenance, versions
from gallop.run_folder.trackers import Tracker, Trackers
from gallop.runs.film_queue import FILM, GIF, NOT_YET, FilmQueue
from gallop.runs.stopping import Stop, Stopped
from gallop.runs.training import Outcome, learner_for, train

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


log = logging.getLogger(__name__)


def plan_run(experiment: Experiment) -> tuple[Plan, Choice]:
    """What a run of this experiment will do.

    Raises:
        ExperimentError: if the task does not work, the algorithm cannot serve it, or a tracker is
            not installed.
    """
    trackers.check_installed(experiment.trackers)
    observation_space, action_space = try_out(experiment)
    choice = choose_learner(experiment, observation_space, action_space)
    replay = hasattr(experiment.hyperparameters, "buffer_size")
    transition_bytes = 0
    if replay:
        rounded = choice.name == "native"
        transition_bytes = _transition_bytes(observation_space, action_space, rounded)
    plan = make_plan(experiment, transition_bytes, choice.name)
    return plan, choice


def run(
    experiment: Experiment,
    results: Path = Path("results"),
    name: str | None = None,
    display: Display | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> RunDirectory:
    """Train, evaluate and film one experiment in a new run folder.

    Args:
        experiment: resolved, from `experiment_file.load` or `from_dict`.
        results: the folder that holds all runs.
        name: of the run; default: now, as YYYYMMDD_HHMMSS.
        own_trackers: objects of your own that take the run's numbers, besides those it names.

    Raises:
        ExperimentError: before anything is written, if the experiment cannot be run.
        RunError: if the folder exists already or cannot be written.
        Stopped: after SIGINT or SIGTERM; `resume` goes on.
    """
    display = display or Display()
    plan, choice = plan_run(experiment)
    name = name or datetime.datetime.now().strftime("%Y%m%d_%H%M%S")
    folder = RunDirectory(run_path(results, experiment.algo, experiment.env, name))
    display.plan(experiment, plan, choice, folder.path)
    # What cannot be made is refused before anything is written.
    display.say("making environments and networks")
    with learner_for(experiment) as (environments, learner):
        if experiment.init_from:
            learner.read_policy(policy_path(Path(experiment.init_from)))
        folder.create(experiment, learner.save_policy if experiment.init_from else None)
        _write_records(folder, experiment, plan, choice)
        _Run(folder, experiment, plan, display, own_trackers).go(environments, learner)
    return folder


def prepare(path: Path, experiment: Experiment, plan: Plan, choice: Choice) -> RunDirectory:
    """A new run's folder as `run` leaves it before the first timestep; `resume` trains it.

    It appears whole or not at all.
    """
    with new_folder(path) as temporary:
        folder = RunDirectory(temporary)
        folder.state.mkdir()
        if experiment.init_from:
            with learner_for(experiment) as (_, learner):
                learner.read_policy(policy_path(Path(experiment.init_from)))
                learner.save_policy(folder.initial_model)
        _write_records(folder, experiment, plan, choice)
        folder.write_experiment(experiment)
    return RunDirectory(path)


def resume(
    folder: RunDirectory,
    display: Display | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> None:
    """Go on from a run's last boundary to its end, with the experiment that its folder holds.

    Raises:
        RunError: if the folder holds no run, or another process is running it.
        Stopped: after SIGINT or SIGTERM.
    """
    display = display or Display()
    experiment = folder.read_experiment()
    plan, choice = plan_run(experiment)
    with folder.locked():
        if not folder.seeds_file.exists():  # killed in its first moment
            _write_records(folder, experiment, plan, choice)
        record = folder.read_json("provenance.json")
        if record["learner"] != choice.name:
            raise RunError(f"{folder.path} was trained by {record['learner']}, not {choice.name}")
        today = {**versions(), "kernels": choice.instruction_set}
        before = {**record["versions"], "kernels": record["instruction_set"]}
        _warn_of_changes(before, today, display)
        record["resumes"].append({"at": now(), "command": sys.argv, **machine()})
        folder.write_json("provenance.json", record)
        remove_leftovers(folder.path)
    display.plan(experiment, plan, choice, folder.path)
    go_on(folder, experiment, plan, display, own_trackers)


def go_on(
    folder: RunDirectory,
    experiment: Experiment,
    plan: Plan,
    display: Display,
    own_trackers: Sequence[Tracker] = (),
) -> None:
    """From the last boundary of a folder, or its very beginning, to the end of the plan."""
    display.say("making environments and networks")
    with learner_for(experiment) as (environments, learner):
        if folder.initial_model.exists() and resume_state.newest_boundary(folder.state) is None:
            learner.read_policy(folder.initial_model)
        _Run(folder, experiment, plan, display, own_trackers).go(environments, learner)


class _Run:
    """A run under way."""

    def __init__(
        self,
        folder: RunDirectory,
        experiment: Experiment,
        plan: Plan,
        display: Display,
        own_trackers: Sequence[Tracker],
    ) -> None:
        self.folder, self.experiment, self.plan, self.display = folder, experiment, plan, display
        self.title = _title(experiment)
        self.stop = Stop()
        self.films = FilmQueue(folder)
        self.trackers = Trackers()
        self.own_trackers = own_trackers
        self.make = functools.partial(evaluation_env, experiment)

    def go(self, environments: VecEnv, learner: Learner) -> None:
        """From wherever the folder stands to the end."""
        with self.folder.locked(), _logging_to(self.folder.log_file), self.stop.listening():
            try:
                self._go(environments, learner)
            except Stopped as stopped:
                self._say_what_is_kept(stopped)
                raise
            finally:
                self.films.close()

    def _go(self, environments: VecEnv, learner: Learner) -> None:
        log.info("gallop %s: %s", __version__, " ".join(sys.argv))
        baseline = self.folder.numbers.read_baseline()
        if baseline is None:
            baseline = self._evaluate_random_policy()
        self.stop.check()
        self._train(environments, learner, baseline)
        self._finish(baseline)

    # --- stages ---

    def _evaluate_random_policy(self) -> NDArray[np.float64]:
        self.display.say("random policy: 10 episodes")
        env = self.make()
        policy = RandomPolicy(env.action_space, seeding.EVALUATION_SEEDS)
        env.close()
        episodes = self._evaluate(policy, seeding.EVALUATION_SEEDS)
        self.folder.numbers.append_episodes("random", 0, "evaluation", episodes)
        self.folder.numbers.write_baseline(episodes)
        return episodes.returns

    def _train(self, environments: VecEnv, learner: Learner, baseline: NDArray[np.float64]) -> None:
        saved = resume_state.newest_boundary(self.folder.state)
        n_done, timestep = (saved.n_segments, saved.timestep) if saved else (0, 0)
        self.folder.numbers.forget_after(timestep)
        if n_done == len(self.plan.boundaries):
            return
        if saved:
            resume_state.load_boundary(saved, learner)
            self.display.say(f"going on from timestep {timestep:,}")
            log.info("resumed at timestep %d", timestep)
        seed = self.experiment.training_seed
        opened = trackers.opened(self.folder, self.experiment, timestep, self.own_trackers)
        with opened as self.trackers, self.display.bar(self.plan.horizon, timestep):
            self.display.learning()
            for outcome in train(self.plan, learner, environments, seed, n_done, self._tick):
                self._note(outcome, learner)
                self._judge(outcome.boundary, learner, baseline)
                resume_state.save_boundary(self.folder.state, learner, outcome.boundary.segment + 1)
                self.films.poll()
                self.stop.check()
                self.display.learning()

    def _note(self, outcome: Outcome, learner: Learner) -> None:
        """Write down what the segment tells about itself."""
        timestep, diagnostics = outcome.boundary.timestep, outcome.diagnostics
        self.display.tick(timestep)
        speed = diagnostics.n_timesteps / diagnostics.seconds
        n_gradient_steps = learner.n_gradient_steps
        log.info("timestep %d: %.0f SPS, %d gradient steps", timestep, speed, n_gradient_steps)
        if diagnostics.n_unstable:
            log.warning("physics blew up in %d episodes", diagnostics.n_unstable)
        self.folder.numbers.append_log(diagnostics.rows)
        self.trackers.log(diagnostics.rows)

    def _tick(self, timestep: int) -> None:
        self.stop.check()
        self.display.tick(timestep)
        self.films.poll()

    def _judge(self, at: Boundary, learner: Learner, baseline: NDArray[np.float64]) -> None:
        """Evaluate, keep the best policy, and fill a milestone, as the boundary asks."""
        if at.evaluates:
            self.display.activity("evaluating")
            self._evaluate_during_training(at.timestep, learner)
        if at.milestone is not None:
            self.display.activity(f"{at.milestone} % milestone")
            self._fill_milestone(at.milestone, at.timestep, learner, baseline)
        if at.evaluates:
            draw_curves(self.folder, self.experiment)
        if at.timestep == self.plan.horizon:
            with replacing(self.folder.path) as temporary:
                learner.save_policy(temporary / self.folder.final_model.name)

    def _evaluate_during_training(self, timestep: int, learner: Learner) -> None:
        seeds = seeding.VALIDATION_SEEDS[: self.experiment.evaluation.n_episodes]
        episodes = self._evaluate(learner.policy, seeds)
        self.folder.numbers.append_episodes("current", timestep, "validation", episodes)
        evaluations = self.folder.numbers.append_evaluation(timestep, episodes)
        means = evaluations.results.mean(axis=1)
        if means[-1] > max(means[:-1], default=-np.inf):
            with replacing(self.folder.path) as temporary:
                learner.save_policy(temporary / self.folder.best_model.name)
        self.trackers.log(evaluations.log_rows()[-1:])
        self.display.evaluated(timestep, float(means[-1]))

    def _fill_milestone(
        self, percent: int, timestep: int, learner: Learner, baseline: NDArray[np.float64]
    ) -> None:
        milestone = self.folder.milestone(percent)
        episodes = self._evaluate(learner.policy, seeding.EVALUATION_SEEDS)
        self.folder.numbers.append_episodes(f"{percent:03d}", timestep, "evaluation", episodes)
        with replacing(milestone.path) as temporary:
            learner.save_policy(temporary / milestone.model.name)
        milestone.write_rewards(episodes)
        draw_milestone(self.folder, self.experiment, percent, timestep)
        missing = {} if self.experiment.films else {FILM: "films: false"}
        if self.experiment.films:
            video.write_job(self.folder.film_job(percent), self.experiment, episodes, index=0)
            missing = {FILM: NOT_YET, GIF: NOT_YET}
        slope = _slope(self.folder, timestep)
        milestone.write_meta(
            _meta(self.experiment, timestep, episodes, baseline, slope) | {"missing": missing}
        )

    def _finish(self, baseline: NDArray[np.float64]) -> None:
        """What is done once, after the last segment; doing it again changes nothing."""
        self.stop.check()
        rows = [Row("random", 0, summarise(baseline, _generator()))]
        pairs: list[Pair] = []
        before, returns_before = "random", baseline
        for percent, (timestep, returns) in milestone_returns(self.folder, self.plan).items():
            rows.append(Row(f"{percent} %", timestep, summarise(returns, _generator())))
            label = f"{percent} % − {before}"
            pairs.append(Pair(label, compare(returns, returns_before, _generator())))
            before, returns_before = f"{percent} %", returns
        draw_milestone_bars(self.folder, self.experiment, self.plan)
        self.display.say("best and final policy: 10 episodes each, read back from their zips")
        evaluations = self.folder.numbers.read_evaluations()
        assert evaluations is not None
        best_at = int(evaluations.timesteps[evaluations.results.mean(axis=1).argmax()])
        judged = []
        for label, path, timestep in (
            ("best", self.folder.best_model, best_at),
            ("final", self.folder.final_model, self.plan.horizon),
        ):
            episodes = self._evaluate(self._read_policy(path), seeding.EVALUATION_SEEDS)
            self.folder.numbers.append_episodes(label, timestep, "evaluation", episodes)
            rows.append(Row(label, timestep, summarise(episodes.returns, _generator())))
            judged.append(episodes.returns)
            self.stop.check()
        pairs.append(Pair("best − final", compare(judged[0], judged[1], _generator())))
        self._wait_for_films()
        record = self.folder.read_json("provenance.json")
        if record["end"] is None:
            self.folder.write_json("provenance.json", record | {"end": now()})
        self.display.results(f"{self.title}, {self.folder.path}", rows, pairs)
        self.display.meaning(len(seeding.EVALUATION_SEEDS))
        self.display.slope(_slope(self.folder, self.plan.horizon), len(evaluations.timesteps))
        self._say_where_things_are()

    # --- helpers ---

    def _evaluate(self, policy: Policy, seeds: Sequence[int]) -> Episodes:
        episodes = evaluate(policy, self.make, seeds)
        if episodes.n_unstable:
            log.warning("physics blew up in %d of %d episodes", episodes.n_unstable, len(seeds))
        return episodes

    def _read_policy(self, path: Path) -> Policy:
        from gallop.policies import sb3_zip

        env = self.make()
        env.close()
        return sb3_zip.read(path, env.observation_space, env.action_space)

    def _wait_for_films(self) -> None:
        with self.display.console.status("filming") as status:
            while self.films.poll():
                status.update(self.films.describe())
                self.stop.check()
                time.sleep(0.2)

    def _say_where_things_are(self) -> None:
        folder, say = self.folder, self.display.say
        say("")
        for path in (folder.learning_curve, folder.comparison, folder.milestone_bars):
            say(f"figure  {path}")
        for percent in self.experiment.milestones:
            milestone = folder.milestone(percent)
            missing = (milestone.read_meta() or {}).get("missing", {})
            if milestone.film.exists():
                say(f"film    {milestone.film}")
            elif FILM in missing:
                say(f"film    {milestone.film} is missing: {missing[FILM]}")
        say(f"policy  {folder.best_model}")
        say(f"to see it move: gallop watch {folder.path}")

    def _say_what_is_kept(self, stopped: Stopped) -> None:
        saved = resume_state.newest_boundary(self.folder.state)
        kept = saved.timestep if saved else 0
        lost = max(0, self.display.timestep - kept)
        self.display.say(
            f"stopped by {stopped}: kept everything up to timestep {kept:,}; "
            f"lost {lost:,} timesteps since then\n"
            f"to go on: gallop run --resume {self.folder.path}"
        )
        log.info("stopped by %s; resumable from timestep %d", stopped, kept)


def _write_records(
    folder: RunDirectory, experiment: Experiment, plan: Plan, choice: Choice
) -> None:
    """provenance.json and seeds.json, before the first timestep."""
    folder.write_json("provenance.json", provenance(choice))
    write_seeds(folder, experiment, plan)


def write_seeds(folder: RunDirectory, experiment: Experiment, plan: Plan) -> None:
    """seeds.json."""
    n_validation, n_segments = experiment.evaluation.n_episodes, len(plan.boundaries)
    seeds = seeding.families(experiment.training_seed, n_validation, n_segments)
    folder.write_json("seeds.json", seeds)


def _warn_of_changes(before: dict[str, str], today: dict[str, str], display: Display) -> None:
    changed = [f"{n} {before.get(n)} → {v}" for n, v in today.items() if before.get(n) != v]
    if changed:
        display.say(
            f"versions have changed since the run started ({', '.join(changed)}): it goes on, "
            "but not with the bits that it would have had"
        )


def _transition_bytes(observation_space: Space, action_space: Space, rounded: bool) -> int:
    """Bytes of a transition in the replay buffer: the task's own numbers in SB3's, `rounded` to
    float32 in the native learner's."""
    from gymnasium import spaces

    def size(space: Space) -> int:
        if isinstance(space, spaces.Dict):
            return sum(size(part) for part in space.values())
        dtype = np.float32 if rounded else space.dtype or np.float32
        return int(np.prod(space.shape or (1,))) * np.dtype(dtype).itemsize

    actions = int(np.prod(action_space.shape or (1,))) * 4
    ends = 1 if rounded else 2 * 4  # SB3 has done and timeout
    return 2 * size(observation_space) + actions + 4 + ends  # reward: 4


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send Gallop's log, and every warning of a dependency, to run.log instead of the screen."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("gallop", "py.warnings")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
