"""Answers of child processes, whatever the tasks in them print."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import tiny

from gallop import answers
from gallop.answers import Answers
from gallop.environments.make import make_env
from gallop.evaluation.episodes import RandomPolicy, evaluate
from gallop.execution.processes import Processes
from gallop.execution.work import WorkItem
from gallop.report.films import video
from gallop.run_folder import consent
from gallop.run_folder.prepared import prepare
from gallop.runs import child_job, several
from gallop.runs.film_queue import Filming
from gallop.runs.workflow import make_folder

TASK = "gallop_talking_task:Talking-v0"


@pytest.fixture(autouse=True)
def tasks_of_these_tests(monkeypatch, tmp_path_factory):
    monkeypatch.setenv(consent.STATE_VARIABLE, str(tmp_path_factory.mktemp("decisions")))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def child_of(program):
    begin = "from gallop.answers import take_standard_output, tell\ntake_standard_output()\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_only_answers_are_on_the_pipe_and_printed_output_is_on_standard_error():
    program = """
import os, subprocess, sys
print('{"reason": "printed"}')
os.write(1, b'{"reason": "written"}\\n')
tell(frames=(3, 7))
tell(reason="told")
subprocess.run([sys.executable, "-c", "print('of a child')"])
"""
    with child_of(program) as child:
        answers = Answers(child.stdout)
        printed = child.stderr.read()
        child.wait()
        assert answers.latest("frames", has_ended=False) == [3, 7]
        assert answers.latest("reason", has_ended=True) == "told"
        assert answers.latest("nothing", has_ended=True) is None
    for words in (b"printed", b"written", b"of a child"):
        assert words in printed


def test_answers_arrive_while_the_child_runs_and_orphans_do_not_block_reading():
    program = """
import os, time
tell(reason="told")
if os.fork() == 0:
    time.sleep(60)
"""
    with child_of(program) as child:
        answers = Answers(child.stdout)
        child.wait()
        began = time.monotonic()
        assert answers.latest("reason", has_ended=True) == "told"
        assert time.monotonic() - began < 30
        child.stderr.close()


def film_job(path, task_kwargs, task=TASK):
    make = partial(make_env, task, seed=None)
    env = make()
    episodes = evaluate(RandomPolicy(env.action_space, [4]), make, [4])
    env.close()
    experiment = tiny("sac", env=task, env_kwargs=task_kwargs)
    video.write_job(path, experiment, episodes, 0)


def test_a_task_that_prints_fake_answers_is_filmed(tmp_path):
    film_job(tmp_path / "100.npz", {})
    film = Filming(tmp_path / "100.npz", tmp_path / "out", None)
    assert film.error() is None
    assert (tmp_path / "out" / "rollout.mp4").exists()
    assert "frames per second low" in (tmp_path / "100.log").read_text()


def test_a_film_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    """Its task may catch the signal."""
    monkeypatch.setattr(child_job, "SECONDS_TO_STOP", 0.5)
    film_job(tmp_path / "100.npz", {"how": "stubborn"}, "gallop_frozen_task:Frozen-v0")
    film = Filming(tmp_path / "100.npz", tmp_path / "out", None)
    while "drawing" not in (tmp_path / "100.log").read_text():
        assert film.running
        time.sleep(0.1)
    started = time.monotonic()
    film.stop()
    assert not film.running and time.monotonic() - started < 60


def test_a_log_that_is_too_long_is_truncated(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "MAX_LOG_BYTES", 10_000)
    film_job(tmp_path / "100.npz", {})
    film = Filming(tmp_path / "100.npz", tmp_path / "out", None)
    log = tmp_path / "100.log"
    with log.open("ab") as file:
        file.write(b"x" * 20_000)
    assert film.running
    assert log.read_text().startswith("(earlier output was dropped")
    assert film.error() is None
    assert "frames per second low" in log.read_text()
    assert log.stat().st_size < 10_000


def test_the_reason_for_a_missing_film_comes_from_the_child(tmp_path):
    film_job(tmp_path / "100.npz", {"fails_at": 7})
    film = Filming(tmp_path / "100.npz", tmp_path / "out", None)
    assert "the arm is stuck" in film.error()
    assert "of the task" not in film.error()


def test_the_reason_for_a_failed_work_item_is_not_a_line_printed_by_the_task(tmp_path):
    experiment = tiny("sac", env=TASK, env_kwargs={"fails_at": 55, "max_episode_steps": 60})
    consent.asked_for(experiment)
    run = make_folder(tmp_path / "run", prepare(experiment))
    engine = Processes(1)
    engine.submit(WorkItem(run.path, several.COMMAND))
    try:
        until = time.monotonic() + 60
        ended = []
        while not ended and time.monotonic() < until:
            ended = engine.poll()
            time.sleep(0.05)
    finally:
        engine.close()
    (failed,) = ended
    assert failed.exit_code == 1
    assert "the arm is stuck" in failed.reason
    assert "goodbye" in (run.path / "worker.log").read_text()


def test_a_pipe_that_cannot_be_read_yet_has_no_answers(tmp_path):
    """Windows has its own errors for an empty pipe; here, reading a folder raises another one."""
    with child_of("tell(frames=(1, 2))") as child:
        child.wait()
        answers, pipe = Answers(child.stdout), os.dup(child.stdout.fileno())
        folder = os.open(tmp_path, os.O_RDONLY)
        os.dup2(folder, child.stdout.fileno())
        assert answers.latest("frames", has_ended=False) is None
        os.dup2(pipe, child.stdout.fileno())
        assert answers.latest("frames", has_ended=False) == [1, 2]
        os.close(pipe)
        os.close(folder)
