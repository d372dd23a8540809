"""Evaluation: one episode per seed, stepped together, each as if it were alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from gallop.environments.make import make_env
from gallop.evaluation.episodes import RandomPolicy, evaluate


class Proportional:
    """A deterministic policy that acts row by row, so that the batch does not matter."""

    def act(self, observations):
        return np.clip(-0.3 * observations[:, -6:], -1, 1)


def alone(seed):
    env = make_env("HalfCheetah-v5", seed=None)
    observation, _ = env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(
            Proportional().act(observation[None])[0]
        )
        total, ended = total + float(reward), terminated or truncated
    env.close()
    return total


def test_episodes_stepped_together_equal_those_stepped_alone():
    make = partial(make_env, "HalfCheetah-v5", seed=None)
    episodes = evaluate(Proportional(), make, [5, 6, 7])
    np.testing.assert_array_equal(episodes.returns, [alone(5), alone(6), alone(7)])
    assert episodes.lengths.tolist() == [1000] * 3
    terms = episodes.reward_terms
    assert sorted(terms) == ["reward_ctrl", "reward_forward"]
    np.testing.assert_allclose(terms["reward_ctrl"] + terms["reward_forward"], episodes.returns)
    assert [a.shape for a in episodes.actions] == [(1000, 6)] * 3


def test_episodes_of_different_lengths_end_independently():
    make = partial(make_env, "Hopper-v5", seed=None)
    seeds = [1, 2, 3, 4]
    space = make().action_space
    together = evaluate(RandomPolicy(space, seeds), make, seeds)
    one_by_one = [evaluate(RandomPolicy(space, [seed]), make, [seed]) for seed in seeds]
    np.testing.assert_array_equal(together.returns, [e.returns[0] for e in one_by_one])
    np.testing.assert_array_equal(together.lengths, [e.lengths[0] for e in one_by_one])
    assert len(set(together.lengths)) > 1, "the test needs episodes that end apart"


def test_the_random_policy_seeds_each_episode_separately():
    space = make_env("HalfCheetah-v5", seed=None).action_space
    both, other = RandomPolicy(space, [1, 2]), RandomPolicy(space, [2, 1])
    np.testing.assert_array_equal(both.act(None), other.act(None)[::-1])
    many = np.concatenate([both.act(None) for _ in range(2000)])
    assert np.abs(many.mean(axis=0)).max() < 0.05
    assert many.min() < -0.99 and many.max() > 0.99


@pytest.mark.parametrize("task", ["CartPole-v1", "gallop_dict_task:DictPendulum-v0"])
def test_discrete_actions_and_dict_observations_work(task):
    make = partial(make_env, task, seed=None)
    episodes = evaluate(RandomPolicy(make().action_space, [1, 2]), make, [1, 2])
    assert (episodes.lengths > 5).all()
    if task == "CartPole-v1":
        np.testing.assert_array_equal(episodes.returns, episodes.lengths)


def test_simulations_that_diverge_are_counted():
    class Breaking:
        def __init__(self):
            self.env = make_env("HalfCheetah-v5", seed=None)

        def act(self, observations):
            if self.env.unwrapped.data.time > 0.2:
                self.env.unwrapped.data.qvel[:] = 1e12
            return np.zeros((1, 6))

    policy = Breaking()
    episodes = evaluate(policy, lambda: policy.env, [0])
    assert episodes.n_unstable == 1
    assert episodes.lengths[0] < 10
