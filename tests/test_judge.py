"""Single stages from files: the same numbers as the run's, paired comparisons, refused mistakes."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import gallop
from gallop.commands.cli import main
from gallop.environments.make import Task, make_env
from gallop.errors import ExperimentError
from gallop.execution.work import HELD
from gallop.experiments import seeding
from gallop.policies import sb3_zip
from gallop.report.display import Display
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.find_policy import TIME_FEATURE, find_policy, task_in_name
from gallop.run_folder.listing import list_runs
from gallop.runs import workflow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on Pendulum, whose observations are normalised."""
    results = tmp_path_factory.mktemp("results")
    experiment = tiny("ppo", normalize=True, eval_env_kwargs={"max_episode_steps": 40})
    return workflow.run(experiment, results, "a", Display(quiet=True))


def judged(run, policy):
    with (run.path / "episodes.csv").open(newline="") as file:
        return [float(r["return"]) for r in csv.DictReader(file) if r["policy"] == policy]


def test_evaluate_reproduces_the_runs_numbers(run):
    episodes = gallop.evaluate(run.path)
    assert episodes.returns.tolist() == judged(run, "best")
    assert episodes.seeds.tolist() == list(seeding.EVALUATION_SEEDS)
    assert episodes.lengths.tolist() == [40] * 10, "with the run's own evaluation settings"
    milestone = gallop.evaluate(str(run.path / "checkpoints" / "100"), n_episodes=3)
    assert milestone.returns.tolist() == judged(run, "100")[:3]


def test_more_episodes_continue_after_the_evaluation_seeds(run):
    seeds = gallop.evaluate(run.path, n_episodes=12).seeds
    assert seeds.tolist() == [*range(10_000, 10_012)]


def test_stochastic_episodes_differ_and_are_reproducible(run):
    first = gallop.evaluate(run.path, seeds=[1, 2], stochastic=True).returns
    again = gallop.evaluate(run.path, seeds=[1, 2], stochastic=True).returns
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, gallop.evaluate(run.path, seeds=[1, 2]).returns)


def test_evaluate_compares_policies_seed_by_seed(run, capsys, tmp_path):
    final, best = run.path / "final_model.zip", run.path / "best_model.zip"
    out = tmp_path / "rewards.npz"
    assert main(["evaluate", str(final), str(best), "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "A: PPO_Pendulum-v1/a/final_model.zip" in shown and "B − A" in shown
    assert "P(improvement)" in shown and "seeds 10000..10009" in shown
    with np.load(out, allow_pickle=False) as file:
        assert file["rewards"].tolist() == judged(run, "final")
        assert file["seeds"].tolist() == list(seeding.EVALUATION_SEEDS)


def test_the_baseline_of_a_run_equals_the_runs_own(run, capsys, tmp_path):
    out = tmp_path / "random.npz"
    assert main(["baseline", str(run.path), "-o", str(out)]) == 0
    with np.load(out, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["rewards"], run.numbers.read_baseline())
    assert main(["baseline", "Pendulum-v1", "--seeds", "3,5..6"]) == 0
    shown = capsys.readouterr().out
    assert "Random policy on Pendulum-v1" in shown and "seeds 3, 5..6" in shown


def test_the_reset_noise_reaches_the_simulator(tmp_path):
    env = make_env("HalfCheetah-v5", seed=None)
    SAC("MlpPolicy", env, policy_kwargs={"net_arch": [4]}).save(tmp_path / "HalfCheetah-v5.zip")
    named = find_policy(tmp_path / "HalfCheetah-v5.zip", reset_noise_scale=0.0)
    made = named.task.make()
    starts = [made.reset(seed=seed)[0] for seed in (1, 2)]
    np.testing.assert_array_equal(starts[0], starts[1])
    made.close()


def test_the_name_of_a_zip_gives_its_task(tmp_path, capsys):
    model = PPO("MlpPolicy", make_env("Pendulum-v1", seed=None), policy_kwargs={"net_arch": [4]})
    model.save(tmp_path / "ppo-Pendulum-v1.zip")
    assert main(["evaluate", str(tmp_path / "ppo-Pendulum-v1.zip"), "--episodes", "2"]) == 0
    assert "task Pendulum-v1, taken from the file name" in capsys.readouterr().out
    assert task_in_name("best_model") is None


def test_one_additional_observation_is_the_remaining_time(tmp_path):
    task = Task("Pendulum-v1", {}, ({TIME_FEATURE: {"n_timesteps": 200}},))
    env = task.make()
    observation, _ = env.reset(seed=0)
    assert observation.shape == (4,) and observation[-1] == 1.0
    for _ in range(50):
        observation, *_ = env.step(np.zeros(1, np.float32))
    assert observation[-1] == np.float32(1 - 50 / 200)
    assert env.observation_space.contains(observation)
    SAC("MlpPolicy", env, policy_kwargs={"net_arch": [4]}).save(tmp_path / "Pendulum-v1.zip")
    named = find_policy(tmp_path / "Pendulum-v1.zip")
    assert "the last one is the remaining time" in named.note
    assert gallop.evaluate(tmp_path / "Pendulum-v1.zip", n_episodes=1).lengths.tolist() == [200]


def test_figures_are_redrawn_from_files(run, capsys):
    names = ["learning_curve.png", "comparison.png", "checkpoint_means_barplot.png"]
    names += ["checkpoints/100/boxplot_trained_vs_random.png"]
    names += ["checkpoints/100/trained_rewards_hist.png"]
    before = [(run.path / name).read_bytes() for name in names]
    for name in names:
        (run.path / name).unlink()
    assert main(["figures", str(run.path)]) == 0
    assert [(run.path / name).read_bytes() for name in names] == before
    assert capsys.readouterr().out.count("figure  ") == 5


def test_list_shows_every_run_and_what_is_wrong_with_a_damaged_one(run, capsys, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(run.path, results / "PPO_Pendulum-v1" / "a")
    stopped = results / "PPO_Pendulum-v1" / "stopped"
    shutil.copytree(run.path, stopped)
    provenance = (stopped / "provenance.json").read_text()
    assert '"end": "' in provenance
    (stopped / "provenance.json").write_text("{}")
    broken = results / "PPO_Pendulum-v1" / "broken"
    broken.mkdir()
    (broken / "experiment.yaml").write_text("algo: [")
    with RunDirectory(stopped).locked():
        status = {listed.path.name: listed.status for listed in list_runs(results)}
    assert status == {"a": "finished", "stopped": "running", "broken": "damaged"}
    assert main(["list", "-f", str(results)]) == 0
    shown = capsys.readouterr().out
    for words in ("finished", "stopped", "damaged", "Pendulum-v1", "360", "is not valid YAML"):
        assert words in shown


@pytest.fixture
def other(tmp_path):
    """A policy of another task."""
    model = PPO("MlpPolicy", make_env("CartPole-v1", seed=None), policy_kwargs={"net_arch": [4]})
    model.save(tmp_path / "CartPole-v1.zip")
    return tmp_path / "CartPole-v1.zip"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "OTHER", "--env", "Pendulum-v1"], ": a policy of another task"),
        (["evaluate", "RUN", "OTHER"], "only policies of one task can be compared"),
        (["evaluate", "RUN", "--episodes", "0"], "--episodes 0: must be a whole number"),
        (["evaluate", "RUN", "--episodes", "10001"], "--episodes 10001: must be from 1 to 10000"),
        (["evaluate", "RUN", "--episodes", "2", "--seeds", "1"], "mutually exclusive"),
        (["evaluate", "RUN", "--seeds", "5..2"], "5..2 is not a valid range of seeds"),
        (["evaluate", "RUN", "--seeds", "x"], "seeds such as 3,10..12"),
        (["evaluate", "RUN", "--seeds", "1,1"], "appears twice"),
        (["evaluate", "RUN", "--reset-noise-scale", "0.1"], "argument 'reset_noise_scale'"),
        (["evaluate", "RUN", "--reset-noise-scale", "-1"], "at least 0"),
        (["evaluate", "RUN", "-o", "a.csv"], "must end in .npz"),
        (["evaluate", "TMP"], "not a run or milestone folder"),
        (["evaluate", "TMP/none.zip"], "no such file or folder"),
        (["evaluate", "RUN", "--normalizer", "TMP/none.npz"], "none.npz: not found"),
        (["evaluate", "RUN", "--episode", "3"], "--episodes"),
        (["evaluate"], "results: no run with a policy found"),
        (["baseline"], "RUN, a CONFIG or --env is required"),
        (["baseline", "Pendulum-v11"], "did you mean Pendulum-v1"),
        (["baseline", "RUN", "--env", "Pendulum-v1"], "mutually exclusive"),
        (["figures", "TMP"], "not a run folder"),
        (["figures"], "results: no run found"),
        (["list"], "results: no run found"),
        (["export", "RUN"], "--zoo DIR or --hub DIR"),
        (["export", "TMP", "--zoo", "TMP/zoo"], "not a run folder"),
        (["run", "--init-from", "OTHER", "--algo", "ppo", "--env", "Pendulum-v1", "-n", "81920"],
         "networks do not fit"),
        (["run", "--init-from", "TMP/none.zip", "--algo", "ppo", "--env", "Pendulum-v1"],
         "no such file"),
        (["run", "--algo", "ppo", "--env", "Hoper-v5"], "did you mean Hopper-v5"),
        (["run", "--algo", "ppo", "--env", "Pendulum-v1", "-params", "gama:1"], "gamma"),
        (["run", "--algo", "ppo", "--env", "Pendulum-v1", "-params", "learning_rat:1"],
         "did you mean learning_rate?"),
        (["run", "quickstart", "--algo", "PPO", "-params", "learning_rat:1"],
         "did you mean learning_rate?"),
        (["run", "--algo", "ppo", "--env", "Pendulum-v1", "-params", "gamma"], "NAME:VALUE"),
        (["run", "--algo", "ppo", "--env", "Pendulum-v1", "-params", "gamma:2"],
         "hyperparameters.gamma"),
        (["run", "--new-horizon", "--algo", "ppo", "--env", "Pendulum-v1"], "requires --extend"),
        (["run", "--extend", "RUN", "a.yaml"], "leave out CONFIG"),
        (["run", "--resume", "RUN", "--extend", "RUN"], "leave out --extend"),
        (["import-zoo", "TMP/none.yml"], "none.yml"),
        (["completion", "cmd"], "'cmd'"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line(arguments, words, run, other, tmp_path, monkeypatch, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    places = {"RUN": str(run.path), "OTHER": str(other), "TMP": str(empty)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gallop: ") and printed.err.count("\n") == 1, printed.err
    assert words in printed.err
    assert not list(empty.iterdir()), "nothing was written"


@pytest.fixture
def neighbours(tmp_path, monkeypatch):
    """Zips of PPO and SAC trained on raw observations, and another policy's vecnormalize.pkl."""
    monkeypatch.chdir(tmp_path)
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):  # a film sets them
        monkeypatch.setenv(name, os.environ.get(name, ""))
    task = {"max_episode_steps": 20}
    PPO("MlpPolicy", make_env("Pendulum-v1", seed=0, **task), n_steps=8, batch_size=8,
        policy_kwargs={"net_arch": [4]}).learn(8).save("ppo.zip")  # fmt: skip
    SAC("MlpPolicy", make_env("Pendulum-v1", seed=0, **task), learning_starts=9,
        policy_kwargs={"net_arch": [4]}).learn(8).save("sac.zip")  # fmt: skip
    others = VecNormalize(DummyVecEnv([lambda: make_env("Pendulum-v1", seed=0)]))
    others.obs_rms.mean = np.array([5.0, 5.0, 5.0])
    expected = {name: returns(name) for name in ("ppo.zip", "sac.zip")}
    others.save("vecnormalize.pkl")
    return expected


def returns(path, **options):
    return gallop.evaluate(path, env="Pendulum-v1", seeds=[1, 2], **options).returns.tolist()


def test_a_policy_trained_on_raw_observations_ignores_its_neighbours_normaliser(neighbours, capsys):
    assert returns("ppo.zip") == neighbours["ppo.zip"]
    forced = returns("ppo.zip", normalizer="vecnormalize.pkl")
    assert forced != neighbours["ppo.zip"], "another result, where it is requested"
    assert main(["evaluate", "ppo.zip", "--env", "Pendulum-v1", "--seeds", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "ppo.zip: vecnormalize.pkl is not used, because the policy was trained on" in printed
    assert "--normalizer vecnormalize.pkl applies it" in printed
    shutil.copy("ppo.zip", "none.zip")
    assert sb3_zip.read_training(Path("none.zip")).normalizer is None, "nor does --init-from"


def test_an_uncertain_normaliser_is_reported_and_can_be_left_out(neighbours, capfd):
    assert returns("sac.zip") != neighbours["sac.zip"]
    assert returns("sac.zip", normalizer="none") == neighbours["sac.zip"]
    shutil.copy("vecnormalize.pkl", "none")
    assert isinstance(sb3_zip.normalizer_option("./none"), Path), "a file of that name"
    task = ["--env", "Pendulum-v1", "--env-kwargs", "{max_episode_steps: 3}"]
    film = ["--output", "a.mp4", "--episodes", "1"]
    for command in (["evaluate", "--seeds", "1"], ["watch", *film]):
        assert main([*command, "sac.zip", *task]) == 0  # a film may be made in a child process
        printed = " ".join(capfd.readouterr().out.split())
        assert "warning: observations are normalised with vecnormalize.pkl, but" in printed
        assert "--normalizer none leaves it out" in printed
        assert main([*command, "sac.zip", *task, "--normalizer", "none"]) == 0
        assert "vecnormalize" not in capfd.readouterr().out
    Path("sac").mkdir()
    Path("vecnormalize.pkl").rename("sac/vecnormalize.pkl")
    assert main(["evaluate", "sac.zip", *task, "--seeds", "1"]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "sac.zip: observations are normalised with sac/vecnormalize.pkl" in printed
    assert "warning" not in printed, "the Zoo's layout shows whose it is"


def test_a_certain_normaliser_is_reported_without_a_warning(neighbours, capsys):
    made = VecNormalize(DummyVecEnv([lambda: make_env("Pendulum-v1", seed=0)]))
    PPO("MlpPolicy", made, n_steps=8, batch_size=8).learn(8).save("normalised.zip")
    assert main(["evaluate", "normalised.zip", "--env", "Pendulum-v1", "--seeds", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "normalised.zip: observations are normalised with vecnormalize.pkl" in printed
    assert "warning" not in printed
    Path("vecnormalize.pkl").unlink()
    with pytest.raises(ExperimentError, match="--normalizer FILE names its normaliser file"):
        returns("normalised.zip")
    assert returns("normalised.zip", normalizer="none")


@pytest.mark.parametrize(
    ("arguments", "foreign"),
    [
        (["--algo", "ppo", "--env", "Pendulum-v1", "-params", "learning_rat:1"], "learning_starts"),
        (["--algo", "ppo", "--hyperparameters.learning_rat", "1"], "learning_starts"),
        (["quickstart", "-params", "gae_lamda:1"], "gae_lambda"),
    ],
)
def test_only_settings_of_the_chosen_algorithm_are_suggested(arguments, foreign, capsys):
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert "learning_rate" in error or "gamma" in error, error
    assert foreign not in error


@pytest.mark.parametrize("command", ["evaluate", "watch", "figures", "verify", "baseline"])
def test_a_folder_that_holds_runs_names_the_newest(command, run, tmp_path, capsys):
    folder = tmp_path / "results" / "PPO_Pendulum-v1"
    for name in ("b", "a"):
        shutil.copytree(run.path, folder / name)
    for path in (folder, folder.parent):
        assert main([command, str(path)]) == 2
        error = capsys.readouterr().err
        assert error.endswith(f"; the newest run in it is {folder / 'a'}\n"), error


@pytest.mark.parametrize("command", [["figures"], ["export", "--zoo", "zoo"]])
def test_an_active_run_is_not_changed(command, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with run.locked():
        assert main([command[0], str(run.path), *command[1:]]) == HELD
    assert "being run by another process" in capsys.readouterr().err


def test_the_python_api_has_the_names_of_the_commands(run):
    words = {"experiment", "run", "run_seeds", "tune", "evaluate", "make_env", "watch"}
    assert set(gallop.__all__) == words | {"RayCluster"}
    assert set(gallop.__all__) <= set(dir(gallop))
    experiment = gallop.experiment(algo="ppo", env="Hopper-v5", hyperparameters={"gamma": 0.5})
    assert experiment.hyperparameters.gamma == 0.5
    assert experiment.hyperparameters.n_epochs == 5, "the preset's"
    plain = gallop.experiment(algo="ppo", env="Hopper-v5", preset=False, total_timesteps=1_024_000)
    assert plain.hyperparameters.n_epochs == 10, "SB3's"
    with pytest.raises(ExperimentError, match="gamma"):
        gallop.experiment(algo="ppo", env="Hopper-v5", hyperparameters={"gamma": 2})
    with pytest.raises(AttributeError, match="has no attribute 'walk'"):
        gallop.walk  # noqa: B018
