"""`gallop watch` in a real window, on a virtual screen."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from conftest import tiny

SHORT = "{max_episode_steps: 50}"  # without a GPU, one frame of MuJoCo takes a tenth of a second


@pytest.mark.slow
@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Pendulum-v1"])
def test_a_policy_is_shown_in_a_window(task, trainers, tmp_path):
    assert shutil.which("xvfb-run"), "CI installs xvfb"
    trainer = trainers(tiny("ppo", env=task, env_kwargs={"max_episode_steps": 50}))
    trainer.learner.save_policy(tmp_path / "policy.zip")
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1024x768x24"]
    watch = [sys.executable, "-m", "gallop", "watch", str(tmp_path / "policy.zip")]
    done = subprocess.run(
        [*screen, *watch, "--env", task, "--env-kwargs", SHORT, "--episodes", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "seed 0: return" in done.stdout
    assert not list(tmp_path.glob("*.mp4")), "with a display nothing is filmed"
