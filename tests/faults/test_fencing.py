"""A run that was taken from a process and given to another is not written to by the first one.

The first process is suspended at one of its operations on files, as if its machine had lost its
network or had been suspended. It wakes up while its successor trains, or after that.
"""

from __future__ import annotations

import os
import random
import signal
import time

import forked
import pytest
import runs

from gallop.experiments.yaml_file import from_dict
from gallop.run_folder import fence
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.prepared import prepare
from gallop.runs.workflow import make_folder

OFF_POLICY = {"buffer_size": 250, "batch_size": 16, "learning_starts": 31}
EXPERIMENT = runs.experiment("sac", OFF_POLICY, learner="native", env="HalfCheetah-v5", audit=True)


def given(home, folder, token, on_operation=None):
    """Start a process that is given the run; return its id."""
    os.environ.update(fence.variable(folder, token))
    try:
        return forked.start(home, ["run", "--quiet", "--resume", str(folder)], on_operation)
    finally:
        del os.environ[fence.VARIABLE]


def new_run(home):
    return make_folder(home / "run", prepare(from_dict(EXPERIMENT))).path


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Content of an undisturbed run, and the number of its operations on files."""
    home = tmp_path_factory.mktemp("reference")
    folder = new_run(home)
    pid = given(home, folder, fence.raise_fence(folder, break_lock=False), forked.counted)
    assert forked.finish(home, pid).code == 0
    return runs.content(folder), len(forked.operations(home))


@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=pytest.mark.slow) for part in range(2)]
    + [pytest.param(part, marks=pytest.mark.faults) for part in range(2, 40)],
)
def test_a_suspended_process_does_not_write_over_its_successor(part, reference, tmp_path):
    expected, n_operations = reference
    generator = random.Random(part)
    n_fenced = 0
    for number in generator.sample(range(n_operations), 8):
        home = tmp_path / str(number)
        home.mkdir()
        folder = new_run(home)
        first = given(
            home,
            folder,
            fence.raise_fence(folder, break_lock=False),
            forked.suspended_at(number),
        )
        assert forked.is_suspended(first)
        second = given(home, folder, fence.raise_fence(folder, break_lock=True))
        if number % 2:  # it wakes up while its successor is at work
            time.sleep(generator.uniform(0, 1))
            os.kill(first, signal.SIGCONT)
        succeeded = forked.finish(home, second)
        assert succeeded.code == 0, succeeded.output
        if not number % 2:
            os.kill(first, signal.SIGCONT)
        ended = forked.finish(home, first)
        output = succeeded.output + ended.output
        assert "Traceback" not in output, output
        if ended.code != 0:
            assert f"{folder} was given to another process" in output, output
            n_fenced += 1
        assert runs.differences(runs.content(folder), expected) == []
        assert RunDirectory(folder).is_finished()
        assert forked.run(home, ["verify", str(folder)]).code == 0
    assert n_fenced >= 6  # the others were suspended at their very end


def test_a_process_that_starts_after_its_run_was_taken_writes_nothing(tmp_path):
    folder = new_run(tmp_path)
    late = fence.raise_fence(folder, break_lock=False)
    fence.raise_fence(folder, break_lock=False)
    before = runs.content_of_files(folder)
    ended = forked.finish(tmp_path, given(tmp_path, folder, late))
    assert ended.code == 2
    said = f"gallop: {folder} was given to another process; nothing more is written to it\n"
    assert ended.output == said
    after = runs.content_of_files(folder)
    assert {name for name in after if before.get(name) != after[name]} <= {"state/lock"}
