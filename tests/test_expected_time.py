"""The expected time of a plan: measured here, added up by hand, and without any trace."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from algorithm_rows import ROWS
from conftest import tiny
from runs import children_of

from gallop.commands.cli import main
from gallop.report import display as displays
from gallop.report import measured_speed
from gallop.report.display import Display
from gallop.report.expected_time import CURVES, MILESTONE_FIGURES, SAVING, expected_time
from gallop.report.measured_speed import Speed, measure
from gallop.run_folder.prepared import prepare
from gallop.runs import workflow
from gallop.tuning import rounds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measured in a forked process")

LEARNERS = [
    (algo, learner)
    for algo, row in ROWS.items()
    for learner in sorted({name for names, _ in row.contract.values() for name in names})
]


class Odd(gymnasium.Env):
    """A task that does `how` from the third timestep of a process on, and not before."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    n_steps = 0
    how = "nothing"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        Odd.n_steps += 1
        if Odd.n_steps > 2:
            {
                "hang": lambda: time.sleep(1000),
                "stubborn": self.hang_on,
                "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
                "raise": lambda: 1 / 0,
                "nothing": lambda: None,
            }[Odd.how]()
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def hang_on(self):
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                continue


@pytest.fixture
def odd(monkeypatch):
    """A prepared run of this task."""
    monkeypatch.setattr(Odd, "n_steps", 0)
    gymnasium.register("Odd-v0", entry_point=Odd, max_episode_steps=50)
    yield lambda: prepare(tiny("ppo", env="Odd-v0", env_kwargs={}))
    del gymnasium.registry["Odd-v0"]


@pytest.fixture(autouse=True)
def for_as_long_as_a_user_waits(monkeypatch):
    """Measure for as long as a plan does; conftest.py shortens it for all other tests."""
    monkeypatch.setattr(measured_speed, "SECONDS_OF_STEPPING", 0.2)
    monkeypatch.setattr(measured_speed, "SECONDS_OF_LEARNING", 0.8)


# --- what is measured ----------------------------------------------------------------------------


@pytest.mark.parametrize(("algo", "learner"), LEARNERS)
def test_a_timestep_and_a_gradient_step_of_every_learner_are_measured(algo, learner, monkeypatch):
    monkeypatch.setattr(measured_speed, "SECONDS_TO_WAIT", 60.0)  # tests run on busy machines
    monkeypatch.setattr(measured_speed, "SECONDS_OF_LEARNING", 0.2)
    speed = measure(prepare(tiny(algo, learner=learner)))
    for seconds in (speed.make, speed.env_step, speed.timestep, speed.gradient_step, speed.act):
        assert 0 < seconds < 1
    assert speed.gradient_step > 1e-6 and speed.busy >= 1


def test_no_more_timesteps_are_measured_than_the_run_has(monkeypatch):
    for name in ("SECONDS_OF_STEPPING", "SECONDS_OF_LEARNING", "SECONDS_ENOUGH"):
        monkeypatch.setattr(measured_speed, name, 1e9)
    monkeypatch.setattr(measured_speed, "SECONDS_TO_WAIT", 60.0)
    for algo in ("sac", "ppo"):
        speed = measure(prepare(tiny(algo, learner="native")))
        assert speed.env_step > 0 and speed.timestep > 0 and speed.gradient_step > 0


def test_worker_processes_are_not_started_to_measure(monkeypatch):
    monkeypatch.setattr(measured_speed, "SECONDS_TO_WAIT", 60.0)
    prepared = prepare(tiny("ppo", n_envs=2, vec_env="subproc"))
    assert measure(prepared).timestep > 0
    assert "worker processes estimated" in str(expected_time(prepared, Speed(0.0, 1e-5, 1e-4)))


def test_no_random_stream_moves_nothing_is_printed_or_written(odd, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    prepared, before = odd(), Odd.n_steps
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert measure(prepared).env_step > 0
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.get_rng_state().tolist() == states[2]
    assert Odd.n_steps == before  # a counter in the task's own module
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())


def test_a_run_has_the_same_bits_whether_it_was_measured_or_not(tmp_path):
    files = ("episodes.csv", "segments.csv")  # with the learner's SHA-256 at each boundary
    digests = []
    for name, quiet in (("measured", False), ("quiet", True)):
        run = workflow.run(tiny("sac"), tmp_path, name, Display(quiet=quiet))
        digests.append([(run.path / file).read_text() for file in files])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("how", ["hang", "stubborn", "crash", "raise"])
def test_a_task_that_fails_later_is_left_to_the_run(how, odd, monkeypatch, capfd):
    monkeypatch.setattr(measured_speed, "SECONDS_TO_WAIT", 1.5)
    prepared = odd()
    monkeypatch.setattr(Odd, "how", how)
    before = set(children_of(os.getpid()))  # of other tests in this process
    began = time.monotonic()
    assert measure(prepared) is None
    assert time.monotonic() - began < 60
    assert "could not be measured" in str(expected_time(prepared, None))
    assert capfd.readouterr() == ("", "")
    assert set(children_of(os.getpid())) <= before  # not even a zombie


def test_what_was_measured_before_a_failure_is_used(monkeypatch):
    monkeypatch.setattr(measured_speed, "_learn", lambda *_: time.sleep(1000))
    monkeypatch.setattr(measured_speed, "SECONDS_TO_WAIT", 8.0)
    prepared = prepare(tiny("ppo"))
    speed = measure(prepared)
    assert speed.env_step > 0 and speed.gradient_step is None
    assert "gradient steps are a rough guess" in str(expected_time(prepared, speed))


def test_what_a_task_started_ends_with_the_measurement(tmp_path, monkeypatch):
    def start_and_hang(*_):
        child = subprocess.Popen(["sleep", "1000"])
        (tmp_path / "pid").write_text(str(child.pid))
        time.sleep(1000)

    monkeypatch.setattr(measured_speed, "_learn", start_and_hang)
    monkeypatch.setattr(measured_speed, "SECONDS_TO_WAIT", 10.0)
    measure(prepare(tiny("ppo")))
    state = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    assert not state.exists() or ") Z " in state.read_text()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_are_not_measured_in_a_forked_process(device):
    prepared = prepare(tiny("ppo", learner="sb3"))
    there = dataclasses.replace(
        prepared, experiment=prepared.experiment.model_copy(update={"device": device})
    )
    assert measure(there) is None


@pytest.mark.parametrize("flags", [[], ["--dry-run"], ["--dry-run", "--seeds", "0..1"]])
def test_nothing_is_measured_where_nobody_reads_it(flags, tmp_path, monkeypatch):
    def refuse(prepared):
        raise AssertionError("measured")

    monkeypatch.chdir(tmp_path)
    for module in (displays, rounds):
        monkeypatch.setattr(module, "measure", refuse)
    arguments = ["run", "--algo", "ppo", "--env", "Pendulum-v1", "--no-preset", "-n", "400"]
    arguments += ["--films", "no", "--milestones", "[100]", "-params", "n_steps:128"]
    assert main([*arguments, "--env-kwargs", "{max_episode_steps: 50}", "--quiet", *flags]) == 0
    with pytest.raises(AssertionError, match="measured"):
        main([*arguments, "--env-kwargs", "{max_episode_steps: 50}", "--dry-run"])


def test_the_cost_of_a_quiet_search_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rounds, "measure", lambda prepared: 1 / 0)
    assert main(["tune", "halfcheetah_sac_search", "--dry-run", "--quiet"]) == 0


# --- what is added up ----------------------------------------------------------------------------


def speed(busy=1.0):
    return Speed(make=0.25, env_step=0.001, timestep=0.01, gradient_step=0.5, act=0.002, busy=busy)


def test_the_parts_of_a_run_are_added_up():
    # 360 timesteps in 3 segments, episodes of 50, an evaluation of 2 episodes after each segment
    # and a milestone at the end.
    prepared = prepare(tiny("sac"))
    found = expected_time(prepared, speed())
    n_gradient_steps = prepared.plan.n_gradient_steps
    assert found.training == pytest.approx(360 * 0.01 + n_gradient_steps * 0.5)
    # 3 evaluations of 2 episodes, and of 10: random, milestone, best and final.
    n_episodes, n_times = 3 * 2 + 4 * 10, 3 + 4
    assert found.evaluations == pytest.approx(
        n_episodes * (0.25 + 50 * 0.001) + n_times * 50 * 0.002
    )
    assert found.rest == pytest.approx(3 * (CURVES + SAVING + 0.25) + MILESTONE_FIGURES)
    assert found.seconds == pytest.approx(found.training + found.evaluations + found.rest)
    assert "measured: timestep 10 ms, gradient step 500 ms" in str(found)


def test_what_is_done_already_is_left_out():
    prepared = prepare(tiny("sac"))
    whole, rest = expected_time(prepared, speed()), expected_time(prepared, speed(), done=240)
    settings = prepared.experiment.hyperparameters
    n = settings.n_gradient_steps(360, 1) - settings.n_gradient_steps(240, 1)
    assert rest.training == pytest.approx(120 * 0.01 + n * 0.5)
    # One evaluation, and the milestone, the best and the final policy.
    assert rest.evaluations == pytest.approx((2 + 30) * (0.25 + 0.05) + 4 * 50 * 0.002)
    assert rest.rest < whole.rest


def test_a_machine_that_is_busy_is_reported_as_such():
    prepared = prepare(tiny("sac"))
    alone, a_little, much = (expected_time(prepared, speed(busy)) for busy in (1.0, 1.4, 8.0))
    assert a_little.seconds == pytest.approx(1.4 * alone.seconds)
    assert much.seconds == alone.seconds and "while it is as busy as now" in str(much)
    assert "busy" not in str(alone) + str(a_little)


def test_several_runs_take_as_long_as_the_rounds_of_workers():
    prepared = prepare(tiny("sac"))
    one = expected_time(prepared, speed())._replace(training=3600.0, evaluations=0.0, rest=0.0)
    assert one.of_runs([1.0] * 5, 2) == ", about 3 h 00 min in all"
    assert one.of_runs([1.0], 2) == one.of_runs([], 2) == ""


def test_runs_that_have_begun_take_what_they_have_left():
    prepared = prepare(tiny("sac"))
    one = expected_time(prepared, speed())._replace(training=3600.0, evaluations=0.0, rest=0.0)
    assert one.of_runs([0.25, 0.75, 1.0], 2) == ", about 1 h 15 min left"
    assert one.of_runs([0.5], 2) == ", about 30 min left"


@pytest.mark.parametrize("films", [True, False])
def test_what_is_left_out_is_said(films):
    prepared = prepare(tiny("sac", films=films))
    assert ("films not counted" in str(expected_time(prepared, speed()))) == films
    endless = dataclasses.replace(prepared, time_limit=None)
    assert "episodes of 1,000 timesteps assumed" in str(expected_time(endless, speed()))


def test_the_plan_of_a_dry_run_has_a_measured_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(displays, "measure", lambda prepared: speed())
    arguments = ["run", "--algo", "ppo", "--env", "CartPole-v1", "-n", "100_000", "--dry-run"]
    assert main(arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "expected time about" in text and "measured: timestep 10 ms" in text
    assert main([*arguments, "--seeds", "3,5,7"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ": 3 runs as planned above" in text and " in all" in text
    assert not list(tmp_path.iterdir())
