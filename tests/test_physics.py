"""The fast path of MuJoCo tasks: it has the bits of Gymnasium's own environments."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest
from conftest import tiny
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from gallop.environments import physics
from gallop.environments.make import make_env
from gallop.environments.mujoco_terms import UnusualError
from gallop.environments.physics import FastPath
from gallop.environments.physics_vec_env import PhysicsVecEnv
from gallop.environments.vectorised import environment_makers, rebuild, training_environments
from gallop.errors import DivergedError, TaskError
from gallop.evaluation.episodes import RandomPolicy, evaluate

READ = ("episode", "TimeLimit.truncated", "terminal_observation", "unstable_physics")


def experiment(env="HalfCheetah-v5", n_envs=1, max_episode_steps=40, wrappers=(), **kwargs):
    if max_episode_steps:
        kwargs["max_episode_steps"] = max_episode_steps
    own = {"env": env, "n_envs": n_envs, "env_kwargs": kwargs, "wrappers": wrappers}
    n = 12_000
    evaluation = {"interval": n, "n_episodes": 2}
    return tiny("ppo", total_timesteps=n, segment=n, evaluation=evaluation, **own)


@pytest.fixture
def both():
    """Makes the same environments twice: on the fast path, and stepping themselves."""
    made = []

    def make(n_threads=1, **settings):
        chosen = experiment(**settings)
        made.append(training_environments(chosen, n_threads))
        made.append(DummyVecEnv(environment_makers(chosen)))
        for environments in made[-2:]:
            environments.seed(3)
        np.testing.assert_array_equal(*(environments.reset() for environments in made[-2:]))
        return made[-2:]

    yield make
    for environments in made:
        environments.close()


def bits(array):
    return array.dtype, array.shape, np.ascontiguousarray(array).tobytes()


def assert_equal_steps(fast, plain, actions):
    """Step both, and compare everything that a learner reads; return the ends of episodes."""
    ours, theirs = fast.step(actions), plain.step(actions)
    for name, our, their in zip(("observations", "rewards", "dones"), ours, theirs, strict=False):
        assert bits(our) == bits(their), name
    for our, their in zip(ours[3], theirs[3], strict=True):
        assert our.keys() == their.keys()
        assert set(our) <= set(READ)
        if "episode" in our:
            assert our["episode"].keys() == their["episode"].keys() == {"r", "l", "t"}
            assert [our["episode"][k] for k in "rl"] == [their["episode"][k] for k in "rl"]
            assert our["episode"]["t"] == pytest.approx(their["episode"]["t"], abs=60)
            assert bits(our["terminal_observation"]) == bits(their["terminal_observation"])
        for key in ("TimeLimit.truncated", "unstable_physics"):
            assert our.get(key) is their.get(key), key
    return ours[3]


def ends_of(fast, plain, n, scale=1.0, seed=0):
    """Compare n timesteps of random actions; return each episode's length and kind of end."""
    assert fast.is_fast
    rng, space = np.random.default_rng(seed), fast.action_space
    shape = (fast.num_envs, *space.shape)
    found = []
    for _ in range(n):
        actions = (scale * rng.uniform(space.low, space.high, shape)).astype(np.float32)
        infos = assert_equal_steps(fast, plain, actions)
        found += [(i["episode"]["l"], i["TimeLimit.truncated"]) for i in infos if "episode" in i]
    return found


ALL = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Swimmer-v5", "Humanoid-v5"]
FALLING = ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("task", ALL)
def test_every_task_has_the_bits_of_gymnasiums_environments(both, task, n_threads):
    ends = ends_of(*both(n_threads, env=task, n_envs=3), 130)
    assert len(ends) >= 9
    assert (40, True) in ends or task == "Hopper-v5" or task == "Humanoid-v5"
    assert task not in ("Hopper-v5", "Humanoid-v5") or any(not cut for _, cut in ends)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("HalfCheetah-v5", {"frame_skip": 3, "reset_noise_scale": 0.3}),
        ("HalfCheetah-v5", {"ctrl_cost_weight": 0.37, "forward_reward_weight": 2.5}),
        ("HalfCheetah-v5", {"ctrl_cost_weight": 1, "forward_reward_weight": -1}),
        ("HalfCheetah-v5", {"exclude_current_positions_from_observation": False}),
        ("Swimmer-v5", {"exclude_current_positions_from_observation": False}),
        ("Swimmer-v5", {"ctrl_cost_weight": 3.3, "frame_skip": 2}),
        ("Hopper-v5", {"terminate_when_unhealthy": False}),
        ("Hopper-v5", {"healthy_state_range": [-1.2, 0.9], "healthy_reward": 0.7}),
        ("Hopper-v5", {"healthy_angle_range": [-0.05, 0.03]}),
        ("Walker2d-v5", {"healthy_z_range": [1.1, 1.3], "healthy_angle_range": [-0.1, 0.2]}),
        ("Walker2d-v5", {"terminate_when_unhealthy": False, "healthy_reward": -0.3}),
        ("Ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.1}),
        ("Ant-v5", {"contact_force_range": [0, 0.5], "main_body": 3}),
        ("Ant-v5", {"main_body": "front_left_leg", "healthy_z_range": [0.5, 0.8]}),
        ("Ant-v5", {"exclude_current_positions_from_observation": False}),
        ("Humanoid-v5", {"contact_cost_weight": 1e-2, "contact_cost_range": [0.5, 3.0]}),
        ("Humanoid-v5", {"include_cinert_in_observation": False}),
        (
            "Humanoid-v5",
            {
                "include_cvel_in_observation": False,
                "include_qfrc_actuator_in_observation": False,
                "include_cfrc_ext_in_observation": False,
                "terminate_when_unhealthy": False,
            },
        ),
    ],
)
def test_the_settings_of_a_task_are_honoured(both, task, settings):
    assert len(ends_of(*both(env=task, n_envs=2, max_episode_steps=30, **settings), 70)) >= 4


def test_without_a_time_limit_episodes_last(both):
    assert not ends_of(*both(env="UnlimitedCheetah-v0", max_episode_steps=None), 1100)


@pytest.mark.parametrize("task", FALLING)
def test_falls_terminate_episodes_of_different_lengths(both, task):
    ends = ends_of(*both(env=task, n_envs=2, max_episode_steps=1000), 400)
    assert len({length for length, _ in ends}) > 2
    assert not any(cut for _, cut in ends)


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Humanoid-v5"])
def test_actions_in_double_precision_are_not_rounded(both, task):
    fast, plain = both(env=task)
    rng = np.random.default_rng(0)
    for _ in range(45):
        actions = rng.uniform(-0.4, 0.4, (1, *fast.action_space.shape))
        assert_equal_steps(fast, plain, actions)


def test_the_threads_do_not_treat_tiny_numbers_as_zero(both):
    weights = {"ctrl_cost_weight": 1.0, "forward_reward_weight": 0.0}
    fast, plain = both(2, n_envs=4, **weights)
    actions = np.full((4, 6), 1e-20, np.float32)
    for _ in range(10):
        assert_equal_steps(fast, plain, actions)
    assert (fast.step(actions)[1] < 0).all()


def test_unstable_physics_ends_only_that_episode(both):
    fast, plain = both(n_envs=3)
    for environments in (fast, plain):
        environments.envs[1].unwrapped.data.qvel[:] = 1e12
    infos = assert_equal_steps(fast, plain, np.zeros((3, 6), np.float32))
    assert [info.get("unstable_physics") for info in infos] == [None, True, None]
    assert infos[1]["TimeLimit.truncated"] and infos[1]["episode"]["l"] == 1
    assert (40, True) in ends_of(fast, plain, 80)


def test_new_simulators_and_seeds_give_the_same_bits_again(both):
    fast, plain = both(2, env="Hopper-v5", n_envs=2)
    first = ends_of(fast, plain, 60)
    for environments in (fast, plain):
        rebuild(environments)
    assert not fast.is_fast, "the simulators that it knows are closed"
    for environments in (fast, plain):
        environments.seed(3)
        environments.reset()
    assert ends_of(fast, plain, 60) == first


def test_returned_arrays_do_not_change_later(both):
    fast, _ = both()
    zeros = np.zeros((1, 6), np.float32)
    observations, rewards, dones, _ = fast.step(zeros)
    before = bits(observations), bits(rewards), bits(dones)
    for _ in range(45):
        fast.step(zeros + 1)
    assert (bits(observations), bits(rewards), bits(dones)) == before


# --- errors --------------------------------------------------------------------------------------


def raised(environments, actions):
    with pytest.raises((DivergedError, TaskError)) as error:
        environments.step(actions)
    return type(error.value), str(error.value), error.value.cause


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_the_guards_error(both, value):
    fast, plain = both(n_envs=2)
    actions = np.zeros((2, 6), np.float32)
    actions[1, 3] = value
    assert raised(fast, actions) == raised(plain, actions)


def test_the_first_environment_with_an_error_raises_it(both):
    settings = {"n_envs": 3, "forward_reward_weight": 1e30}
    fast, plain = both(**settings)
    actions = np.zeros((3, 6), np.float32)
    actions[2] = np.nan
    ours = raised(fast, actions)
    assert ours == raised(plain, actions)
    assert "as the reward" in ours[1]


@pytest.mark.parametrize("value", [1e39, np.nan])
def test_an_observation_that_is_not_finite_is_the_guards_error(both, value):
    fast, plain = both(n_envs=2, env="Swimmer-v5", exclude_current_positions_from_observation=False)
    for environments in (fast, plain):
        simulator = environments.envs[1].unwrapped
        simulator.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        simulator.data.qpos[0] = value
    actions = np.zeros((2, 2), np.float32)
    ours = raised(fast, actions)
    assert ours == raised(plain, actions)
    assert "in an observation (index 0 of 10 values)" in ours[1]


CROWDED = """
<mujoco><size memory="40000"/><worldbody><geom type="plane" size="1 1 1"/>{}</worldbody>
<actuator><motor joint="j" ctrlrange="-1 1"/></actuator></mujoco>"""
BALL = '<body pos="{} 0 5"><freejoint/><geom size="0.1"/></body>'
HINGED = '<body pos="0 0 9"><joint name="j"/><geom size="0.1"/></body>'


def test_an_error_of_mujoco_is_reported_and_does_not_end_the_process(both, tmp_path):
    xml = tmp_path / "crowded.xml"
    xml.write_text(CROWDED.format(HINGED + "".join(BALL.format(i) for i in range(1, 21))))
    settings = {"xml_file": str(xml), "frame_skip": 1, "n_envs": 2}
    fast, plain = both(2, **settings)
    assert fast.is_fast
    for environments in (fast, plain):
        data = environments.envs[1].unwrapped.data
        data.qpos[:] = 0.01 * np.arange(len(data.qpos))
    actions = np.zeros((2, 1), np.float32)
    ours, theirs = raised(fast, actions), raised(plain, actions)
    assert ours[0] is theirs[0] is TaskError
    assert "mj_stackAlloc: out of memory" in ours[1]
    assert "mj_stackAlloc: out of memory" in theirs[1]
    simulator = fast.envs[1].unwrapped
    with pytest.raises(mujoco.FatalError):  # MuJoCo's own bindings still report theirs
        mujoco.mj_step(simulator.model, simulator.data)


# --- evaluation ----------------------------------------------------------------------------------


class Waiting:
    """A policy that does nothing, except for one number in one episode's action."""

    def __init__(self, shape, index, value):
        self.actions = np.zeros(shape, np.float32)
        self.place = (index, 0)
        self.value = value
        self.shown = []

    def act(self, observations):
        self.shown.append(observations.copy())
        if len(self.shown) == 5:
            self.actions[self.place] = self.value
        return self.actions.copy()


@pytest.fixture
def episodes_of(monkeypatch):
    """Plays an episode of each seed; `fast`: whether the kernels step the environments."""

    def play(fast, task, seeds=range(4), policy=None, change=None, **settings):
        counted = []

        def count(*arguments):
            counted.append(FastPath(*arguments))
            return counted[-1]

        def make():
            env = make_env(task, seed=None, **settings)
            if change is not None:
                change(env.unwrapped)
            return env

        with monkeypatch.context() as patch:
            patch.setattr(physics, "FastPath", count)
            if not fast:
                patch.setattr(physics, "_mujoco_functions", lambda: None)
            env = make()
            actions = RandomPolicy(env.action_space, seeds)
            env.close()
            try:
                return evaluate(policy or actions, make, list(seeds), n_threads=2)
            finally:
                assert len(counted) == fast

    return play


def assert_equal_episodes(ours, theirs):
    for name in ("seeds", "returns", "lengths", "cut"):
        assert bits(getattr(ours, name)) == bits(getattr(theirs, name)), name
    assert list(ours.reward_terms) == list(theirs.reward_terms)
    for name, sums in ours.reward_terms.items():
        assert bits(sums) == bits(theirs.reward_terms[name]), name
    assert [bits(a) for a in ours.actions] == [bits(a) for a in theirs.actions]
    assert ours.n_unstable == theirs.n_unstable


@pytest.mark.parametrize("task", ALL)
def test_episodes_are_those_of_environments_that_step_themselves(episodes_of, task):
    ours, theirs = (episodes_of(f, task, max_episode_steps=60) for f in (True, False))
    assert_equal_episodes(ours, theirs)
    assert np.allclose(sum(ours.reward_terms.values()), ours.returns)
    assert len(set(ours.lengths)) > 1 or task not in FALLING


def test_episodes_that_do_not_end_by_themselves_are_cut(episodes_of, monkeypatch):
    monkeypatch.setattr("gallop.evaluation.episodes.cut_after", lambda limit: 70)
    ours, theirs = (episodes_of(fast, "UnlimitedCheetah-v0") for fast in (True, False))
    assert_equal_episodes(ours, theirs)
    assert ours.n_cut == 4
    assert set(ours.lengths) == {70}


@pytest.mark.parametrize(("index", "n_timesteps"), [(0, 1), (2, 9)])
def test_an_episode_whose_observation_is_not_finite_ends_without_a_return(
    episodes_of, index, n_timesteps
):
    made = []

    def change(simulator):
        simulator.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        made.append(simulator)

    class Breaks(Waiting):
        def act(self, observations):
            if len(self.shown) == n_timesteps - 1:
                made[-4 + index].data.qpos[0] = np.nan
            return super().act(observations)

    settings = {"exclude_current_positions_from_observation": False, "max_episode_steps": 20}
    policies = [Breaks((4, 2), 0, 0.5) for _ in range(2)]
    ours, theirs = (
        episodes_of(fast, "Swimmer-v5", policy=policy, change=change, **settings)
        for fast, policy in zip((True, False), policies, strict=True)
    )
    assert_equal_episodes(ours, theirs)
    assert ours.n_not_finite == 1
    assert ours.lengths[index] == n_timesteps
    assert bits(np.stack(policies[0].shown)) == bits(np.stack(policies[1].shown))


def test_unstable_physics_ends_an_evaluated_episode(episodes_of):
    made = []

    class Breaks(Waiting):
        def act(self, observations):
            if len(self.shown) == 3:
                made[-3].data.qvel[:] = 1e12
            return super().act(observations)

    ours, theirs = (
        episodes_of(
            fast,
            "HalfCheetah-v5",
            policy=Breaks((4, 6), 0, 0.5),
            change=made.append,
            max_episode_steps=20,
        )
        for fast in (True, False)
    )
    assert_equal_episodes(ours, theirs)
    assert ours.n_unstable == 1
    assert ours.lengths.tolist() == [20, 4, 20, 20]


def test_an_infinite_reward_is_a_return_as_without_the_fast_path(episodes_of):
    settings = {"forward_reward_weight": 1e308, "max_episode_steps": 20}
    ours, theirs = (episodes_of(fast, "HalfCheetah-v5", **settings) for fast in (True, False))
    assert_equal_episodes(ours, theirs)
    assert ours.n_not_finite > 0


@pytest.mark.parametrize("fast", [True, False])
def test_an_action_that_is_not_finite_ends_the_evaluation(episodes_of, fast):
    with pytest.raises(DivergedError, match="NaN or infinity as an action"):
        episodes_of(fast, "HalfCheetah-v5", policy=Waiting((4, 6), 2, np.nan))


# --- what takes the fast path --------------------------------------------------------------------


class Faster(HalfCheetahEnv):
    """A subclass, whose step may be anything."""


gymnasium.register("Faster-v0", Faster, max_episode_steps=40)
gymnasium.register("UnlimitedCheetah-v0", HalfCheetahEnv)  # the task under another name


@pytest.mark.parametrize(
    "settings",
    [
        {"env": "Pendulum-v1"},
        {"env": "Faster-v0"},
        {"env": "HumanoidStandup-v5"},
        {"env": "InvertedPendulum-v5"},
        {"wrappers": [{"gymnasium.wrappers:ClipAction": {}}]},
        {"wrappers": [{"gymnasium.wrappers:TimeAwareObservation": {}}]},
        {"env": "Hopper-v5", "terminate_when_unhealthy": 1},
        {"env": "Hopper-v5", "healthy_reward": True},
        {"env": "Hopper-v5", "ctrl_cost_weight": 2**24 + 1},
    ],
)
def test_anything_unusual_steps_itself(settings):
    chosen = experiment(**settings)
    environments = training_environments(chosen)
    environments.reset()
    assert isinstance(environments, PhysicsVecEnv)
    assert not environments.is_fast
    assert environments.step(np.zeros((1, *environments.action_space.shape)))[0].shape[0] == 1
    environments.close()


def test_another_version_of_gymnasium_steps_itself(monkeypatch):
    monkeypatch.setattr(gymnasium, "__version__", "1.4.1")
    environments = training_environments(experiment())
    environments.reset()
    assert not environments.is_fast
    environments.close()


def test_a_rendered_environment_is_unusual():
    env = gymnasium.make("HalfCheetah-v5")
    assert physics._terms(env.unwrapped)
    env.unwrapped.render_mode = "rgb_array"
    with pytest.raises(UnusualError):
        physics._terms(env.unwrapped)
    env.close()


def test_off_policy_learners_leave_the_second_thread_to_gradient_steps():
    n_threads = {}
    for algo in ("sac", "ppo"):
        chosen = tiny(algo, env="Hopper-v5", n_envs=2)
        environments = training_environments(chosen, 2)
        n_threads[algo] = environments._n_threads
        environments.close()
    assert n_threads == {"sac": 1, "ppo": 2}
