"""The stages of a run: random policy → segments and their evaluations → best and final policy.

The commit point is `resume_state.save_boundary`: whatever a killed run wrote after its last
boundary is forgotten, or written again with the same bits.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallop import __version__
from gallop.ending import last_words
from gallop.environments.make import evaluation_env
from gallop.environments.task_errors import say_once
from gallop.errors import DivergedError, FrozenError, RunError, TaskError, WorkerError
from gallop.evaluation.episodes import Episodes, RandomPolicy, evaluate
from gallop.experiments import seeding
from gallop.experiments.plan import Boundary
from gallop.learners.learner import Learner
from gallop.policies.normalizer_file import normalizer_path
from gallop.policies.policy import Policy
from gallop.report import run_report, video
from gallop.report.display import Display
from gallop.report.run_figures import draw_curves, draw_milestone, draw_milestone_bars
from gallop.run_folder import manifest, resume_state, trackers
from gallop.run_folder.directory import Diverged, RunDirectory
from gallop.run_folder.files import remove_leftovers
from gallop.run_folder.manifest import replacing_results
from gallop.run_folder.numbers import Segment
from gallop.run_folder.prepared import PreparedRun
from gallop.run_folder.provenance import now, record_resume
from gallop.run_folder.resume_state import Saved
from gallop.run_folder.trackers import Tracker, Trackers
from gallop.runs import recovery, space
from gallop.runs.film_queue import NOT_YET, FilmQueue
from gallop.runs.run_log import logging_to
from gallop.runs.stopping import Stop, Stopped
from gallop.runs.training import Outcome, train

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

log = logging.getLogger(__name__)


class Stages:
    """A run under way."""

    def __init__(
        self,
        folder: RunDirectory,
        prepared: PreparedRun,
        display: Display,
        own_trackers: Sequence[Tracker],
        drop_damaged: bool = False,
        resumed: bool = False,
    ) -> None:
        self.folder, self.prepared, self.display = folder, prepared, display
        self.experiment, self.plan = prepared.experiment, prepared.plan
        self.stop = Stop()
        self.films = FilmQueue(folder, prepared.experiment)
        self.trackers = Trackers()
        self.own_trackers = own_trackers
        self.drop_damaged, self.resumed = drop_damaged, resumed
        self.make_env = functools.partial(evaluation_env, prepared.experiment)

    def go(self, environments: VecEnv, learner: Learner) -> None:
        """From wherever the folder, which the caller holds, stands to the end."""
        with (
            logging_to(self.folder.log_file),
            last_words(self._what_is_kept),
            self.stop.listening(self.display.say),
            space.explaining(self.folder, self.plan),
        ):
            say_once.cache_clear()
            try:
                self._go(environments, learner)
            except Stopped as stopped:
                self._say_what_is_kept(f"stopped by {stopped}")
                raise
            except (WorkerError, FrozenError, KeyboardInterrupt) as error:
                log.info("ended: %s", error or type(error).__name__, exc_info=error)
                own = isinstance(error, KeyboardInterrupt) and not self.stop.was_asked
                raised = f"{self.experiment.env} raised KeyboardInterrupt, which counts as Ctrl-C; "
                self._say_what_is_kept(f"{raised * own}the run ends here")
                raise
            except (TaskError, DivergedError) as error:
                self._say_what_failed(error)
                raise
            finally:
                self.films.close()
                self._settle()

    def _go(self, environments: VecEnv, learner: Learner) -> None:
        log.info("gallop %s: %s", __version__, " ".join(sys.argv))
        if self.folder.is_finished():
            self._goes_on()
            self._wait_for_films()
            return
        baseline = self.folder.numbers.read_baseline()
        if baseline is None:
            baseline = self._evaluate_random_policy()
        self.stop.check()
        self._train(environments, learner, baseline)
        self._finish()

    def _goes_on(self) -> None:
        """Said when nothing refuses it any more: a refused resume leaves a run as it is."""
        if self.resumed:
            record_resume(self.folder)
            self.folder.forget_diverged()

    def _settle(self) -> None:
        """Nothing more is written: of each file, the manifest knows one content alone."""
        try:
            self.folder.check_held()
            manifest.settle(self.folder.path)
        except (RunError, OSError) as error:  # what ended the run has been said
            log.warning("%s", error)

    # --- stages ---

    def _evaluate_random_policy(self) -> NDArray[np.float64]:
        self.display.say("random policy: 10 episodes")
        policy = RandomPolicy(self.prepared.action_space, seeding.EVALUATION_SEEDS)
        episodes = self._evaluate(policy, seeding.EVALUATION_SEEDS)
        self.folder.numbers.append_episodes("random", 0, "evaluation", episodes)
        self.folder.numbers.write_baseline(episodes)
        return episodes.returns

    def _train(self, environments: VecEnv, learner: Learner, baseline: NDArray[np.float64]) -> None:
        if recovery.is_trained(self.folder, self.plan):
            self._goes_on()
            resume_state.prune(self.folder.state, self._kept())  # a kill may have come between
            return
        saved = recovery.starting_point(self.folder, self.plan, self.display, self.drop_damaged)
        n_done, timestep = (saved.n_segments, saved.timestep) if saved else (0, 0)
        if saved:
            resume_state.load_boundary(saved, learner)
        elif self.folder.initial_model.exists():
            learner.read_policy(self.folder.initial_model)
        self.folder.check_held()
        self._goes_on()
        self.folder.numbers.forget_after(timestep)
        if saved:
            self._record_segment(saved)  # a kill may have come between
            resume_state.prune(self.folder.state, self._kept())  # likewise
            self.display.say(f"going on from timestep {timestep:,}")
            log.info("resumed at timestep %d", timestep)
        if n_done == len(self.plan.boundaries):
            return
        seed = self.experiment.training_seed
        opened = trackers.opened(self.folder, self.experiment, timestep, self.own_trackers)
        with opened as self.trackers, self.display.bar(self.plan.horizon, timestep):
            self.display.learning()
            for outcome in train(self.plan, learner, environments, seed, n_done, self._tick):
                self.folder.check_held()
                self._note(outcome, learner)
                self._judge(outcome.boundary, learner, baseline)
                self._save(outcome.boundary, learner)
                self.films.poll()
                self.stop.check()
                self.display.learning()

    def _save(self, at: Boundary, learner: Learner) -> None:
        """The commit."""
        self.folder.check_held()
        saved = resume_state.save_boundary(self.folder.state, learner, at.segment + 1, self._kept())
        self._record_segment(saved)
        if at.timestep < self.plan.horizon:
            space.check_at(saved, self.folder, self.plan)

    def _record_segment(self, saved: Saved) -> None:
        shard, digest = list(saved.shards.items())[-1] if saved.shards else ("", "")
        self.folder.numbers.append_segment(
            Segment(saved.n_segments - 1, saved.timestep, saved.learner_sha256, shard, digest)
        )

    def _kept(self) -> set[int]:
        """Timesteps of the boundaries whose learners are kept."""
        evaluations = self.folder.numbers.read_evaluations()
        kept = {b.timestep for b in self.plan.boundaries if b.milestone is not None}
        best = None if evaluations is None else evaluations.best_timestep
        return kept if best is None else kept | {best}

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
            with replacing_results(self.folder.path) as temporary:
                learner.save_policy(temporary / self.folder.final_model.name)

    def _evaluate_during_training(self, timestep: int, learner: Learner) -> None:
        seeds = seeding.VALIDATION_SEEDS[: self.experiment.evaluation.n_episodes]
        episodes = self._evaluate(learner.policy, seeds)
        self.folder.numbers.append_episodes("current", timestep, "validation", episodes)
        evaluations = self.folder.numbers.append_evaluation(timestep, episodes)
        if evaluations.last_is_best:
            with replacing_results(self.folder.path) as temporary:
                learner.save_policy(temporary / self.folder.best_model.name)
        self.trackers.log(evaluations.log_rows()[-1:])
        self.display.evaluated(timestep, float(evaluations.mean_returns[-1]))

    def _fill_milestone(
        self, percent: int, timestep: int, learner: Learner, baseline: NDArray[np.float64]
    ) -> None:
        milestone = self.folder.milestone(percent)
        episodes = self._evaluate(learner.policy, seeding.EVALUATION_SEEDS)
        self.folder.numbers.append_episodes(f"{percent:03d}", timestep, "evaluation", episodes)
        with replacing_results(milestone.path) as temporary:
            learner.save_policy(temporary / milestone.model.name)
        milestone.write_rewards(episodes)
        draw_milestone(self.folder, self.experiment, percent, timestep)
        missing = {milestone.film.name: "films: false"}
        if self.experiment.films:
            why_not = self._write_film_job(percent, episodes)
            missing = dict.fromkeys((milestone.film.name, milestone.gif.name), why_not)
        slope = run_report.slope_at(self.folder, timestep)
        record = run_report.milestone_record(self.experiment, timestep, episodes, baseline, slope)
        record |= run_report.reward_record(self.prepared.reward_wrappers)
        milestone.write_meta(record | {"missing": missing})

    def _write_film_job(self, percent: int, episodes: Episodes) -> str:
        """Queue the film of the first episode that can be told by its return.

        Returns:
            Why there is no film, so far or at all.
        """
        index = episodes.first_finite
        if index is None:
            return "no episode has a finite return"
        if index:
            seed = int(episodes.seeds[index])
            log.info("film of %d %%: seed %d, the first with a finite return", percent, seed)
        video.write_job(self.folder.film_job(percent), self.experiment, episodes, index)
        return NOT_YET

    def _finish(self) -> None:
        """What is done once, after the last segment; doing it again changes nothing."""
        self.stop.check()
        self.folder.check_held()
        draw_milestone_bars(self.folder, self.experiment, self.plan)
        self._evaluate_best_and_final_policy()
        self._wait_for_films()
        self.folder.check_held()
        record = self.folder.read_json("provenance.json")
        if record["end"] is None:
            self.folder.write_json("provenance.json", record | {"end": now()})
        remove_leftovers(self.folder.path)  # of writes that the system refused
        run_report.show(self.folder, self.experiment, self.plan, self.display)

    def _evaluate_best_and_final_policy(self) -> None:
        self.display.say("best and final policy: 10 episodes each, read back from their zips")
        evaluations = self.folder.numbers.read_evaluations()
        assert evaluations is not None
        judged = [("final", self.folder.final_model, self.plan.horizon)]
        if evaluations.best_timestep is not None:
            judged.insert(0, ("best", self.folder.best_model, evaluations.best_timestep))
        for _, path, _ in judged:
            manifest.check(path, normalizer_path(path))
        for label, path, timestep in judged:
            episodes = self._evaluate(self._read_policy(path), seeding.EVALUATION_SEEDS)
            self.folder.numbers.append_episodes(label, timestep, "evaluation", episodes)
            self.stop.check()

    # --- helpers ---

    def _evaluate(self, policy: Policy, seeds: Sequence[int]) -> Episodes:
        cut_after = self.prepared.cut_after
        episodes = evaluate(policy, self.make_env, seeds, cut_after, self.stop.check)
        n = len(seeds)
        if episodes.n_cut:
            log.info("%d of %d episodes were cut after %d timesteps", episodes.n_cut, n, cut_after)
        if episodes.n_not_finite:
            log.info("%d of %d returns are NaN or infinite", episodes.n_not_finite, n)
        if episodes.n_unstable:
            log.warning("physics blew up in %d of %d episodes", episodes.n_unstable, len(seeds))
        return episodes

    def _read_policy(self, path: Path) -> Policy:
        from gallop.policies import sb3_zip

        # Older runs that normalised rewards alone left zips that look as if observations were.
        options = sb3_zip.Options(takes_raw=not self.experiment.normalize.observations)
        spaces = self.prepared.observation_space, self.prepared.action_space
        return sb3_zip.read(path, *spaces, options)

    def _wait_for_films(self) -> None:
        with self.display.console.status("filming") as status:
            while self.films.poll():
                status.update(self.films.describe())
                self.stop.check()
                time.sleep(0.2)

    def _say_what_failed(self, error: TaskError | DivergedError) -> None:
        """The whole story goes to run.log; what is kept, and how to go on, to the screen."""
        details = error.details if isinstance(error, TaskError) else ""
        log.info("failed: %s\n%s", error, details)
        if isinstance(error, DivergedError):
            timestep = self.display.timestep
            told = Diverged(timestep, error.cause, str(error), error.evidence)
            self.folder.write_diverged(told)
            log.info("what led to it: %s", self.folder.diverged_file)
            if told.would_again:
                self.display.say(f"the last finite state and what led here: {self.folder.path}")
                return
        self._say_what_is_kept("the task has to be repaired")

    def _say_what_is_kept(self, what: str) -> None:
        self.display.say(f"{what}: {self._what_is_kept()}")
        log.info("%s: %s", what, self._what_is_kept())

    def _what_is_kept(self) -> str:
        saved = resume_state.newest_boundary(self.folder.state)
        kept = saved.timestep if saved else 0
        lost = max(0, self.display.timestep - kept)
        return (
            f"kept everything up to timestep {kept:,}; lost {lost:,} timesteps since then\n"
            f"to go on: gallop run --resume {self.folder.path}"
        )
