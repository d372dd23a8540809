"""Endless episodes are cut off, and non-finite returns are never the best; both are reported
wherever returns are reported."""

from __future__ import annotations

import json
import math

import gymnasium
import numpy as np
import pytest
import test_misbehaving_tasks
from conftest import tiny
from gallop_misbehaving_task import Misbehaving

from gallop.commands.cli import main
from gallop.environments.make import make_env
from gallop.errors import DivergedError
from gallop.evaluation.episodes import Episodes, RandomPolicy, evaluate
from gallop.evaluation.statistics import compare, summarise, summarise_seeds
from gallop.experiments.task import cut_after
from gallop.report import figures
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.find_policy import policy_path
from gallop.run_folder.listing import list_runs
from gallop.run_folder.numbers import Cut, Evaluations

ENDLESS = "gallop_misbehaving_task:Endless-v0"
run = test_misbehaving_tasks.run  # the fixture

LONGER = ("-n", "1000", "--segment", "1000", "--eval-freq", "1000")
LIMIT = (*LONGER, "--evaluation.max_episode_timesteps", "30")


def not_valid_json(constant):
    raise AssertionError(f"{constant} is no JSON")


def meta(folder):
    text = (folder / "checkpoints" / "100" / "meta.json").read_text()
    return json.loads(text, parse_constant=not_valid_json)


# --- episodes that never end ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "limit", "cut"), [(ENDLESS, 30, True), (test_misbehaving_tasks.TASK, 30, False)]
)
def test_an_endless_episode_is_cut_off_and_counted(env, limit, cut):
    def make():
        return make_env(env, seed=None)

    policy = RandomPolicy(Misbehaving.action_space, [1, 2])
    episodes = evaluate(policy, make, [1, 2], limit)
    assert episodes.lengths.tolist() == ([30, 30] if cut else [20, 20])
    assert episodes.n_cut == (2 if cut else 0)
    assert [len(actions) for actions in episodes.actions] == episodes.lengths.tolist()


def test_the_default_never_cuts_off_a_task_with_a_longer_limit():
    assert cut_after(None) == 10_000
    assert all(cut_after(limit) > limit for limit in (1, 1_000, 9_999, 10_000, 50_000))
    steps = iter(range(100_000))

    class Long(Misbehaving):
        def step(self, action):
            observation, reward, *_, info = super().step(action)
            return observation, reward, next(steps) == 12_000, False, info

    env = gymnasium.wrappers.TimeLimit(Long(), 20_000)
    env.unwrapped.max_steps = 20_000  # as minigrid's tasks declare it
    episodes = evaluate(RandomPolicy(Misbehaving.action_space, [1]), lambda: env, [1])
    assert episodes.lengths.tolist() == [12_001] and episodes.n_cut == 0


def test_a_run_on_a_task_without_a_limit_warns_and_reports_cut_episodes(run):
    said = run("good", "ppo", task=ENDLESS, more=LIMIT)
    assert said.code == 0, said.lines
    output = " ".join(said.output.split())
    assert "time limit the task declares none" in output
    assert "--env-kwargs '{max_episode_steps: 1000}' sets one" in output
    assert "cut theirs after 30 timesteps (evaluation.max_episode_timesteps)" in output
    for policy, n in (("random", 10), ("evaluations during training", 2), ("100 %", 10)):
        assert f"{policy}: {n} of {n} episodes did not end and were cut after 30" in output
    assert meta(said.folder)["n_cut_episodes"] == 10
    numbers = RunDirectory(said.folder).numbers
    assert numbers.cut_episodes()["100"] == Cut(10, 10, 30)


def test_dry_run_warns_only_if_the_limit_is_missing(run):
    warned = run("good", "ppo", task=ENDLESS, more=(*LONGER, "--dry-run"))
    assert warned.code == 0 and "cut theirs after 10,000" in " ".join(warned.output.split())
    kwargs = "{kind: good, max_episode_steps: 20}"
    quiet = run(kwargs, "ppo", task=ENDLESS, more=(*LONGER, "--dry-run"))
    assert quiet.code == 0 and "time limit" not in quiet.output
    shorter = run(kwargs, "ppo", task=ENDLESS, more=(*LIMIT, "--dry-run"))
    assert "2 episodes each, cut after 30 timesteps" in " ".join(shorter.output.split())


def test_baseline_of_an_endless_task_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", ENDLESS, "--episodes", "2"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "random: 2 of 2 episodes did not end and were cut after 10,000 timesteps" in output


def test_figures_show_how_many_episodes_were_cut_off():
    returns = np.arange(4.0)
    figure = figures.histogram("title", returns, "4 episodes did not end")
    assert "4 episodes did not end" in figure.axes[0].get_title(loc="left")
    assert figures.histogram("title", returns).axes[0].get_title(loc="left") == "title"


# --- non-finite returns --------------------------------------------------------------------------


def evaluations(*results):
    returns = np.array(results, float)
    k, n = returns.shape
    return Evaluations(np.arange(1, k + 1) * 100, returns, np.full((k, n), 20), np.arange(n))


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ([[1, 1], [math.nan, 9], [3, 3], [2, 2]], 300),
        ([[1, 1], [math.inf, 9]], 100),
        ([[math.nan, 1], [1, 1]], 200),
        ([[math.nan, 1], [-math.inf, 1]], None),
    ],
)
def test_the_best_evaluation_has_finite_returns(results, best):
    found = evaluations(*results)
    assert found.best_timestep == best
    kept = [i for i in range(len(results)) if evaluations(*results[: i + 1]).last_is_best]
    assert (100 * (kept[-1] + 1) if kept else None) == best


def test_statistics_cover_finite_returns_and_count_the_others():
    rng = np.random.default_rng
    whole, partly = [1.0, 2.0, 3.0], [1.0, math.nan, 2.0, 3.0, -math.inf]
    found = summarise(partly, rng(0))
    assert found == summarise(whole, rng(0))._replace(n_left_out=2)
    assert compare([1, math.nan, 4], [0, 1, 2], rng(0)) == compare([1, 4], [0, 2], rng(0))
    nothing = summarise([math.nan] * 3, rng(0))
    assert (nothing.n, nothing.n_left_out) == (0, 3) and math.isnan(nothing.mean)
    assert compare([math.nan], [1.0], rng(0)).difference.n == 0
    assert summarise_seeds([1.0, math.nan, 2.0], rng(0)).n == 2


@pytest.mark.parametrize("returns", [[1.0, math.nan, 2.0], [math.nan] * 3, [math.inf, 1, 2]])
def test_every_figure_shows_the_finite_returns(returns, tmp_path):
    returns = np.array(returns)
    n = int((~np.isfinite(returns)).sum())
    words = "1 return is not finite" if n == 1 else f"{n} returns are not finite"
    found = evaluations(returns, [1, 2, 3])
    for number, figure in enumerate(
        [
            figures.learning_curve("t", found),
            figures.comparison("t", found, np.array([1.0, 2.0])),
            figures.trained_vs_random("t", returns, np.array([1.0, 2.0])),
            figures.trained_vs_random("t", np.array([1.0]), returns),
            figures.milestone_bars("t", {100: returns}, {100: 100}, np.array([1.0])),
            figures.histogram("t", returns),
        ]
    ):
        assert words in figure.axes[0].get_title(loc="left")
        figures.save(figure, tmp_path / f"{number}.png")


@pytest.mark.parametrize("kind", ["judged_nan", "judged_inf", "judged_some"])
def test_a_run_with_non_finite_evaluations_finishes(kind, run):
    said = run("good", "ppo", more=("--eval-env-kwargs", f"{{kind: {kind}}}"))
    assert said.code == 0 and said.lines == []
    output = " ".join(said.output.split())
    assert "returns are NaN or infinite, and left out" in output
    statistics = meta(said.folder)["return"]
    assert statistics["n"] + statistics["n_left_out"] == 10
    all_left_out = kind != "judged_some"
    assert (statistics["mean"] is None) == all_left_out
    if all_left_out:
        assert "no best policy" in output
        assert not (said.folder / "best_model.zip").exists()
        assert policy_path(said.folder) == said.folder / "final_model.zip"
    assert main(["evaluate", str(said.folder)]) == 0
    assert main(["figures", str(said.folder)]) == 0


def test_a_film_shows_an_episode_with_a_finite_return(run):
    seeds = np.arange(3)
    for returns, first in (([1, 2, 3], 0), ([math.nan, -math.inf, 3], 2), ([math.nan] * 3, None)):
        assert Episodes(seeds, np.array(returns, float), seeds).first_finite == first
    more = ("--eval-env-kwargs", "{kind: judged_nan}", "--films", "true")
    said = run("good", "ppo", more=more)
    assert said.code == 0 and said.lines == []
    assert meta(said.folder)["missing"]["rollout.mp4"] == "no episode has a finite return"


# --- training that diverges ----------------------------------------------------------------------


def test_a_diverged_run_is_listed_as_such_and_not_resumed(run, capsys):
    more = ("--hyperparameters.learning_rate", "1e30")
    said = run("good", "sac", more=more)
    assert said.code == 1 and len(said.lines) == 1
    assert "a learning_rate below 1e+30 may help" in said.lines[0]
    told = json.loads((said.folder / "diverged.json").read_text(), parse_constant=not_valid_json)
    assert told["cause"] == "training" and told["message"] in said.lines[0]
    assert {"timestep", "last_log_row", "last_finite_losses"} <= told["evidence"].keys()
    (listed,) = list_runs(said.folder.parents[1])
    assert listed.status == "diverged" and "learning_rate" in listed.reason
    assert main(["run", "--resume", str(said.folder)]) == 2
    errors = capsys.readouterr().err
    assert "diverged: " in errors and "repeat this bit for bit" in errors
    (said.folder / "diverged.json").unlink()
    assert main(["run", "--resume", str(said.folder)]) == 1  # resumed anyway
    assert (said.folder / "diverged.json").exists()


@pytest.mark.parametrize("learner", ["native", "sb3"])
def test_repeatedly_unstable_physics_ends_the_run(learner, run):
    said = run("unstable", "ppo", learner=learner)
    assert said.code == 1 and len(said.lines) == 1
    assert "physics became unstable in 10 episodes in a row before timestep 10" in said.lines[0]
    assert "learning_rate" not in said.lines[0]
    told = json.loads((said.folder / "diverged.json").read_text())
    assert told["cause"] == "physics" and told["evidence"]["n_unstable_episodes"] == 10


def test_a_run_spoilt_by_its_task_resumes_once_the_task_is_fixed(run, monkeypatch, capsys):
    import gallop_misbehaving_task

    said = run("reward_nan", "sac")
    assert said.code == 1 and "returned NaN as the reward" in said.lines[0]
    assert "learning_rate" not in said.lines[0]
    assert list_runs(said.folder.parents[1])[0].status == "diverged"
    monkeypatch.delitem(gallop_misbehaving_task.ONCE, "reward_nan")
    assert main(["run", "--resume", str(said.folder)]) == 0
    assert "last ended with" in " ".join(capsys.readouterr().out.split())
    assert not (said.folder / "diverged.json").exists()
    assert list_runs(said.folder.parents[1])[0].status == "finished"


@pytest.mark.parametrize("learner", ["native", "sb3"])
@pytest.mark.parametrize("kind", ["observation_nan", "reward_inf"])
def test_the_history_of_a_tasks_non_finite_numbers_is_kept(kind, learner, trainers):
    settings = {"env": "gallop_misbehaving_task:Misbehaving-v0", "learner": learner}
    trainer = trainers(
        tiny("sac", env_kwargs={"kind": kind, "at": 110}, log_interval=1, **settings)
    )
    with pytest.raises(DivergedError) as error:
        next(trainer.segments())
    assert error.value.cause == kind.partition("_")[0]
    assert 100 <= error.value.evidence["timestep"] < 120
    assert "rollout/ep_rew_mean" in error.value.evidence["last_log_row"]
