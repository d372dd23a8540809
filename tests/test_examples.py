"""The examples work when a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from gallop.environments.make import make_env

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def zips(tmp_path):
    for seed, name in enumerate(("a", "b")):
        model = PPO("MlpPolicy", make_env("Pendulum-v1", seed=None), seed=seed)
        model.save(tmp_path / f"{name}.zip")
    return [tmp_path / "a.zip", tmp_path / "b.zip"]


def test_evaluate_a_zip(zips, tmp_path):
    shown = run("evaluate_a_zip.py", zips[0], "Pendulum-v1", cwd=tmp_path)
    returns = [float(text.replace(",", "")) for text in re.findall(r"seed \d+: (\S+)", shown)]
    mean = float(re.search(r"mean return (\S+)", shown)[1].replace(",", ""))
    assert len(returns) == 10 and mean == pytest.approx(sum(returns) / 10, abs=0.1)


def test_compare_two_policies(zips, tmp_path):
    shown = run("compare_two_policies.py", *zips, "Pendulum-v1", cwd=tmp_path)
    same = run("compare_two_policies.py", zips[0], zips[0], "Pendulum-v1", cwd=tmp_path)
    assert "difference of the mean return: +0.0 [+0.0, +0.0]" in same and "is better: 0.50" in same
    assert "p of no difference: 1.000" in same and "p of no difference: 0." in shown


def test_own_task_and_wrapper(tmp_path):
    shown = run("own_task_and_wrapper.py", cwd=tmp_path)
    found = float(re.search(r"return of the best policy: (\S+)", shown)[1])
    random = float(re.search(r"random +0 +(\S+)", shown)[1])
    assert random < found < 0, "it has learnt to reach"


@pytest.mark.slow
def test_train_and_film(tmp_path):
    arguments = ["total_timesteps=2000", "segment=500", "evaluation.interval=500"]
    shorter = "env_kwargs.max_episode_steps=300"  # 80 episodes are judged, and 4 filmed
    shown = run("train_and_film.py", *arguments, shorter, cwd=tmp_path)
    assert "film    cheetah.mp4" in shown
    assert (tmp_path / "cheetah.mp4").stat().st_size > 50_000
