"""A run that moves to another processor goes on with the kernels that it began with."""

from __future__ import annotations

import json

import pytest
from conftest import StopAt, tiny

from gallop import machine
from gallop.report.display import Display
from gallop.run_folder.prepared import prepare
from gallop.runs import workflow
from gallop.runs.extend import extend
from gallop.runs.replay import replay
from gallop.runs.stopping import Stopped

SETS = machine.instruction_sets()

pytestmark = pytest.mark.skipif(len(SETS) < 2, reason="this processor has the baseline only")


def begin(path, algo, instruction_set, **settings):
    """A new run, on a processor whose best kernels are for this instruction set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "instruction_set", lambda: instruction_set)
        return workflow.make_folder(path, prepare(tiny(algo, **settings)))


def stop_after_one_segment(run):
    with pytest.raises(Stopped):
        workflow.resume(run, Display(quiet=True), [StopAt(120)])


def bits(run):
    return [
        (row.timestep, row.learner_sha256, row.shard_sha256) for row in run.numbers.read_segments()
    ]


@pytest.mark.parametrize("algo", ["sac", "td3", "ppo"])
def test_a_run_goes_on_with_its_kernels_on_a_processor_with_better_ones(tmp_path, algo, capsys):
    begun, best = begin(tmp_path / "begun", algo, SETS[-1]), begin(tmp_path / "best", algo, SETS[0])
    for run in (begun, best):
        stop_after_one_segment(run)
        workflow.resume(run)
    whole = begin(tmp_path / "whole", algo, SETS[-1])
    workflow.resume(whole, Display(quiet=True))
    assert len(bits(whole)) == 3
    assert bits(begun) == bits(whole)
    assert bits(begun) != bits(best)  # else this test could not fail
    said = capsys.readouterr().out
    assert f"native (the fastest for this experiment), {SETS[-1]}, 1 thread" in said
    assert "have changed" not in said


def test_replay_and_extend_use_the_kernels_of_the_run(tmp_path):
    quiet, constant = Display(quiet=True), {"learning_rate": 1e-3}
    run = begin(tmp_path / "run", "sac", SETS[-1], hyperparameters=constant)
    workflow.resume(run, quiet)
    assert replay(run, 1, quiet)
    changes = {"total_timesteps": 480}
    longer = extend(run, changes, results=tmp_path, name="longer", display=quiet)
    assert json.loads(longer.provenance_file.read_text())["instruction_set"] == SETS[-1]
    whole = begin(tmp_path / "whole", "sac", SETS[-1], hyperparameters=constant, **changes)
    workflow.resume(whole, quiet)
    assert bits(longer) == bits(whole)


def test_a_processor_without_the_kernels_is_reported(tmp_path, monkeypatch, capsys):
    run = begin(tmp_path / "run", "sac", SETS[0])
    stop_after_one_segment(run)
    monkeypatch.setattr(machine, "instruction_sets", lambda: SETS[1:])
    workflow.resume(run)
    said = capsys.readouterr().out
    assert f"kernels {SETS[0]} → {SETS[1]}" in said
    assert "will not be bit-identical" in said
