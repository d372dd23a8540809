"""One process a study, a search, a group, a run: a second one is refused and told who holds it.
Failed trials can be tried again."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import optuna
import pytest
import yaml
from conftest import tiny
from small_search import finish, folder, one_round, start, trials, write

from gallop.errors import HeldError
from gallop.execution.work import HELD
from gallop.report.display import Display
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import hold
from gallop.run_folder.holder import holder_from, ourselves
from gallop.run_folder.prepared import prepare
from gallop.run_folder.seed_group import SeedGroup
from gallop.runs import workflow
from gallop.runs.workflow import make_folder
from gallop.tuning import lease


@pytest.fixture
def studies(tmp_path):
    """One study, opened twice, as by two processes."""
    url = f"sqlite:///{tmp_path}/s.db"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return [optuna.create_study(storage=url, study_name="s", load_if_exists=True) for _ in range(2)]


def sign(**changes):
    return {**ourselves()._asdict(), "token": "other", "beat": 1, **changes}


def test_a_second_coordinator_is_refused_and_the_first_is_named(studies):
    with lease.held(studies[0], settle=False), pytest.raises(HeldError) as error:
        lease.wait_until_free(studies[1])
    assert f"process {os.getpid()} on {platform.node()}" in str(error.value)
    lease.wait_until_free(studies[1])  # given back


def test_a_study_whose_process_has_ended_is_free_at_once(studies):
    child = subprocess.Popen(["sleep", "60"])
    studies[0].set_user_attr(lease.HOLDER, sign(pid=child.pid))
    child.kill()
    child.wait()
    started = time.monotonic()
    with lease.held(studies[1], settle=False):
        assert time.monotonic() - started < lease.PATIENCE / 2


def test_one_on_another_machine_is_free_when_it_shows_no_sign_of_life(studies, monkeypatch):
    monkeypatch.setattr(lease, "PATIENCE", 1.5)
    studies[0].set_user_attr(lease.HOLDER, sign(host="elsewhere", pid=1))
    started = time.monotonic()
    lease.wait_until_free(studies[1])
    assert time.monotonic() - started >= 1.5


def test_who_was_taken_for_dead_stops(studies, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.05)
    with lease.held(studies[0], settle=False) as ours:
        ours.check()
        studies[1].set_user_attr(lease.HOLDER, sign(host="elsewhere"))
        time.sleep(0.5)
        with pytest.raises(HeldError, match="on elsewhere"):
            ours.check()
    assert studies[1].user_attrs[lease.HOLDER]["host"] == "elsewhere"


@pytest.mark.parametrize(
    "data", [None, 3, {}, {"pid": "1"}, sign(host=3), sign(pid=True), sign(host="\x1b[31m" * 99)]
)
def test_whatever_a_database_says_of_its_holder_is_readable(data):
    text = str(lease.holder_from(data))
    assert text.isprintable() and len(text) < 300


@pytest.mark.parametrize("make", [RunDirectory, SeedGroup])
def test_a_lock_names_who_holds_it(make, tmp_path):
    held = make(tmp_path)
    (tmp_path / "state").mkdir()
    with held.locked():
        with pytest.raises(HeldError, match=f"process {os.getpid()} on .*, since 2"), held.locked():
            pass
        if make is RunDirectory:
            assert held.is_locked()
    assert not list(tmp_path.rglob("*.holder"))


def test_whoever_only_looks_whether_a_run_is_held_gets_in_nobodys_way(tmp_path):
    """As `gallop list` does at the moment in which a run starts."""
    (tmp_path / "state").mkdir()
    looking, looked = RunDirectory(tmp_path).locked(named=False), threading.Event()

    def look():
        with looking:
            looked.set()
            time.sleep(0.3)

    thread = threading.Thread(target=look)
    thread.start()
    looked.wait()
    with RunDirectory(tmp_path).locked():
        thread.join()


def test_a_process_that_has_ended_is_not_named_as_the_holder(tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    gone = ourselves()._replace(pid=child.pid)
    (tmp_path / "lock.holder").write_text(json.dumps(gone._asdict()))
    child.kill()
    child.wait()
    busy = HeldError("busy")
    held = hold(tmp_path / "lock", tmp_path, busy, named=False)
    with held, pytest.raises(HeldError) as error, hold(tmp_path / "lock", tmp_path, busy):
        pass
    assert str(error.value) == "busy"


def test_a_run_is_held_from_its_first_look_to_its_end(tmp_path, monkeypatch):
    """Nobody can come between what a resumed run checks and what it does."""
    run = make_folder(tmp_path / "run", prepare(tiny("ppo")))
    is_held = {}
    for name in ("_warn_of_changes", "learner_for"):
        original = getattr(workflow, name)

        def looked(*arguments, name=name, original=original):
            is_held[name] = RunDirectory(run.path).is_locked()
            return original(*arguments)

        monkeypatch.setattr(workflow, name, looked)
    workflow.resume(run, Display(quiet=True))
    assert is_held == {"_warn_of_changes": True, "learner_for": True}


def test_a_lock_of_nobody_known_is_still_refused(tmp_path):
    (tmp_path / "lock.holder").write_text("[" * 5000)
    busy = HeldError("busy")
    held = hold(tmp_path / "lock", tmp_path, busy, named=False)
    with held, pytest.raises(HeldError) as error, hold(tmp_path / "lock", tmp_path, busy):
        pass
    assert str(error.value) == "busy"


def test_a_holder_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "lock.holder").symlink_to(tmp_path / "elsewhere")
    with hold(tmp_path / "lock", tmp_path, HeldError("busy")):
        pass
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_a_process_is_known_by_its_beginning_too():
    assert not ourselves().is_gone()
    assert ourselves()._replace(began="1").is_gone()  # its number was used again
    assert not ourselves()._replace(began="1", host="elsewhere").is_gone()


def test_of_a_process_in_another_container_nobody_knows():
    """It may have the same name of a machine, and numbers of processes of its own."""
    theirs = ourselves()._replace(began="1", system="another")
    assert not theirs.is_gone()
    earlier = holder_from({k: v for k, v in theirs._asdict().items() if k != "system"})
    assert earlier is not None and not earlier.is_gone()  # of an earlier version


def test_a_study_whose_holder_may_still_live_is_waited_for_with_a_word(
    studies, monkeypatch, caplog
):
    monkeypatch.setattr(lease, "PATIENCE", 1.5)
    monkeypatch.setattr(lease, "SECONDS_UNSAID", 0.2)
    studies[0].set_user_attr(lease.HOLDER, sign(host="elsewhere", pid=1))
    with caplog.at_level("WARNING", "gallop"):
        lease.wait_until_free(studies[1])
    [record] = caplog.records
    assert "process 1 on elsewhere" in record.message and "to see whether" in record.message


def test_a_database_that_does_not_answer_holds_up_nobody(studies, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.05)
    monkeypatch.setattr(lease, "SECONDS_TO_RELEASE", 0.3)
    stuck, answers = threading.Event(), threading.Event()

    def never(self):
        stuck.set()
        answers.wait(60)

    with lease.held(studies[0], settle=False):
        monkeypatch.setattr(lease.Lease, "_look", never)
        stuck.wait()
        started = time.monotonic()
    assert time.monotonic() - started < 30
    answers.set()


@pytest.mark.slow
def test_two_searches_of_one_study(tmp_path):
    """The first comes to its end as if alone; the second is refused before it writes anything."""
    database = f"sqlite:///{tmp_path}/shared.db"
    refused = tmp_path / "refused"  # the first waits for it
    task = {"env": "gallop_dying_task:Waiting-v0", "env_kwargs": {"until": str(refused)}}
    data = one_round(2, experiment=task)
    arguments = ("--workers", "1", "--storage", database, "--study-name", "shared", "--name", "x")
    homes = []
    for name in ("first", "second"):
        (home := tmp_path / name).mkdir()
        write(home, data)
        homes.append(home)
    first = start(homes[0], "search.yaml", *arguments)
    while not list(homes[0].glob("o/plots/*/*/trials/000/seed-0/experiment.yaml")):
        assert first.poll() is None
        time.sleep(0.05)
    try:
        code, output = finish(start(homes[1], "search.yaml", *arguments), homes[1])
        assert code == HELD, output
        assert f"study 'shared' is being searched by process {first.pid} on" in output
        assert "Traceback" not in output
        assert not (homes[1] / "o").exists()
        code, output = finish(start(homes[1], "--resume", folder(homes[0])), homes[1])
        assert code == HELD and f"process {first.pid} on" in output, output
    finally:
        refused.touch()
    assert first.wait(200) == 0
    states = [row["state"] for row in trials(folder(homes[0]))]
    assert states == ["COMPLETE", "COMPLETE"]


@pytest.mark.slow
def test_a_killed_search_leaves_its_study_free(tmp_path):
    write(tmp_path, one_round(2))
    database = f"sqlite:///{tmp_path}/shared.db"
    first = start(tmp_path, "search.yaml", "--storage", database, "--name", "x")
    while not list(tmp_path.glob("o/plots/*/*/trials/000/seed-0/experiment.yaml")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    code, output = finish(start(tmp_path, "--resume", folder(tmp_path)), tmp_path)
    assert code == 0, output


@pytest.mark.slow
def test_failed_trials_are_named_and_tried_again(tmp_path):
    data = one_round(3, experiment={"env": "gallop_dying_task:Nan-v0", "env_kwargs": {}})
    write(tmp_path, data)
    code, output = finish(start(tmp_path, "search.yaml", "--workers", "1", "--name", "x"), tmp_path)
    assert code == 0, output
    found = folder(tmp_path)
    assert "1 failed" in output and "trial 1 failed: " in output
    assert f"gallop tune --resume {found} --retry-failed" in output
    before = trials(found)
    again = start(tmp_path, "--resume", found, "--retry-failed", "--workers", "1")
    code, output = finish(again, tmp_path)  # the task is sick in trials/001 alone
    assert code == 0, output
    rows = trials(found)
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert rows[:3] == before[:3] or [r["state"] for r in rows[:3]] == [r["state"] for r in before]
    assert rows[3]["user_attrs_retry_of"] in ("1", "1.0")
    assert rows[3]["params_learning_rate"] == rows[1]["params_learning_rate"]
    assert "trial 1 failed" not in output
    code, output = finish(start(tmp_path, "--resume", found, "--retry-failed"), tmp_path)
    assert code == 0 and len(trials(found)) == 4, output  # there is none left


@pytest.mark.slow
def test_two_groups_of_one_name_and_two_resumes_of_one_run(tmp_path):
    evaluation = {"interval": 12_000, "n_episodes": 2}
    experiment = tiny("sac", total_timesteps=1_200_000, segment=12_000, evaluation=evaluation)
    experiment = experiment.model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(experiment))

    def gallop(*arguments):
        command = [sys.executable, "-m", "gallop", "run", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    first = gallop("config.yaml", "--seeds", "0", "--name", "a")
    run = tmp_path / "results" / "SAC_Pendulum-v1" / "a" / "seed-0"
    while not (run / "state" / "lock.holder").exists():
        assert first.poll() is None
        time.sleep(0.02)
    worker = json.loads((run / "state" / "lock.holder").read_text())["pid"]
    try:
        for arguments, pid in (
            (("config.yaml", "--seeds", "0", "--name", "a"), first.pid),
            (("--resume", run), worker),
        ):
            second = gallop(*arguments)
            output = second.communicate(timeout=60)[0]
            assert second.returncode == HELD and "Traceback" not in output, output
            assert f"is being run by another process (process {pid} on" in output, output
    finally:
        first.terminate()
        first.communicate(timeout=60)
