"""A complete run on a real task, started as users start it: all files and their contents."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import tiny
from stable_baselines3 import SAC

from gallop import machine
from gallop.environments.make import evaluation_env
from gallop.errors import RunError
from gallop.evaluation.episodes import evaluate
from gallop.experiments import seeding
from gallop.experiments.yaml_file import load
from gallop.policies import kernels, sb3_zip
from gallop.report.display import Display
from gallop.run_folder.directory import RunDirectory
from gallop.runs import workflow

CONFIG = """
algo: sac
env: HalfCheetah-v5
env_kwargs: {max_episode_steps: 50, reset_noise_scale: 0.15}
eval_env_kwargs: {reset_noise_scale: 0.10}
total_timesteps: 400
segment: 100
evaluation: {interval: 100, n_episodes: 3}
normalize: {observations: true}
hyperparameters: {batch_size: 16, policy_kwargs: {net_arch: [16]}}
log_interval: 1
"""

FILES = {
    "manifest.json",
    "segments.csv",
    *("experiment.yaml", "provenance.json", "run.log", "seeds.json"),
    *("random_baseline_rewards.npz", "evaluations.npz", "episodes.csv", "progress.csv"),
    *("learning_curve.png", "comparison.png", "checkpoint_means_barplot.png"),
    *("progress.mp4", "progress.gif", "report.html"),
    *("best_model.zip", "best_model.normalizer.npz"),
    *("final_model.zip", "final_model.normalizer.npz"),
}
MILESTONE_FILES = {
    *("trained_rewards.npz", "boxplot_trained_vs_random.png", "trained_rewards_hist.png"),
    *("rollout.mp4", "rollout.gif", "model.zip", "model.normalizer.npz", "meta.json"),
    *("audit.json", "trajectory.npz", "gait.png", "pitch.png"),
}


def gallop(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "gallop", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The finished run's folder and what was printed."""
    home = tmp_path_factory.mktemp("home")
    (home / "config.yaml").write_text(CONFIG)
    process = gallop("run", "config.yaml", "--name", "a", "--seed", 5, cwd=home)
    assert process.returncode == 0, process.stderr
    return home / "results" / "SAC_HalfCheetah-v5" / "a", process


@pytest.fixture(scope="module")
def folder(done):
    return done[0]


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_has_exactly_the_specified_files(folder):
    found = {path.name for path in folder.iterdir()}
    assert found == {*FILES, "state", "tensorboard", "checkpoints"}
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["025", "050", "100"]
    for milestone in (folder / "checkpoints").iterdir():
        expected = {*MILESTONE_FILES, *(("sensitivity.png",) * (milestone.name == "100"))}
        assert {path.name for path in milestone.iterdir()} == expected
    assert not list(folder.rglob(".new-*")), "no temporary file is left"
    for jobs in ("films", "audits"):
        assert not list((folder / "state" / jobs).iterdir()), "every job is done"


def test_output_shows_plan_progress_and_table_without_warnings(done):
    folder, process = done
    assert process.stderr == ""
    for words in (
        "UTD ratio 1",
        "25 % at 100, 50 % at 200, 100 % at 400",
        "native (the fastest for this experiment)",
    ):
        assert words in process.stdout
    assert process.stdout.count("of 400 timesteps") == 4
    for policy in ("random", "25 %", "50 %", "100 %", "best", "final"):
        assert re.search(rf"^ *{policy} +\d+ ", process.stdout, re.MULTILINE), policy
    assert str(folder.relative_to(folder.parents[2]) / "learning_curve.png") in process.stdout
    assert "arn" not in process.stdout.replace("learn", ""), "a dependency's warning"


def test_the_resolved_experiment_reads_back(folder):
    experiment = load(folder / "experiment.yaml")
    assert (experiment.training_seed, experiment.segment) == (5, 100)
    assert experiment == load(folder.parents[2] / "config.yaml", {"training_seed": "5"})


def test_all_policies_are_evaluated_on_the_same_ten_seeds(folder):
    seeds = list(seeding.EVALUATION_SEEDS)
    names = ["random_baseline_rewards.npz"]
    names += [f"checkpoints/{m}/trained_rewards.npz" for m in ("025", "050", "100")]
    for name in names:
        found = arrays(folder / name)
        assert sorted(found) == ["ep_lengths", "rewards", "seeds"]
        assert found["seeds"].tolist() == seeds
        assert found["ep_lengths"].tolist() == [50] * 10
    episodes = rows(folder / "episodes.csv")
    for policy in ("random", "025", "050", "100", "best", "final"):
        judged = [row for row in episodes if row["policy"] == policy]
        assert [int(row["seed"]) for row in judged] == seeds
        assert {row["seed_family"] for row in judged} == {"evaluation"}
    for row in episodes:
        total = float(row["reward_forward"]) + float(row["reward_ctrl"])
        assert float(row["return"]) == pytest.approx(total)


def test_evaluations_use_the_validation_seeds(folder):
    found = arrays(folder / "evaluations.npz")
    assert sorted(found) == ["ep_lengths", "results", "seeds", "timesteps"]
    assert found["timesteps"].tolist() == [100, 200, 300, 400]
    assert found["seeds"].tolist() == list(seeding.VALIDATION_SEEDS[:3])
    assert found["results"].shape == (4, 3)


def played(folder, path):
    experiment = load(folder / "experiment.yaml")
    env = evaluation_env(experiment)
    policy = sb3_zip.read(path, env.observation_space, env.action_space)
    return evaluate(policy, lambda: evaluation_env(experiment), seeding.EVALUATION_SEEDS)


def test_loaded_policy_files_reproduce_the_tabulated_returns(folder):
    for milestone in ("025", "050", "100"):
        here = folder / "checkpoints" / milestone
        expected = arrays(here / "trained_rewards.npz")["rewards"]
        np.testing.assert_array_equal(played(folder, here / "model.zip").returns, expected)
        meta = json.loads((here / "meta.json").read_text())
        assert meta["return"]["mean"] == pytest.approx(expected.mean())
        assert meta["steps"] == 4 * int(milestone)
        assert meta["missing"] == {}
    final = arrays(folder / "checkpoints" / "100" / "trained_rewards.npz")["rewards"]
    np.testing.assert_array_equal(played(folder, folder / "final_model.zip").returns, final)


def test_the_best_policy_is_that_of_the_highest_evaluation(folder):
    found = arrays(folder / "evaluations.npz")
    best_at = int(found["timesteps"][found["results"].mean(axis=1).argmax()])
    judged = [row for row in rows(folder / "episodes.csv") if row["policy"] == "best"]
    assert {int(row["timestep"]) for row in judged} == {best_at}
    model = SAC.load(folder / "best_model.zip", device="cpu")
    assert model.num_timesteps == best_at


def test_the_evaluation_differs_from_training_only_in_the_reset_noise(folder):
    env = evaluation_env(load(folder / "experiment.yaml"))
    assert env.unwrapped._reset_noise_scale == 0.10
    assert env.unwrapped.frame_skip == 5
    env.close()


def test_progress_has_sb3s_keys_and_the_utd_ratio(folder):
    found = rows(folder / "progress.csv")
    assert [int(float(row["time/total_timesteps"])) for row in found[-2:]] == [400, 400]
    for key in ("rollout/ep_rew_mean", "train/actor_loss", "train/ent_coef", "time/fps"):
        assert found[-1][key] != "", key
    assert float(found[-1]["train/utd"]) == pytest.approx(1, rel=0.02)


def test_provenance_records_command_versions_and_machine(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"][1:] == ["run", "config.yaml", "--name", "a", "--seed", "5"]
    assert provenance["learner"] == "native"
    assert provenance["cores"] == machine.available_processors()
    assert provenance["n_threads"] == kernels.n_threads(None)
    assert provenance["instruction_set"] == machine.instruction_set()
    assert provenance["start"] <= provenance["end"]
    import torch

    assert torch.__version__.startswith(provenance["versions"]["torch"].split("+")[0])
    assert provenance["cpu"] and provenance["resumes"] == []
    seeds = json.loads((folder / "seeds.json").read_text())
    assert seeds["segment_seeds"] == [seeding.segment_seed(5, k) for k in range(4)]


def test_an_existing_run_is_not_overwritten(folder):
    before = (folder / "final_model.zip").read_bytes()
    home = folder.parents[2]
    again = gallop("run", "config.yaml", "--name", "a", cwd=home)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1 and "already exists" in again.stderr
    assert again.stdout == "" and "--extend" in again.stderr and "--resume" not in again.stderr
    assert (folder / "final_model.zip").read_bytes() == before


def test_a_folder_that_appears_during_the_plan_is_not_overwritten(tmp_path):
    class Plan(Display):
        def plan(self, prepared, folder, done=0):
            RunDirectory(folder).create(prepared.experiment)

    with pytest.raises(RunError, match=r"already exists.*--resume"):
        workflow.run(tiny("ppo"), tmp_path, "a", Plan(quiet=True))


def test_too_few_evaluations_name_an_interval_that_has_enough(tmp_path, capsys):
    few = {"interval": 200, "n_episodes": 1}
    short = tiny("sac", total_timesteps=600, segment=200, evaluation=few)
    workflow.run(short, tmp_path, "a", Display())
    assert "Too few evaluations (3)" in (shown := capsys.readouterr().out)
    assert "last quarter. A run with --eval-freq 60 has enough." in shown


def test_resuming_a_finished_run_changes_nothing(folder):
    def everything():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in folder.rglob("*")
            if path.is_file() and path.name != "lock"
        }

    before = everything()
    again = gallop("run", "--resume", folder, cwd=folder.parents[2])
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"{folder} is finished: nothing to do\n"
    assert everything() == before


def test_figures_prints_the_closing_table_of_the_run(done):
    folder, process = done
    home = folder.parents[2]
    again = gallop("figures", folder.relative_to(home), cwd=home)
    assert (again.returncode, again.stderr) == (0, "")
    drawn, start, closing = again.stdout.partition("SAC on HalfCheetah-v5, ")
    _, _, ended_with = process.stdout.partition("from their zip files\n")
    assert start + closing == ended_with
    assert ended_with.count("film    ") == 4 and "to watch it" in ended_with
    names = ("boxplot_trained_vs_random.png", "trained_rewards_hist.png")
    milestones = folder.relative_to(home) / "checkpoints"
    expected = [milestones / p / name for p in ("025", "050", "100") for name in names]
    assert drawn.splitlines() == [f"figure  {path}" for path in expected]


def test_watch_films_the_newest_run_without_a_display(folder):
    done = gallop("watch", "--episodes", 1, "-o", "film.mp4", cwd=folder.parents[2])
    assert done.returncode == 0, done.stderr
    assert "seed 0: return" in done.stdout
    film = (folder.parents[2] / "film.mp4").read_bytes()
    assert film[4:8] == b"ftyp" and len(film) > 10_000


def test_watch_takes_a_milestone_and_a_zip_outside_of_runs(folder, tmp_path):
    home = folder.parents[2]
    milestone = folder / "checkpoints" / "025"
    done = gallop("watch", milestone, "--episodes", 1, "-o", tmp_path / "a.mp4", cwd=home)
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.zip").write_bytes((milestone / "model.zip").read_bytes())
    lost = gallop("watch", tmp_path / "mine.zip", cwd=home)
    assert lost.returncode == 2 and "--env ID is required" in lost.stderr


def test_dry_run_writes_nothing(folder, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = gallop("run", "config.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "gradient steps  300 (UTD ratio 1)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_quiet_prints_nothing(tmp_path):
    config = CONFIG + "films: false\n"
    (tmp_path / "config.yaml").write_text(config)
    done = gallop("run", "config.yaml", "--quiet", "--name", "q", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
