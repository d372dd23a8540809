"""Normalised observations, rewards or both: exact resume, policy files, initial policies."""

from __future__ import annotations

import numpy as np
import pytest
from algorithm_rows import EVERY
from conftest import tiny

from gallop.environments.make import evaluation_env
from gallop.evaluation.episodes import evaluate
from gallop.policies import sb3_zip
from gallop.run_folder import resume_state
from gallop.runs import workflow

WHICH = {
    "observations": {"observations": True},
    "rewards": {"rewards": True},
    "both": True,
}


@pytest.mark.parametrize(
    "which",
    [pytest.param(name, marks=[] if name == "rewards" else pytest.mark.slow) for name in WHICH],
)
@pytest.mark.parametrize(("algo", "learner"), EVERY)
def test_normalised_runs_resume_and_their_policies_are_read_back(
    algo, learner, which, trainers, tmp_path
):
    experiment = tiny(algo, learner=learner, normalize=WHICH[which])
    whole, resumed, second = (trainers(experiment) for _ in range(3))
    segments = whole.segments()
    next(segments)
    resume_state.save_boundary(tmp_path / "state", whole.learner, 1)
    file = tmp_path / "policy.zip"
    whole.learner.save_policy(file)
    env = evaluation_env(experiment)
    read = sb3_zip.read(file, env.observation_space, env.action_space)
    seeds = [1, 2]
    ours = evaluate(read, lambda: evaluation_env(experiment), seeds)
    theirs = evaluate(whole.learner.policy, lambda: evaluation_env(experiment), seeds)
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    next(segments)
    saved = resume_state.newest_boundary(tmp_path / "state")
    resume_state.load_boundary(saved, resumed.learner)
    next(resumed.segments(1))
    assert resumed.digest(tmp_path / "a") == whole.digest(tmp_path / "b")
    second.learner.read_policy(file)
    batch = np.stack([env.observation_space.sample() for _ in range(4)])
    np.testing.assert_array_equal(second.learner.policy.act(batch), read.act(batch))


@pytest.mark.parametrize("learner", ["native", "sb3"])
def test_a_run_with_only_rewards_normalised_finishes(learner, tmp_path):
    experiment = tiny("ppo", learner=learner, normalize={"rewards": True})
    run = workflow.run(experiment, tmp_path, "a")
    assert run.is_finished()
    env = evaluation_env(experiment)
    for file in (run.best_model, run.final_model):
        sb3_zip.read(file, env.observation_space, env.action_space)


def test_a_run_of_an_older_version_that_failed_at_its_end_finishes(tmp_path, monkeypatch):
    """Its zips contain raw observations, as if it were trained on normalised ones."""
    real = sb3_zip.write

    def as_before(model, normalizer, path):
        model._last_original_obs = np.zeros((1, 3), np.float32)
        real(model, normalizer, path)

    monkeypatch.setattr(sb3_zip, "write", as_before)
    experiment = tiny("ppo", learner="sb3", normalize={"rewards": True})
    run = workflow.run(experiment, tmp_path, "a")
    assert run.is_finished()
    env = evaluation_env(experiment)
    with pytest.raises(sb3_zip.PolicyFileError, match="trained on normalised observations"):
        sb3_zip.read(run.best_model, env.observation_space, env.action_space)
