"""A search whose processes are killed at any time ends like an undisturbed one."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter

import pytest
import runs
from small_search import (
    SECONDS,
    finish,
    folder,
    kill,
    nobody_is_left,
    one_round,
    outcome,
    output,
    processes_of,
    run,
    search_data,
    start,
    trials,
    tune,
    tuned_once,
    wait_until,
    workers_of,
    write,
    zombies_of,
)

from gallop.run_folder.directory import RunDirectory

SECONDS_OF_ORPHANS = 10
LONGER = search_data(experiment={"total_timesteps": 3600})
PRUNED = {
    "median": {"pruner": {"name": "median", "n_startup_trials": 1}},
    "wilcoxon": {"pruner": {"name": "wilcoxon", "p_threshold": 0.2}, "n_seeds": 4},
    "hyperband": {"pruner": {"name": "hyperband", "reduction_factor": 2}},
    "successive_halving": {"pruner": {"name": "successive_halving", "reduction_factor": 2}},
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The results of the tiny search, undisturbed."""
    home, _ = tuned_once(tmp_path_factory, "tiny")
    return outcome(folder(home))


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A longer search, and how many seconds it took."""
    home, seconds = tuned_once(tmp_path_factory, "longer", data=LONGER)
    return outcome(folder(home)), seconds


@pytest.fixture
def pruned(request, tmp_path_factory):
    """A search with the test's pruner, undisturbed: its home."""
    pruner = request.getfixturevalue("pruner")
    data = one_round(6, **PRUNED[pruner])
    home, _ = tuned_once(tmp_path_factory, pruner, "--workers", 2, data=data)
    return home


# --- kills ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.faults
def test_a_search_whose_workers_are_killed_twenty_times_equals_an_undisturbed_one(longer, tmp_path):
    expected, seconds = longer
    generator = random.Random(1)
    write(tmp_path, LONGER)
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x")
    n_killed, killed = 0, Counter()
    while n_killed < 20:
        # Each kill delays the search, so all 20 are over before its end. On average they take less
        # than half of `seconds`, which may have been measured while the machine was busier.
        time.sleep(generator.uniform(0, seconds / 24))
        assert process.poll() is None, f"the search was over after {n_killed} kills"
        # A training run that dies ten times before its first boundary would rightly be abandoned.
        under_way = [w for w in sorted(workers_of(tmp_path).items()) if killed[w[1]] < 4]
        if under_way:
            pid, path = generator.choice(under_way)
            killed[path] += 1
            n_killed += kill(pid)
        assert len(zombies_of(process.pid)) <= 2  # checked ten times per second
    code, text = finish(process, tmp_path)
    assert code == 0, text
    assert nobody_is_left(tmp_path, 1)
    assert outcome(folder(tmp_path)) == expected
    record("search, workers killed", n_killed)


@pytest.mark.slow
@pytest.mark.faults
def test_a_search_killed_and_resumed_twenty_times_equals_an_undisturbed_one(longer, tmp_path):
    expected, seconds = longer
    generator = random.Random(2)
    write(tmp_path, LONGER)
    # Half just after the start (imports, folders, first trials requested), half later.
    lives = [generator.uniform(0, 5) for _ in range(10)]
    lives += [3 + generator.uniform(0, 0.06 * seconds) for _ in range(10)]
    generator.shuffle(lives)
    for number, life in enumerate(lives):
        process = going_on(tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(life)
            pytest.fail(f"the search was over after {number} kills: {output(tmp_path)}")
        kill(process.pid)
        process.wait()
        if generator.random() < 0.5:  # else the next one starts while orphans may still exist
            assert nobody_is_left(tmp_path, SECONDS_OF_ORPHANS), processes_of(tmp_path)
    code, text = finish(going_on(tmp_path), tmp_path)
    assert code == 0, text
    assert nobody_is_left(tmp_path, 1)
    assert outcome(folder(tmp_path)) == expected
    record("search, coordinator killed", len(lives))


def record(case, n_killed):
    """Add a row to the table of kills (test_random_kills.py); none of these targets a write."""
    runs.record("kills", case=case, kills=n_killed, in_writes=0, runs=1, same=1)


def going_on(home):
    """Continue as a user would: --resume, or restart if there is nothing to resume yet."""
    if list(home.glob("o/plots/*/x/round.json")):
        return start(home, "--resume", folder(home))
    return start(home, "search.yaml", "--reproducible", "--name", "x")


@pytest.mark.slow
def test_the_search_waits_for_a_training_run_held_by_another_process(longer, tmp_path):
    expected, _ = longer
    write(tmp_path, LONGER)
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x")
    wait_until(lambda: list(tmp_path.glob("o/plots/*/x/trials/000/seed-0/state/0*")), process)
    kill(process.pid)
    process.wait()
    held = RunDirectory(folder(tmp_path) / "trials" / "000" / "seed-0")
    until = time.monotonic() + SECONDS_OF_ORPHANS
    while held.is_locked():  # by the orphan
        assert time.monotonic() < until
        time.sleep(0.05)
    with held.locked():
        process = start(tmp_path, "--resume", folder(tmp_path))
        records = folder(tmp_path) / "trials/001/seed-0/provenance.json"
        wait_until(records.exists, process)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert not [path for path in workers_of(tmp_path).values() if "/trials/000/" in path]
            time.sleep(0.05)
    code, text = finish(process, tmp_path)
    assert code == 0, text
    assert outcome(folder(tmp_path)) == expected


# --- kills between two writes --------------------------------------------------------------------


def test_a_search_killed_before_a_trial_was_stored_draws_the_same_again(tmp_path):
    home = tmp_path / "whole"
    home.mkdir()
    expected = trials(tune(home, data=three_parameters()))
    # Trial 1 is drawn uniformly, trial 3 by TPE; no trial of their batches was reported.
    for number in (1, 3):
        second = tmp_path / str(number)
        first = copied(home, second, number - 1, told=number - 1)
        code, text = run(second, "--resume", first)
        assert code == 0, text
        assert trials(first) == expected, number


def test_the_storage_contains_only_complete_trials_at_any_time(tmp_path):
    """So no kill can leave a trial with only some of its values."""
    write(tmp_path, three_parameters())
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x")
    wait_until(lambda: list(tmp_path.glob("o/plots/*/x/trials/000")), process)
    seen = Counter()
    n_values = (
        "SELECT (SELECT COUNT(*) FROM trial_params p WHERE p.trial_id = t.trial_id) FROM trials t"
    )
    with sqlite3.connect(f"file:{folder(tmp_path)}/study.db?mode=ro", uri=True) as database:
        while process.poll() is None:
            seen.update(n for (n,) in database.execute(n_values))
    code, text = finish(process, tmp_path)
    assert code == 0, text
    assert list(seen) == [3]


def three_parameters():
    data = one_round(4, sampler={"n_startup_trials": 2})
    space = {"tau": {"low": 0.001, "high": 0.1}, "gamma": {"low": 0.9, "high": 0.99}}
    data["rounds"][0]["space"] = {"learning_rate": {"low": 1e-4, "high": 1e-2}, **space}
    return data


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "wilcoxon", "hyperband", "successive_halving"])
def test_a_search_killed_before_a_trial_was_reported_judges_it_the_same(pruner, pruned, tmp_path):
    expected = trials(folder(pruned))
    stopped = [int(row["number"]) for row in expected if row["state"] == "PRUNED"]
    assert stopped
    for number in stopped:
        second = tmp_path / f"again-{number}"
        first = copied(pruned, second, number)
        # Two more trials, as the next one may have been drawn in the same batch.
        n_trials = min(number + 3, len(expected))
        code, text = run(second, "--resume", first, "--n-trials", n_trials)
        assert code == 0, text
        assert trials(first) == expected[:n_trials], number


def copied(home, to, number, told=None):
    """Copy a search's folders as they were when trial `number` was the last, and not yet reported.

    `told`: number of trials that had been reported; default: all before it.
    """
    told = number if told is None else told
    shutil.copytree(home / "o", to / "o")
    shutil.rmtree(folder(to, "x_round2"), ignore_errors=True)
    first = folder(to)
    for path in ("results.json", "trials.csv", "study.html", "again"):
        shutil.rmtree(first / path, ignore_errors=True)
        (first / path).unlink(missing_ok=True)
    with sqlite3.connect(first / "study.db") as database:
        later = "SELECT trial_id FROM trials WHERE number > ?"
        open_ = "SELECT trial_id FROM trials WHERE number >= ?"
        for table in (
            "trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes",
            "trial_intermediate_values",
        ):  # fmt: skip
            database.execute(f"DELETE FROM {table} WHERE trial_id IN ({later})", (number,))
        database.execute("DELETE FROM trials WHERE number > ?", (number,))
        database.execute(f"DELETE FROM trial_values WHERE trial_id IN ({open_})", (told,))
        database.execute(
            f"DELETE FROM trial_user_attributes WHERE trial_id IN ({open_})"
            " AND key != 'first_trial'",
            (told,),
        )
        database.execute(
            "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number >= ?",
            (told,),
        )
    for path in (first / "trials").iterdir():
        if int(path.name) > number:
            shutil.rmtree(path)
    return first


# --- the number of workers -----------------------------------------------------------------------


def test_one_worker_finds_what_two_find(reference, tmp_path):
    assert outcome(tune(tmp_path, "--workers", 1)) == reference


@pytest.mark.slow
@pytest.mark.parametrize("pruner", list(PRUNED))
def test_one_worker_prunes_the_same_trials_as_two(pruner, pruned, tmp_path):
    write(tmp_path, one_round(6, **PRUNED[pruner]))
    arguments = ("search.yaml", "--reproducible", "--name", "another", "--workers", 1)
    code, text = run(tmp_path, *arguments)
    assert code == 0, text
    found = trials(folder(tmp_path, "another"))
    assert found == trials(folder(pruned))
    assert {"PRUNED", "COMPLETE"} == {row["state"] for row in found}


# --- stopping and resuming -----------------------------------------------------------------------


def test_ctrl_c_stops_cleanly_and_says_how_to_resume(reference, tmp_path):
    write(tmp_path, search_data())
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x")
    wait_until(lambda: list(tmp_path.glob("o/plots/*/x/trials/*/seed-0/state/0*")), process)
    kill(process.pid, signal.SIGINT)
    code, text = finish(process, tmp_path)
    assert code == 130, text
    assert "Traceback" not in text
    last = text.rstrip().splitlines()[-2:]
    assert "stopped by SIGINT: every trial is kept" in last[0]
    assert last[1] == f"to resume: gallop tune --resume {folder(tmp_path)}"
    assert nobody_is_left(tmp_path, 1), processes_of(tmp_path)
    code, text = run(tmp_path, *last[1].split()[4:])
    assert code == 0, text
    assert outcome(folder(tmp_path)) == reference


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0])
def test_ctrl_c_just_after_the_start_gives_no_traceback(seconds, tmp_path):
    write(tmp_path, search_data())
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x")
    time.sleep(seconds)
    kill(process.pid, signal.SIGINT)
    code, text = finish(process, tmp_path)
    assert code in (130, -signal.SIGINT), text
    assert nobody_is_left(tmp_path, 1)
    if seconds >= 1:
        assert "Traceback" not in text, text


def test_n_trials_is_the_total_over_all_calls(tmp_path):
    write(tmp_path, one_round(8))
    code, text = run(tmp_path, "search.yaml", "--name", "x", "--n-trials", 2, "--reproducible")
    assert code == 0, text
    first = folder(tmp_path)
    before = trials(first)
    assert len(before) == 2
    for _ in range(2):
        code, text = run(tmp_path, "--resume", first, "--n-trials", 5)
        assert code == 0, text
        after = trials(first)
        assert len(after) == 5
        assert after[: len(before)] == before
        before = after
    # The same as five in one call: where a batch ends does not depend on the calls.
    whole = tmp_path / "whole"
    whole.mkdir()
    tune(whole, data=one_round(5))
    assert [numbers(row) for row in trials(folder(whole))] == [numbers(row) for row in after]


def numbers(row):
    return {name: row[name] for name in ("number", "value", "state", "params_learning_rate")}


# --- trials that fail ----------------------------------------------------------------------------


def test_a_diverging_trial_fails_with_its_reason_and_the_search_continues(tmp_path):
    data = one_round(4, first_trial="sampled", sampler={"name": "random"}, search_seed=1)
    data["rounds"][0]["space"]["learning_rate"] = [1e-3, 1e30]
    tune(tmp_path, data=data)
    rows = trials(folder(tmp_path))
    states = {float(row["params_learning_rate"]): row["state"] for row in rows}
    assert states == {1e-3: "COMPLETE", 1e30: "FAIL"}
    for row in rows:
        assert ("user_attrs_reason" in row) == (row["state"] == "FAIL")


def test_a_nan_reward_fails_only_its_trial(tmp_path):
    data = one_round(3, experiment={"env": "gallop_dying_task:Nan-v0", "env_kwargs": {}})
    tune(tmp_path, data=data)
    rows = trials(folder(tmp_path))
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "nan" in rows[1]["user_attrs_reason"].lower()


def test_if_every_trial_fails_the_first_reason_is_reported_on_one_line(tmp_path):
    data = one_round(2, first_trial="sampled")
    data["rounds"][0]["space"]["learning_rate"] = [1e29, 1e30]
    write(tmp_path, data)
    code, text = run(tmp_path, "search.yaml", "--reproducible", "--name", "x")
    assert code in (1, 2), text
    assert "Traceback" not in text
    last = text.rstrip().splitlines()[-1]
    reason = trials(folder(tmp_path))[0]["user_attrs_reason"]
    assert last.startswith("gallop: no trial of") and reason in last


def test_a_training_run_killed_ten_times_without_progress_fails(tmp_path):
    data = one_round(3, experiment={"env": "gallop_dying_task:Dying-v0", "env_kwargs": {}})
    began = time.monotonic()
    tune(tmp_path, data=data)
    assert time.monotonic() - began < SECONDS
    rows = trials(folder(tmp_path))
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert rows[1]["user_attrs_reason"] == "ended by SIGKILL 10 times without progress"
    assert nobody_is_left(tmp_path, 1)
