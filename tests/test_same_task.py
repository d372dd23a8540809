"""Every command treats a task alike: limits, errors, wrappers, and faults in its code."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from conftest import tiny
from gallop_misbehaving_task import Misbehaving
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import gallop
from gallop.commands.cli import main
from gallop.environments.make import Task, evaluation_task, make_env
from gallop.environments.watchdog import Making, watching
from gallop.errors import ExperimentError, FrozenError
from gallop.evaluation.episodes import RandomPolicy, evaluate
from gallop.experiments.yaml_file import to_yaml
from gallop.policies.safe_archive import PolicyFileError
from gallop.report.display import Display
from gallop.run_folder import manifest
from gallop.runs import workflow

STATISTICS = "gymnasium.wrappers:NormalizeObservation"


@pytest.fixture
def cut_run(tmp_path):
    """A run whose evaluations cut episodes before the task's own limit."""
    evaluation = {"interval": 120, "n_episodes": 2, "max_episode_timesteps": 30}
    return workflow.run(tiny("ppo", evaluation=evaluation), tmp_path, "a", Display(quiet=True))


def test_every_command_cuts_episodes_like_the_runs_evaluations(cut_run, tmp_path, capfd):
    assert gallop.evaluate(cut_run.path, n_episodes=2).lengths.tolist() == [30, 30]
    for command in ("evaluate", "baseline"):
        assert main([command, str(cut_run.path), "--episodes", "2"]) == 0
        printed = " ".join(capfd.readouterr().out.split())
        assert "2 of 2 episodes did not end and were cut after 30 timesteps" in printed
    # It may film in a separate process.
    film = tmp_path / "film.mp4"
    assert main(["watch", str(cut_run.path), "--episodes", "1", "--output", str(film)]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "in 30 timesteps; cut there, because it did not end" in printed


def test_running_statistics_are_refused_in_every_kind_of_task(tmp_path, capsys):
    experiment = tiny("ppo", wrappers=[STATISTICS])
    with pytest.raises(ExperimentError, match="keeps running statistics"):
        evaluation_task(experiment).make()
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(experiment))
    assert main(["baseline", str(config), "--episodes", "1"]) == 2
    errors = capsys.readouterr().err
    assert "--normalize.observations true" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("kind", ["start", "uint8", "discrete"])
def test_wrappers_are_compared_with_the_actions_that_training_gives_them(kind):
    own = "gallop_wrappers:OwnActions"
    experiment = tiny(
        "ppo", env="gallop_action_task:Acts-v0", env_kwargs={"kind": kind}, wrappers=[own]
    )
    assert evaluation_task(experiment).reward_wrappers().kept == (own,)


@pytest.mark.parametrize(
    ("made", "what"), [(False, r"step\(\)"), (True, "wrapping it in gallop_wrappers:Sleeps")]
)
def test_a_wrapper_that_does_not_return_is_ended_by_the_watchdog(made, what, monkeypatch):
    monkeypatch.setattr(Making, "seconds_of_ours", 0.0)
    task = Task("Pendulum-v1", {}, ({"gallop_wrappers:Sleeps": {"made": made}},))
    with pytest.raises(FrozenError, match=f"{what} has not returned"), watching(0.3):
        task.reward_wrappers()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no robot')", "RuntimeError: no robot"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_module_that_fails_at_import_causes_one_line(code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"gallop_broken_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(f"x = 1\n{code}\n")
    gymnasium.register("Broken-v0", entry_point=f"{name}:Task")
    run = ["run", "--dry-run", "--algo", "ppo", "--env", "Pendulum-v1", "--wrappers", f"[{name}:W]"]
    try:
        for arguments in (["baseline", f"{name}:Task-v0"], ["baseline", "Broken-v0"], run):
            assert main(arguments) == 2
            errors = capsys.readouterr().err
            assert "cannot be imported" in errors and words in errors, errors
            assert errors.count("\n") == 1
    finally:
        del gymnasium.registry["Broken-v0"]


def test_an_exception_in_close_stops_nothing():
    env = Task("gallop_misbehaving_task:Misbehaving-v0", {"kind": "close_raises"}).closed()
    assert env.action_space == Misbehaving.action_space


class Closes(Misbehaving):
    """Records that it was closed."""

    n_open = 0

    def __init__(self):
        super().__init__()
        Closes.n_open += 1

    def close(self):
        Closes.n_open -= 1


def test_earlier_environments_are_closed_if_a_later_one_fails():
    def make():
        if Closes.n_open == 2:
            raise ExperimentError("no more robots")
        return Closes()

    with pytest.raises(ExperimentError, match="no more robots"):
        evaluate(RandomPolicy(Misbehaving.action_space, [1, 2, 3]), make, [1, 2, 3])
    assert Closes.n_open == 0
    gymnasium.register("Closes-v0", entry_point=Closes)
    try:
        with pytest.raises(ExperimentError, match="no_wrapper"):
            make_env("Closes-v0", seed=None, wrappers=[{"gallop_wrappers:no_wrapper": {}}])
        with pytest.raises(ExperimentError, match="running statistics"):
            Task("Closes-v0", {}, ({STATISTICS: {}},)).make()
    finally:
        del gymnasium.registry["Closes-v0"]
    assert Closes.n_open == 0


@pytest.mark.parametrize("at_reset", [True, False])
def test_a_non_finite_observation_ends_one_episode_at_any_timestep(at_reset):
    class Lost(Misbehaving):
        """Returns NaN in the episode of seed 2."""

        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed)
            self.is_lost = seed == 2
            return (np.full_like(observation, np.nan) if self.is_lost and at_reset
                    else observation), info  # fmt: skip

        def step(self, action):
            observation, *rest = super().step(action)
            return (np.full_like(observation, np.nan) if self.is_lost else observation), *rest

    seeds = [2, 3]
    episodes = evaluate(RandomPolicy(Lost.action_space, seeds), Lost, seeds, 20)
    assert episodes.n_not_finite == 1 and np.isnan(episodes.returns[0])
    assert episodes.lengths.tolist() == [0 if at_reset else 1, 20]
    assert [len(actions) for actions in episodes.actions] == episodes.lengths.tolist()
    alone = evaluate(RandomPolicy(Lost.action_space, [3]), Lost, [3], 20)
    assert alone.returns[0] == episodes.returns[1]
    nothing = evaluate(RandomPolicy(Lost.action_space, [2]), Lost, [2], 20)
    assert nothing.n_not_finite == 1


def test_an_older_policy_of_a_run_that_normalised_only_rewards_needs_no_normaliser(cut_run):
    made = VecNormalize(DummyVecEnv([lambda: make_env("Pendulum-v1", seed=0)]), norm_obs=False)
    model = PPO("MlpPolicy", made, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]})
    model.learn(8)
    assert model._last_original_obs is not None, "as older zips hold it"
    own, other = cut_run.best_model, cut_run.path / "other.zip"
    manifest.forget(cut_run.path, [own.name])
    model.save(own)
    model.save(other)
    assert gallop.evaluate(own, n_episodes=1).lengths.tolist() == [30]
    with pytest.raises(PolicyFileError, match="was trained on normalised observations"):
        gallop.evaluate(other, n_episodes=1)
