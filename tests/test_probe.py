"""The probe of a task: does its seed decide what it returns?"""

from __future__ import annotations

import json

import gallop_seed_task  # noqa: F401  (registers its tasks)
import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.environments.make import Task
from gallop.environments.probe import Probed, probe
from gallop.run_folder.prepared import prepare_again

ENV = "gallop_seed_task:Seeds-v0"


@pytest.mark.parametrize("env", ["HalfCheetah-v5", "Pendulum-v1", "CartPole-v1", ENV])
def test_nothing_is_said_of_a_task_that_its_seed_decides(env):
    found = probe(Task(env, {}))
    assert found.note == "" and not found.fresh_entropy


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("goal", "two resets with seed 1 gave different observations"),
        ("rewards", "after resets with seed 1, the same actions gave different results at call 2"),
        ("process", "in a new process, two resets with seed 1 gave different observations"),
    ],
)
def test_a_task_that_ignores_the_seed_is_found(kind, where):
    found = probe(Task(ENV, {"kind": kind}))
    assert found.ignores_seed == where
    assert "`seed` (--env-kwargs)" in found.note


@pytest.mark.parametrize("kind", ["goal", "rewards"])
def test_the_tasks_own_seed_fixes_it(kind):
    assert probe(Task(ENV, {"kind": kind, "seed": 3})) == Probed()


def test_a_task_that_draws_anew_only_without_a_seed_can_be_repeated():
    assert probe(Task(ENV, {"kind": "fresh"})) == Probed(fresh_entropy=True, seed_keyword=True)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("outside", "an observation is outside its space: 7.5 at index 1, which has -1 to 1"),
        ("float64", "observations are float64, in a space of float32"),
    ],
)
def test_unusual_observations_are_told(kind, words):
    assert probe(Task(ENV, {"kind": kind})).unusual == (words,)


@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_a_run_has_the_same_bits_although_the_task_draws_anew_at_resets(
    algo, vec_env, tmp_path, capsys
):
    run = ["run", "--algo", algo, "--env", ENV, "--env-kwargs", "{kind: fresh}", "-n", "300"]
    run += ["--vec-env", vec_env, "--milestones", "[100]", "--films", "false", "-f", str(tmp_path)]
    run += ["--segment", "150", "--eval-freq", "150", "--no-preset", "--n_threads", "1"]
    run += ["-params", "batch_size:10"] + (["n_steps:50"] if algo == "ppo" else [])
    for name in "ab":
        assert main([*run, "--name", name]) == 0
    first, second = (
        (tmp_path / f"{algo.upper()}_gallop_seed_task-Seeds-v0" / name / "segments.csv").read_text()
        for name in "ab"
    )
    assert first == second
    assert len(first.splitlines()) == 3


def test_episodes_are_not_paired_if_the_seed_does_not_decide_them(tmp_path, capsys):
    run = ["run", "--algo", "ppo", "--env", ENV, "--env-kwargs", "{kind: goal}", "-n", "100"]
    run += ["--milestones", "[100]", "--films", "false", "-f", str(tmp_path), "--name", "a"]
    run += ["--no-preset", "-params", "n_steps:50", "batch_size:10"]
    assert main(run) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert output.count("two resets with seed 1 gave different observations") == 2
    assert "minus" not in output and "100 % − random" not in output
    folder = tmp_path / "PPO_gallop_seed_task-Seeds-v0" / "a"
    meta = json.loads((folder / "checkpoints" / "100" / "meta.json").read_text())
    assert meta["compared_to_random"] is None
    assert "cannot be compared episode by episode" in meta["task_note"]
    zips = [str(folder / "best_model.zip"), str(folder / "final_model.zip")]
    assert main(["evaluate", *zips]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "A: " in output and "B: " in output and "B − A" not in output


def test_an_action_without_a_range_is_in_the_plan(capsys):
    command = ["run", "--env", "gallop_seed_task:NoRange-v0", "--algo", "sac", "-n", "100"]
    assert main([*command, "--dry-run"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "the action at index 1 has no range: it is always 0" in words


def test_what_was_found_at_the_start_holds_for_the_whole_run():
    found = Probed(fresh_entropy=True)
    assert prepare_again(tiny("ppo"), found).probed is found
