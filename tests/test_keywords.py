"""Keyword arguments of a task may have any name, and may be paths."""

from __future__ import annotations

import pytest
import yaml
from conftest import tiny

import gallop
from gallop.commands.cli import main
from gallop.environments.make import make_env
from gallop.runs import workflow

OURS = {"model_path": "a", "seed": 7, "task": "b", "wrappers": [1], "name": "c", "own_rewards": 2}


def test_names_that_gallop_uses_reach_the_task():
    env = make_env("gallop_keyword_task:Named-v0", seed=0, env_kwargs=OURS)
    assert env.unwrapped.given == list(OURS.values())


@pytest.mark.parametrize("task", ["ByKwargs-v0", "ByFactory-v0"])
def test_a_task_that_takes_any_keyword_gets_any(task):
    env = make_env(f"gallop_keyword_task:{task}", seed=0, env_kwargs={"goal": 3, "seed": 1})
    assert env.unwrapped.given == {"goal": 3, "seed": 1}


def test_such_a_run_is_trained_evaluated_and_filmed(tmp_path, capsys):
    kwargs = {**OURS, "max_episode_steps": 50}
    experiment = tiny("sac", env="gallop_keyword_task:Named-v0", env_kwargs=kwargs, films=True)
    run = workflow.run(experiment, tmp_path, "a")
    assert run.read_experiment().env_kwargs == kwargs
    assert run.milestone(100).film.exists()
    ours = gallop.evaluate(run).returns
    assert main(["evaluate", str(run.path), "--episodes", "2", "--env-kwargs", "{seed: 8}"]) == 0
    assert len(ours) == 10


@pytest.mark.parametrize("task", ["Named-v0", "ByKwargs-v0", "ByFactory-v0"])
def test_the_render_mode_is_gallops_alone(task, capsys):
    command = ["run", "--algo", "sac", "--env", f"gallop_keyword_task:{task}", "-n", "1000"]
    assert main([*command, "--dry-run", "--env-kwargs", "{render_mode: human}"]) == 2
    error = capsys.readouterr().err
    assert "render_mode: Gallop sets it itself" in error and error.count("\n") == 1


@pytest.mark.parametrize("folder", [".", "model"])
def test_a_relative_model_path_is_stored_so_that_other_folders_find_it(
    folder, tmp_path, monkeypatch
):
    from gallop.experiments.presets import shipped_files

    for source in (shipped_files() / "robots").glob("quadruped_*.xml"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / source.name).write_text(source.read_text())
    monkeypatch.chdir(tmp_path)
    name = f"{folder}/quadruped_servos.xml"
    command = ["run", "--algo", "sac", "--env", "gallop.environments.robot:Robot-v0", "-n", "1000"]
    small = ["--milestones", "100", "--films", "false", "--eval-episodes", "1", "--name", "a"]
    settings = ["-params", "learning_starts:900", "policy_kwargs.net_arch:[8]"]
    given = ["--env-kwargs", f"{{xml_file: {name}, max_episode_steps: 100}}"]
    assert main([*command, "--no-preset", *small, *settings, *given]) == 0
    (run,) = tmp_path.glob("results/*/a")
    stored = yaml.safe_load((run / "experiment.yaml").read_text())["env_kwargs"]["xml_file"]
    assert stored == str(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0


def test_a_path_is_taken_in_python(tmp_path):
    kwargs = {"model_path": tmp_path / "model.xml"}
    experiment = gallop.experiment(
        algo="sac", env="gallop_keyword_task:Named-v0", total_timesteps=1000, env_kwargs=kwargs
    )
    assert experiment.env_kwargs == {"model_path": str(tmp_path / "model.xml")}
    assert make_env(experiment.env, seed=0, env_kwargs=kwargs).unwrapped.given[0]
