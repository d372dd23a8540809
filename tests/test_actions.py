"""Every action space: tasks get valid actions from every algorithm, or one line says why not."""

from __future__ import annotations

import numpy as np
import pytest
from algorithm_rows import EVERY
from conftest import tiny
from gallop_action_task import ACTIONS, TAKEN, Acts
from gymnasium import spaces

from gallop.environments.actions import for_policies
from gallop.environments.make import evaluation_env
from gallop.errors import ExperimentError
from gallop.evaluation.episodes import RandomPolicy, evaluate
from gallop.policies import sb3_zip
from gallop.run_folder.prepared import prepare

TASK = "gallop_action_task:Acts-v0"
REFUSED = ("unbounded", "half bounded", "widest", "empty", "all frozen", "dict", "tuple")
BOXES = [name for name, space in ACTIONS.items() if isinstance(space, spaces.Box)]


def experiment_of(algo, kind, learner="auto", **settings):
    kwargs = {"kind": kind, "max_episode_steps": 30}
    return tiny(algo, env=TASK, env_kwargs=kwargs, learner=learner, **settings)


def trains_with_right_actions(algo, learner, kind, trainers, folder):
    """A segment, its policy and its policy file; the task refuses actions outside its space."""
    experiment = experiment_of(algo, kind, learner)
    trainer = trainers(experiment)
    TAKEN[kind].clear()
    next(trainer.segments())
    assert len(TAKEN[kind]) >= 120
    trainer.learner.save_policy(folder / "policy.zip")
    env = evaluation_env(experiment)
    read = sb3_zip.read(folder / "policy.zip", env.observation_space, env.action_space)
    ours = evaluate(read, lambda: evaluation_env(experiment), [1, 2])
    theirs = evaluate(trainer.learner.policy, lambda: evaluation_env(experiment), [1, 2])
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    replayed = evaluation_env(experiment)
    replayed.reset(seed=1)
    total = 0.0
    for action in ours.actions[0]:
        total += float(replayed.step(action.item() if action.ndim == 0 else action)[1])
    assert total == ours.returns[0], "a film plays the recorded actions again"


@pytest.mark.parametrize("kind", [name for name in ACTIONS if name not in REFUSED])
def test_ppo_sends_valid_actions_to_the_task(kind, trainers, tmp_path):
    trains_with_right_actions("ppo", "auto", kind, trainers, tmp_path)
    seen = np.array([np.asarray(action, np.float64).reshape(-1) for action in TAKEN[kind]])
    space = ACTIONS[kind]
    if isinstance(space, spaces.Discrete):
        assert set(seen[:, 0]) == {*range(space.start, space.start + space.n)}


@pytest.mark.parametrize("kind", ["start", "uint8", "frozen", "asymmetric", "float64"])
def test_ppo_on_sb3_sends_valid_actions_to_the_task(kind, trainers, tmp_path):
    trains_with_right_actions("ppo", "sb3", kind, trainers, tmp_path)


@pytest.mark.parametrize("kind", [name for name in BOXES if name not in REFUSED])
@pytest.mark.parametrize(("algo", "learner"), [case for case in EVERY if case[0] != "ppo"])
@pytest.mark.slow
def test_every_algorithm_sends_valid_actions_to_the_task(algo, learner, kind, trainers, tmp_path):
    trains_with_right_actions(algo, learner, kind, trainers, tmp_path)


@pytest.mark.parametrize(("algo", "learner"), [("sac", "sb3"), ("sac", "native"), ("td3", "sb3")])
@pytest.mark.parametrize("kind", ["frozen", "asymmetric", "int64"])
def test_off_policy_algorithms_send_valid_actions_to_the_task(
    algo, learner, kind, trainers, tmp_path
):
    trains_with_right_actions(algo, learner, kind, trainers, tmp_path)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_unsupported_action_spaces_are_refused_before_the_run(algo, kind):
    with pytest.raises(ExperimentError) as caught:
        prepare(experiment_of(algo, kind))
    message = str(caught.value)
    assert TASK in message and "\n" not in message
    reasons = ("finite bounds", "has no actions", "has no action with a range", "actions; ")
    assert any(words in message for words in reasons)


def test_an_algorithm_without_discrete_actions_names_those_with_them():
    with pytest.raises(ExperimentError, match=r"sac needs Box actions.*Discrete.*use algo: ppo"):
        prepare(experiment_of("sac", "start"))


@pytest.mark.parametrize("kind", [name for name in ACTIONS if name not in REFUSED])
def test_the_random_policy_samples_actions_of_the_task(kind):
    experiment = experiment_of("ppo", kind)
    env = evaluation_env(experiment)
    evaluate(RandomPolicy(env.action_space, [1, 2]), lambda: evaluation_env(experiment), [1, 2])


def task_action(space, action):
    """The action that a task with this action space receives."""
    task = Acts("start")
    task.action_space = space
    return for_policies(task).action(action)


def test_integer_actions_are_rounded_and_stay_within_the_bounds():
    space = spaces.Box(np.array([-3, 0]), np.array([2, 1]), dtype=np.int64)
    widest = spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32)
    assert task_action(widest, np.float32([2**31])).tolist() == [2**31 - 1]
    for given, taken in (([-2.6, 0.4], [-3, 0]), ([9.0, 0.6], [2, 1]), ([-9.0, -1.0], [-3, 0])):
        action = task_action(space, np.float32(given))
        assert action.tolist() == taken and action.dtype == np.int64


def test_a_task_with_plain_actions_is_not_wrapped():
    experiment = tiny("sac")
    from gallop.environments.actions import PolicyActions

    env = evaluation_env(experiment)
    while env is not env.unwrapped:
        assert not isinstance(env, PolicyActions)
        env = env.env


def test_a_policy_with_another_action_space_is_of_another_task(trainers, tmp_path):
    trainer = trainers(experiment_of("ppo", "multi"))
    trainer.learner.save_policy(tmp_path / "policy.zip")
    space = spaces.MultiDiscrete([2, 3], start=[1, 1])
    with pytest.raises(sb3_zip.PolicyFileError, match="start"):
        sb3_zip.read(tmp_path / "policy.zip", trainer.environments.observation_space, space)
