"""The stages of a run: random policy → segments and their evaluations → best and final policy.

The commit point is `resume_state.save_boundary`: what a killed run wrote after its last boundary is
dropped, or overwritten with identical bits.
"""

from __future__ import annotations

import contextlib
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
from gallop.environments.make import evaluation_env, evaluation_task
from gallop.environments.task_errors import say_once
from gallop.errors import (
    DivergedError,
    FrozenError,
    RunError,
    TaskError,
    WorkerError,
    counted,
)
from gallop.evaluation.audit.audit import why_not
from gallop.evaluation.episodes import Episodes, RandomPolicy, evaluate
from gallop.experiments import seeding
from gallop.experiments.plan import Boundary
from gallop.learners.learner import Learner
from gallop.policies.normalizer_file import normalizer_path
from gallop.policies.policy import Policy
from gallop.report import audit_files, run_report
from gallop.report.display import Display
from gallop.report.films import progress_film, video
from gallop.report.pages import page
from gallop.report.run_figures import draw_curves, draw_milestone, draw_milestone_bars
from gallop.run_folder import manifest, resume_state, trackers
from gallop.run_folder.directory import Diverged, RunDirectory
from gallop.run_folder.files import remove_leftovers
from gallop.run_folder.manifest import replacing_results, write_json_result
from gallop.run_folder.numbers import Segment
from gallop.run_folder.prepared import PreparedRun
from gallop.run_folder.provenance import now, record_resume
from gallop.run_folder.resume_state import Saved
from gallop.run_folder.trackers import Tracker, Trackers
from gallop.runs import audit_queue, recovery, space
from gallop.runs.audit_queue import AuditQueue
from gallop.runs.film_queue import NOT_YET, FilmQueue
from gallop.runs.run_log import logging_to
from gallop.runs.stopping import Stop, Stopped
from gallop.runs.training import Outcome, train

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

log = logging.getLogger(__name__)


class Stages:
    """A run while it trains."""

    def __init__(
        self,
        folder: RunDirectory,
        prepared: PreparedRun,
        display: Display,
        own_trackers: Sequence[Tracker],
        drop_damaged: bool = False,
        resumed: bool = False,
    ) -> None:
        """
        Args:
            folder: the run, which the caller has locked.
            prepared: its experiment and plan.
            display: where to print.
            own_trackers: custom trackers, in addition to those the experiment names.
            drop_damaged: continue without damaged parts of the replay buffer, if there is no other
                way.
            resumed: whether to record in provenance.json that the run was resumed.
        """
        self.folder, self.prepared, self.display = folder, prepared, display
        self.experiment, self.plan = prepared.experiment, prepared.plan
        self.stop = Stop()
        self.films = FilmQueue(folder, prepared.experiment)
        self.audits = AuditQueue(folder)
        self._n_on_page = 0  # audits and films that report.html was written after
        self._has_gone_on = False
        self.trackers = Trackers()
        self.own_trackers = own_trackers
        self.drop_damaged, self.resumed = drop_damaged, resumed
        self.make_env = functools.partial(evaluation_env, prepared.experiment)

    def go(self, environments: VecEnv, learner: Learner) -> None:
        """Continue the run, whose folder the caller has locked, from where it is to its end.

        Args:
            environments: the training environments.
            learner: a fresh learner, or one with the initial policy.

        Raises:
            Stopped: after SIGINT or SIGTERM.
            TaskError: if the task's code fails.
            DivergedError: if training diverges.
            DiskFullError: if the disk is full.
        """
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
                raised = f"{self.experiment.env} raised KeyboardInterrupt (same as Ctrl-C); "
                self._say_what_is_kept(f"{raised * own}the run has stopped")
                raise
            except (TaskError, DivergedError) as error:
                self._say_what_failed(error)
                raise
            finally:
                self.audits.close()
                self.films.close()
                self._leave_page()
                self._settle()

    def _go(self, environments: VecEnv, learner: Learner) -> None:
        log.info("gallop %s: %s", __version__, " ".join(sys.argv))
        if self.folder.is_finished():
            self._goes_on()
            self._wait_for_audits_and_films()
            return
        baseline = self.folder.numbers.read_baseline()
        if baseline is None:
            baseline = self._evaluate_random_policy()
        self.stop.check()
        self._train(environments, learner, baseline)
        self._finish()

    def _goes_on(self) -> None:
        """Record the resume, once nothing can refuse it: a refused resume must not change a run."""
        self._has_gone_on = True
        if self.resumed:
            record_resume(self.folder)
            self.folder.forget_diverged()

    def _settle(self) -> None:
        """Reduce the manifest to one hash per file, as nothing more will be written."""
        try:
            self.folder.check_held()
            manifest.settle(self.folder.path)
        except (RunError, OSError) as error:  # the error that ended the run has been reported
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
            resume_state.prune(self.folder.state, self._kept())  # a kill may have prevented it
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
            self._record_segment(saved)  # a kill may have prevented it
            resume_state.prune(self.folder.state, self._kept())  # likewise
            self.display.say(f"resuming from timestep {timestep:,}")
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
                self._poll()
                self.stop.check()
                self.display.learning()

    def _save(self, at: Boundary, learner: Learner) -> None:
        """Save a boundary, which commits everything up to it."""
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
        """Return the timesteps of boundaries whose learners are kept: milestones, best policy."""
        evaluations = self.folder.numbers.read_evaluations()
        kept = {b.timestep for b in self.plan.boundaries if b.milestone is not None}
        best = None if evaluations is None else evaluations.best_timestep
        return kept if best is None else kept | {best}

    def _note(self, outcome: Outcome, learner: Learner) -> None:
        """Log a segment's speed and add its rows to the run's log and trackers."""
        timestep, diagnostics = outcome.boundary.timestep, outcome.diagnostics
        self.display.tick(timestep)
        speed = diagnostics.n_timesteps / diagnostics.seconds
        n_gradient_steps = learner.n_gradient_steps
        n_steps = counted(n_gradient_steps, "gradient step")
        log.info("timestep %d: %.0f SPS, %s", timestep, speed, n_steps)
        if diagnostics.n_unstable:
            log.warning("physics unstable in %s", counted(diagnostics.n_unstable, "episode"))
        self.folder.numbers.append_log(diagnostics.rows)
        self.trackers.log(diagnostics.rows)

    def _tick(self, timestep: int) -> None:
        self.stop.check()
        self.display.tick(timestep)
        self._poll()

    def _poll(self) -> bool:
        """Go on with audits, then films, one at a time; return whether one is being made."""
        goes_on = self.films.is_busy and self.films.poll()
        goes_on = goes_on or self.audits.poll() or self.films.poll()
        n_ended = self.audits.n_ended + self.films.n_ended
        if n_ended != self._n_on_page:
            self._n_on_page = n_ended
            self._write_page()
        return goes_on

    def _write_page(self) -> None:
        """Write report.html as of now."""
        self.folder.check_held()
        page.keep_report(self.folder, running=True)

    def _leave_page(self) -> None:
        """Write report.html again if the run stops early: it says that training is going on."""
        if self._has_gone_on and self.folder.report.exists() and not self.folder.is_finished():
            with contextlib.suppress(RunError, OSError):  # the folder was lost, the disk is full
                self.folder.check_held()
                page.keep_report(self.folder)

    def _judge(self, at: Boundary, learner: Learner, baseline: NDArray[np.float64]) -> None:
        """Evaluate, keep the best policy and fill a milestone, as planned for the boundary."""
        if at.evaluates:
            self.display.activity("evaluating")
            self._evaluate_during_training(at.timestep, learner)
        if at.milestone is not None:
            self.display.activity(f"{at.milestone} % milestone")
            self._fill_milestone(at.milestone, at.timestep, learner, baseline)
        if at.evaluates:
            draw_curves(self.folder, self.experiment)
        if at.milestone is not None:
            self._write_page()
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
        if reason := self._write_audit_job(percent, episodes):
            missing[milestone.audit.name] = reason
        self._write_progress_job(percent)
        slope = run_report.slope_at(self.folder, timestep)
        record = run_report.milestone_record(
            self.experiment, timestep, episodes, baseline, slope, self.prepared.probed
        )
        record |= run_report.reward_record(self.prepared.reward_wrappers)
        record["task"] = self.prepared.task._asdict()
        milestone.write_meta(record | {"missing": missing})

    def _write_film_job(self, percent: int, episodes: Episodes) -> str:
        """Queue the film of the first episode with a finite return.

        Returns:
            Why there is no film yet, or none at all.
        """
        index = episodes.first_finite
        if index is None:
            return "no episode has a finite return"
        if index:
            seed = int(episodes.seeds[index])
            log.info("film of %d %%: seed %d, the first with a finite return", percent, seed)
        video.write_job(self.folder.film_job(percent), self.experiment, episodes, index)
        return NOT_YET

    def _write_audit_job(self, percent: int, episodes: Episodes) -> str:
        """Queue the audit of a milestone's episodes, or record that there is nothing to audit.

        Returns:
            Why there is no audit.json yet, or none at all; empty if there is one.
        """
        if not self.experiment.audit:
            return "audit: false"
        try:
            reason = audit_files.nothing_to_audit(evaluation_task(self.experiment), episodes)
        except Exception as error:  # whatever the model is like, training goes on
            log.warning("no audit of %d %%: %s", percent, error, exc_info=error)
            return f"{type(error).__name__}: {error}"
        if reason:
            write_json_result(self.folder.milestone(percent).audit, why_not(reason))
            return ""
        is_last = percent == self.experiment.milestones[-1]
        audit_files.write_job(self.folder.audit_job(percent), episodes, sensitive=is_last)
        return audit_queue.NOT_YET

    def _write_progress_job(self, percent: int) -> None:
        """Queue the film of all milestones side by side, once the last one is reached."""
        milestones = self.experiment.milestones
        if self.experiment.films and len(milestones) > 1 and percent == milestones[-1]:
            progress_film.write_job(self.folder.progress_job, milestones)

    def _finish(self) -> None:
        """Do what follows the last segment; doing it twice changes nothing."""
        self.stop.check()
        self.folder.check_held()
        draw_milestone_bars(self.folder, self.experiment, self.plan)
        self._evaluate_best_and_final_policy()
        self._wait_for_audits_and_films()
        self.folder.check_held()
        record = self.folder.read_json("provenance.json")
        if record["end"] is None:
            self.folder.write_json("provenance.json", record | {"end": now()})
        self._write_page()
        remove_leftovers(self.folder.path)  # of writes that failed
        run_report.show(self.folder, self.experiment, self.plan, self.display)

    def _evaluate_best_and_final_policy(self) -> None:
        self.display.say("best and final policy: 10 episodes each, loaded from their zip files")
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
        n_threads = self.prepared.experiment.n_threads
        episodes = evaluate(policy, self.make_env, seeds, cut_after, self.stop.check, n_threads)
        n, after = counted(len(seeds), "episode"), counted(cut_after, "timestep")
        if episodes.n_cut:
            log.info("%d of %s cut after %s", episodes.n_cut, n, after)
        if episodes.n_not_finite:
            log.info("return NaN or infinite in %d of %s", episodes.n_not_finite, n)
        if episodes.n_unstable:
            log.warning("physics unstable in %d of %s", episodes.n_unstable, n)
        return episodes

    def _read_policy(self, path: Path) -> Policy:
        from gallop.policies import sb3_zip

        # In older runs that normalised only rewards, zips look as if observations were normalised.
        options = sb3_zip.Options(takes_raw=not self.experiment.normalize.observations)
        spaces = self.prepared.observation_space, self.prepared.action_space
        return sb3_zip.read(path, *spaces, options)

    def _wait_for_audits_and_films(self) -> None:
        with self.display.console.status("auditing and filming") as status:
            while self._poll():
                status.update(self.audits.describe() or self.films.describe())
                self.stop.check()
                time.sleep(0.2)

    def _say_what_failed(self, error: TaskError | DivergedError) -> None:
        """Log all details of a failure; print what is saved and how to resume."""
        details = error.details if isinstance(error, TaskError) else ""
        log.info("failed: %s\n%s", error, details)
        if isinstance(error, DivergedError):
            timestep = self.display.timestep
            told = Diverged(timestep, error.cause, str(error), error.evidence)
            self.folder.write_diverged(told)
            log.info("details of the divergence: %s", self.folder.diverged_file)
            if told.would_again:
                self.display.say(f"details and the last finite values: {self.folder.diverged_file}")
                return
        self._say_what_is_kept("the task must be fixed first")

    def _say_what_is_kept(self, what: str) -> None:
        self.display.say(f"{what}: {self._what_is_kept()}")
        log.info("%s: %s", what, self._what_is_kept())

    def _what_is_kept(self) -> str:
        saved = resume_state.newest_boundary(self.folder.state)
        kept = saved.timestep if saved else 0
        lost = max(0, self.display.timestep - kept)
        return (
            f"saved up to timestep {kept:,}; {counted(lost, 'later timestep')} lost\n"
            f"to resume: gallop run --resume {self.folder.path}"
        )
