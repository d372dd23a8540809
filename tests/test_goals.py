"""Tasks with goals, and hindsight experience replay."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.environments.vectorised import training_environments
from gallop.learners.stable_baselines import StableBaselinesLearner
from gallop.run_folder import resume_state

TASK = "gallop_goal_task:Place-v0"
HER = {"replay_buffer": "her", "learning_starts": 50, "buffer_size": 170}


def run(**settings):
    return tiny("sac", **{"env": TASK, "hyperparameters": HER, **settings})


def learner_of(experiment):
    environments = training_environments(experiment)
    return StableBaselinesLearner(experiment, environments, 0, 1), environments


def test_most_transitions_get_a_goal_that_their_episode_reached():
    """SB3's own numbers: of five transitions, four; their reward is that of the new goal."""
    learner, environments = learner_of(run(hyperparameters={**HER, "n_sampled_goal": 4}))
    learner.learn(environments, 1, 120, 360, lambda timestep: None)
    batch = learner._model.replay_buffer.sample(500)
    own = learner._model.replay_buffer.observations["desired_goal"][:120, 0]
    goals = {tuple(goal) for goal in own}
    new = np.array(
        [tuple(goal.numpy()) not in goals for goal in batch.observations["desired_goal"]]
    )
    assert new.mean() == 0.8
    reached = batch.next_observations["achieved_goal"] - batch.observations["desired_goal"]
    np.testing.assert_allclose(batch.rewards[:, 0], -reached.norm(dim=1), atol=1e-6)
    assert batch.rewards[new].mean() > batch.rewards[~new].mean() + 0.1


def test_a_segments_last_episode_is_learnt_from_and_ends_there():
    learner, environments = learner_of(run())
    learner.learn(environments, 1, 120, 360, lambda timestep: None)  # episodes of 50, 50 and 20
    buffer = learner._model.replay_buffer
    assert set(buffer.ep_length[:120, 0]) == {50, 20} and buffer.ep_length[119, 0] == 20
    assert buffer.timeouts[119, 0], "it is cut off, so learners bootstrap from it"


def test_episodes_that_are_partly_overwritten_are_not_restored(tmp_path):
    learner, environments = learner_of(run())
    for segment in range(2):  # 240 timesteps, of which the first 70 are overwritten
        learner.learn(environments, segment, 120, 360, lambda timestep: None)
        resume_state.save_boundary(tmp_path, learner, segment + 1)
    other, _ = learner_of(run())
    resume_state.load_boundary(resume_state.newest_boundary(tmp_path), other)
    whole, restored = learner._model.replay_buffer, other._model.replay_buffer
    assert (whole.ep_length == 0).sum() == 30, "what is left of the second episode"
    np.testing.assert_array_equal(restored.ep_length, whole.ep_length)
    np.testing.assert_array_equal(restored._current_ep_start, whole._current_ep_start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Pendulum-v1"], "her needs a task with goals, and the observations of Pendulum"),
        (["-params", "replay_buffer:her", "learning_starts:10"], "use at least that"),
        (["--wrappers", "gallop_goal_task:Doubled"], "without gallop_goal_task:Doubled"),
    ],
)
def test_what_her_cannot_do_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    usual = ["--env", TASK, "-params", "replay_buffer:her", "learning_starts:200"]
    command = ["run", "--dry-run", "--algo", "sac", "-n", "1000", "--no-preset", *usual, *arguments]
    assert main([*command, "--milestones", "100"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
