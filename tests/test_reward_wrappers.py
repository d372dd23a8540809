"""Wrappers that change rewards are reported, and those with running statistics are refused."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.environments.make import RewardWrappers, evaluation_env, evaluation_task, make_env
from gallop.errors import ExperimentError
from gallop.evaluation.episodes import RandomPolicy, evaluate
from gallop.run_folder.prepared import prepare
from gallop.runs import workflow

HALVED = "gallop_wrappers:Halved"
CLIP = {"gymnasium.wrappers:ClipReward": {"min_reward": -1, "max_reward": 1}}


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("gymnasium.wrappers:NormalizeObservation", "observations"),
        ("gymnasium.wrappers:NormalizeReward", "rewards"),
        ("gymnasium.wrappers.vector:NormalizeObservation", "observations"),
        ("gymnasium.wrappers.vector:NormalizeReward", "rewards"),
        ("gallop_wrappers:MyNormalizer", "observations"),
        ("gallop_wrappers:Homemade", "observations"),
        ("gallop_wrappers:hidden", "observations"),
    ],
)
def test_running_statistics_are_refused_before_the_run(path, setting, capsys, tmp_path):
    others = ["gymnasium.wrappers:FlattenObservation"]
    arguments = ["--algo", "ppo", "--env", "Pendulum-v1", "--no-preset", "-n", "8000"]
    arguments += ["--wrappers", f"[{path}, {others[0]}]", "-params", "n_steps:100"]
    assert main(["run", *arguments, "--dry-run", "-f", str(tmp_path / "results")]) == 2
    message = capsys.readouterr().err
    assert f"--normalize.{setting} true" in message and message.count("\n") == 1
    assert "running statistics" in message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("wrappers", "left_out", "kept"),
    [
        ([], [], []),
        ([CLIP], ["gymnasium.wrappers:ClipReward"], []),
        (["gallop_wrappers:clipped_twice"], ["gallop_wrappers:clipped_twice"], []),
        (["gallop_wrappers:SkipsFrames", "gymnasium.wrappers:FlattenObservation"], [], []),
        (["gallop_wrappers:Shaped"], [], ["gallop_wrappers:Shaped"]),
        (["gallop_wrappers:Fails"], [], []),
        (["gallop_wrappers:StopsEarly"], [], ["gallop_wrappers:StopsEarly"]),
        (
            ["gallop_wrappers:Halved", "gallop_wrappers:SkipsFrames", "gallop_wrappers:Shaped"],
            ["gallop_wrappers:Halved"],
            ["gallop_wrappers:Shaped"],
        ),
    ],
)
def test_wrappers_that_change_rewards_are_detected(wrappers, left_out, kept):
    found = evaluation_task(tiny("ppo", wrappers=wrappers)).reward_wrappers()
    assert found == RewardWrappers(tuple(left_out), tuple(kept))
    assert bool(found.note) == bool(left_out or kept)


def returns(experiment):
    env = evaluation_env(experiment)
    policy = RandomPolicy(env.action_space, [1, 2])
    return evaluate(policy, lambda: evaluation_env(experiment), [1, 2]).returns.tolist()


def test_evaluation_reports_the_tasks_returns_and_training_the_wrapped_ones():
    plain = returns(tiny("ppo"))
    assert returns(tiny("ppo", wrappers=[CLIP, "gallop_wrappers:Halved"])) == plain
    assert returns(tiny("ppo", wrappers=["gallop_wrappers:Shaped"])) != plain
    own, clipped = (
        make_env("Pendulum-v1", seed=1, wrappers=[{"gallop_wrappers:Halved": {}}][:n])
        for n in (0, 1)
    )
    rewards = [float(env.step(np.zeros(1, np.float32))[1]) for env in (own, clipped)]
    assert rewards[1] == rewards[0] / 2 != 0, "training has the wrapper"


def test_plan_table_and_record_say_which_rewards_the_returns_sum(tmp_path, capsys):
    names = [CLIP, "gallop_wrappers:Shaped"]
    experiment = tiny("ppo", wrappers=names, films=True)
    run = workflow.run(experiment, tmp_path, "a")
    printed = " ".join(capsys.readouterr().out.split())
    says = (
        "the task's own in evaluations; gymnasium.wrappers:ClipReward changes them in training; "
        "changed by gallop_wrappers:Shaped, in evaluations too"
    )
    assert printed.count(says) == 2, "in the plan and below the table"
    meta = run.milestone(100).read_meta()
    assert meta["reward_wrappers"] == ["gymnasium.wrappers:ClipReward", "gallop_wrappers:Shaped"]
    assert meta["reward_wrappers_in_evaluation"] == ["gallop_wrappers:Shaped"]
    assert run.milestone(100).film.exists(), "the film played the same returns"


def test_a_run_without_reward_wrappers_records_none():
    assert prepare(tiny("ppo")).reward_wrappers == RewardWrappers()


def test_a_task_that_normalises_inside_is_refused():
    import gymnasium

    spec = gymnasium.spec("Pendulum-v1")
    normalised = spec.entry_point

    def make(**kwargs):
        from gymnasium.wrappers import NormalizeReward

        module, _, name = str(normalised).partition(":")
        import importlib

        return NormalizeReward(getattr(importlib.import_module(module), name)(**kwargs))

    gymnasium.register("Inside-v0", entry_point=make, max_episode_steps=50)
    try:
        with pytest.raises(ExperimentError, match="NormalizeReward keeps running statistics"):
            prepare(tiny("ppo", env="Inside-v0"))
    finally:
        del gymnasium.registry["Inside-v0"]
