"""`gallop audit`: what it says while it works, and of what it cannot audit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import tiny
from rich.console import Console

from gallop.commands.auditing import _Progress
from gallop.commands.cli import main
from gallop.environments.make import Task
from gallop.evaluation.audit.audit import FORMAT
from gallop.evaluation.audit.sensitivity import (
    NOISY,
    UNCHANGEABLE,
    NoisySensors,
    changed_tasks,
    sensitivity,
)
from gallop.experiments.seeding import EVALUATION_SEEDS
from gallop.reading import read_json
from gallop.report.display import Display
from gallop.runs.workflow import run

CRATE = "gallop_mujoco_task:Crate-v0"


class Pushing:
    """Pushes more the slower the crate is."""

    def act(self, observations):
        return np.clip(1 - observations[:, 7:8], -1, 1).astype(np.float32)


def changes_of(task):
    env = task.make()
    try:
        tasks = changed_tasks(task, env)
    finally:
        env.close()
    begun, timesteps = [], []
    found = sensitivity(Pushing(), task, tasks, [0, 1], begun.append,
                        lambda: timesteps.append(1))  # fmt: skip
    return found, begun, timesteps


def test_a_simulator_that_cannot_be_changed_is_said_once():
    (unchanged, noisy), begun, timesteps = changes_of(Task(CRATE, {}))
    assert unchanged.name == UNCHANGEABLE and np.isnan(unchanged.returns).all()
    assert unchanged.why_not == f"not tried: {CRATE} is not one of Gymnasium's MuJoCo tasks"
    assert noisy.name == NOISY and np.isfinite(noisy.returns).all() and not noisy.why_not
    assert begun == [NOISY] and len(timesteps) == 30


def test_sensor_noise_disturbs_each_part_of_a_dictionary():
    """By 2 % of how much each number varies, and the same way each time."""

    class Seeing:
        def act(self, observations):
            seen.append({name: part.copy() for name, part in observations.items()})
            return np.zeros(1)

    rng = np.random.default_rng(0)
    batches = [{"far": rng.normal(0, 50, (1, 2)), "near": np.full((1, 3), 7.0)} for _ in range(400)]
    runs = []
    for _ in range(2):
        seen, policy = [], NoisySensors(Seeing())
        policy.begin()
        for batch in batches:
            policy.act(batch)
        runs.append(seen)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one["far"], other["far"])
    off = np.array([each["far"] - batch["far"] for each, batch in zip(seen, batches, strict=True)])
    assert off[100:].std() == pytest.approx(0.02 * 50, rel=0.15)
    assert all(np.array_equal(each["near"], np.full((1, 3), 7.0)) for each in seen)


def test_a_change_that_fails_in_the_tasks_code_is_no_end_of_the_audit():
    task, fails = Task(CRATE, {}), Task(CRATE, {"fails": True})
    failed, noisy = sensitivity(Pushing(), task, {"a change": fails}, [0])
    assert "the crate is gone" in failed.why_not and "\n" not in failed.why_not
    assert np.isnan(failed.returns).all() and np.isfinite(noisy.returns).all()


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A policy file of a tiny run."""
    settings = {"env": CRATE, "env_kwargs": {}}
    folder = run(tiny("sac", **settings), results=tmp_path_factory.mktemp("results"),
                 display=Display(quiet=True))  # fmt: skip
    path = tmp_path_factory.mktemp("policy") / "policy.zip"
    path.write_bytes(folder.best_model.read_bytes())
    return path


def audited(capsys, policy, *arguments, code=0):
    command = ["audit", str(policy), "--env", CRATE, *map(str, arguments)]
    assert main(command) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def test_without_a_terminal_each_part_is_a_line(policy, tmp_path, capsys):
    out = audited(capsys, policy, "--episodes", 3, "--sensitivity", "-o", tmp_path / "audit")
    lines = out.splitlines()
    assert lines[:3] == [
        "playing 3 episodes",
        f"playing 3 episodes, changed: {NOISY}",
        "recording 3 episodes at every physics step",
    ]
    assert out.count("is not one of Gymnasium's MuJoCo tasks") == 1 and "--physics" not in out
    record = read_json(tmp_path / "audit" / "audit.json")
    assert [each["change"] for each in record["sensitivity"]] == [UNCHANGEABLE, NOISY]
    assert record["sensitivity"][0]["returns"] == [None] * 3
    assert (tmp_path / "audit" / "sensitivity.png").stat().st_size > 0


def test_episodes_without_a_return_are_said_and_left_out(policy, tmp_path, capsys):
    """NaN from the first observation on, or later, in every second episode, and in all of them."""
    for broken_at in (0, 5):
        out = audited(capsys, policy, "--episodes", 4, "-o", tmp_path, "--env-kwargs",
                      f"{{broken_at: {broken_at}}}")  # fmt: skip
        assert "2 of 4 episodes not audited: no finite return" in out
        seeds = [each["seed"] for each in read_json(tmp_path / "audit.json")["episodes"]]
        assert seeds == [EVALUATION_SEEDS[0], EVALUATION_SEEDS[2]]
    err = audited(capsys, policy, "--episodes", 2, "--env-kwargs",
                  "{broken_at: 0, all_break: true}", code=2)  # fmt: skip
    assert "no episode has a finite return, so there is nothing to audit" in err


def test_an_episode_of_one_timestep_is_audited(policy, tmp_path, capsys):
    out = audited(capsys, policy, "--episodes", 2, "--env-kwargs", "{max_episode_steps: 1}",
                  "-o", tmp_path)  # fmt: skip
    assert "No findings." in out
    episode = read_json(tmp_path / "audit.json")["episodes"][0]
    assert episode["length"] == 1 and episode["contact"]["slip_share"] is None
    assert episode["contact"]["stride"] is None and episode["energy"]["transport"] is None


def test_of_a_task_without_mujoco_the_command_says_so_and_does_not_fail(tmp_path, capsys):
    folder = run(tiny("ppo", env="CartPole-v1"), results=tmp_path, display=Display(quiet=True))
    assert main(["audit", str(folder.path), "-o", str(tmp_path / "audit")]) == 0
    reason = "CartPole-v1 is not a MuJoCo task, so there is nothing to audit"
    assert capsys.readouterr().out.splitlines()[0] == reason
    assert read_json(tmp_path / "audit" / "audit.json") == {"format": FORMAT, "why_not": reason}
    assert [path.name for path in (tmp_path / "audit").iterdir()] == ["audit.json"]


def test_the_bar_moves_at_each_timestep_and_each_recorded_episode():
    display = Display()
    display.console = Console(file=io.StringIO(), force_terminal=True)
    with _Progress(display, 10, 100, 3) as progress:
        done = lambda: progress._bar.tasks[0].completed  # noqa: E731
        progress.begin("playing")
        progress.timestep()
        assert done() == pytest.approx(0.1), "each of ten episodes has done a hundredth"
        for _ in range(49):
            progress.timestep()
        assert done() == pytest.approx(5.0)
        progress.begin("a change")
        assert done() == 10.0, "they all fell at timestep 50"
        progress.begin("recording")
        progress.episode()
        assert done() == 21.0 and progress._bar.tasks[0].total == 30
