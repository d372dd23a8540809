"""Every preset is found, names its source, and trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.cli import main
from gallop.experiments import presets
from gallop.experiments.yaml_file import load
from gallop.report.display import Display
from gallop.runs import workflow

MUJOCO = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid", "Swimmer", "Reacher", "Pusher")
TASKS = [f"{name}-v5" for name in MUJOCO] + ["Pendulum-v1", "MountainCarContinuous-v0"]
EXPECTED = {(algo, task) for algo in ALGORITHMS for task in TASKS}
EXPECTED |= {("ppo", "CartPole-v1"), ("ppo", "Acrobot-v1")}


def test_there_is_one_for_every_algorithm_and_task():
    assert {(preset.algo, preset.env) for preset in presets.all_presets()} == EXPECTED


@pytest.mark.parametrize("preset", presets.all_presets(), ids=lambda p: f"{p.algo}-{p.env}")
def test_each_has_a_source_and_matches_its_file_name(preset):
    experiment = load(preset.path)
    assert (experiment.algo, experiment.env) == (preset.algo, preset.env)
    assert experiment.source == preset.source != ""


def test_run_finds_and_reports_its_preset(capsys):
    assert main(["run", "--algo", "PPO", "--env", "Hopper-v5", "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "preset for PPO on Hopper-v5: rl-baselines3-zoo (commit 22e3ff2, MIT)" in shown
    n_rollouts = -(-1_000_000 // 512)  # each has 5 epochs of 16 minibatches
    assert f"gradient steps {n_rollouts * 5 * 16:,}" in shown


def test_a_missing_preset_is_reported(capsys):
    arguments = ["--algo", "ppo", "--env", "InvertedPendulum-v5", "-n", "1e6", "--dry-run"]
    assert main(["run", *arguments]) == 0
    assert "no preset for PPO on InvertedPendulum-v5 (" in capsys.readouterr().out
    assert main(["run", "--algo", "ppo", "--env", "Hopper-v5", "--no-preset", *arguments[4:]]) == 0
    assert "preset" not in capsys.readouterr().out
    assert presets.hint("ppo", "Hopper-v4") == "there is one for Hopper-v5"
    assert presets.hint("sac", "Foo-v0") == "gallop presets lists all presets"


def test_params_are_dotted_overrides(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = "run --algo sac --env Pendulum-v1 -n 400 --milestones [50,100] --films false"
    params = "-params gamma:0.9 policy_kwargs.net_arch:[8] ent_coef:auto_0.1"
    arguments = [*arguments.split(), "--name", "a", "--quiet", *params.split()]
    assert main(arguments) == 0
    found = load(tmp_path / "results" / "SAC_Pendulum-v1" / "a" / "experiment.yaml")
    assert found.hyperparameters.gamma == 0.9
    assert found.hyperparameters.ent_coef == "auto_0.1"
    assert found.hyperparameters.policy_kwargs.net_arch == [8]
    assert found.hyperparameters.learning_rate == 1e-3, "the preset's"


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "halfcheetah_sac"])
def test_run_takes_an_example_by_name_from_any_folder(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", name, "--dry-run"]) == 0
    assert "SAC on HalfCheetah-v5" in capsys.readouterr().out
    assert (
        presets.experiment(name).total_timesteps
        == load(presets.config_file(Path(name))).total_timesteps
    )


def test_tune_and_baseline_take_an_example_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "halfcheetah_sac_search", "--dry-run"]) == 0
    assert main(["baseline", "quickstart", "--episodes", "1"]) == 0
    shown = capsys.readouterr().out
    assert "20 trials" in shown
    assert "Random policy on HalfCheetah-v5" in shown


def test_a_file_in_the_current_folder_takes_precedence_over_an_example(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("algo: ppo\nenv: Pendulum-v1\ntotal_timesteps: 8192\n")
    assert main(["run", "quickstart", "--dry-run"]) == 0
    assert "PPO on Pendulum-v1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "name", "nearest"),
    [
        ("run", "quikstart", "quickstart"),
        ("run", "halfcheetah_sax.yaml", "halfcheetah_sac"),
        ("tune", "halfcheetah_sac_serch", "halfcheetah_sac_search"),
    ],
)
def test_an_unknown_name_gets_the_nearest_example(
    command, name, nearest, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([command, name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gallop: {name}: No such file or example; did you")
    assert nearest in error and error.count("\n") == 1


def test_presets_lists_the_examples_with_their_commands(capsys):
    assert main(["presets"]) == 0
    shown = capsys.readouterr().out
    assert "gallop run quickstart\n" in shown
    assert "gallop tune halfcheetah_sac_search\n" in shown


@pytest.mark.slow
# The Zoo's PPO for MountainCarContinuous has minibatches larger than a rollout; SB3 warns of that.
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size:UserWarning")
@pytest.mark.parametrize("preset", presets.all_presets(), ids=lambda p: f"{p.algo}-{p.env}")
def test_each_trains_one_segment(preset, tmp_path):
    given = load(preset.path)
    # One segment of the preset's length. Off-policy learning starts late in it, so that all presets
    # together take minutes. CrossQ's critics are wide and slow; its actor learns every third time.
    hyperparameters = {}
    n_learning = 320 if given.algorithm.native_class else 4 if given.algo == "crossq" else 64
    if not given.algorithm.on_policy:
        starts = max(given.hyperparameters.learning_starts, given.segment - n_learning)
        hyperparameters["learning_starts"] = min(starts, given.segment - n_learning)
    experiment = presets.experiment(
        preset.path,
        total_timesteps=given.segment,
        milestones=[100],
        evaluation={"interval": given.segment, "n_episodes": 1},
        films=False,
        audit=False,
        n_threads=1,
        hyperparameters=hyperparameters,
    )
    run = workflow.run(experiment, tmp_path, "a", Display(quiet=True))
    meta = run.milestone(100).read_meta()
    assert meta["steps"] >= given.segment and meta["return"]["n"] == 10
    state = json.loads(next(run.state.glob("[0-9]*/learner.json")).read_text())
    assert max(state.get("n_gradient_steps", 0), state.get("_n_updates", 0)) > 0, "it has learnt"
