"""A segment trained again, and its bits compared with those that were stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from gallop.errors import RunError
from gallop.experiments.seeding import spans
from gallop.report.display import Display
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.prepared import PreparedRun, prepare
from gallop.run_folder.provenance import versions
from gallop.run_folder.verification import at_rest
from gallop.runs.training import learner_for, train
from gallop.runs.workflow import check_learner


def replay(run: RunDirectory, segment: int, display: Display) -> bool:
    """Train one segment of a run again, from the boundary before it; nothing is written.

    Returns:
        Whether learner and replay buffer came to the bits that segments.csv recorded.

    Raises:
        RunError: if the segment was never trained, or the state before it is no longer there.
    """
    prepared = prepare(run.read_experiment())
    with at_rest(run):
        manifest.check(run.path / "segments.csv", run.path / "provenance.json", run.initial_model)
        check_learner(run, prepared)
        record = run.read_json("provenance.json")
        rows = {row.segment: row for row in run.numbers.read_segments()}
        starts = resume_state.replayable(run.state)
        possible = sorted(number for number in rows if number == 0 or number in starts)
        if segment not in possible:
            raise RunError(_why_not(run, segment, sorted(rows), possible))
        choice = prepared.choice._replace(n_threads=record["n_threads"])
        prepared = dataclasses.replace(prepared, choice=choice)
        display.say(f"training segment {segment} again, to timestep {rows[segment].timestep:,}")
        bits = _train(run, prepared, segment, starts, rows[segment].shard)
    expected = rows[segment].learner_sha256, rows[segment].shard_sha256
    for what, ours, theirs in zip(("learner", "replay buffer"), bits, expected, strict=True):
        if theirs:
            same = "the same bits" if ours == theirs else f"OTHER bits: {ours} instead of {theirs}"
            display.say(f"{what}: {same}")
    if bits != expected:
        display.say(_differences(record, prepared))
    return bits == expected


def _train(
    run: RunDirectory,
    prepared: PreparedRun,
    segment: int,
    starts: Mapping[int, resume_state.Saved],
    shard: str,
) -> tuple[str, str]:
    """SHA-256 of the learner and of the shard at the segment's end."""
    with learner_for(prepared) as (environments, learner):
        if segment > 0:
            resume_state.read_boundary(starts[segment], learner)
        elif run.initial_model.exists():
            learner.read_policy(run.initial_model)
        seed = prepared.experiment.training_seed
        outcomes = train(prepared.plan, learner, environments, seed, segment, lambda timestep: None)
        next(outcomes)
        return resume_state.bits_of(learner, shard)


def _why_not(run: RunDirectory, segment: int, trained: list[int], possible: list[int]) -> str:
    if not trained:
        return f"{run.path} has no segments.csv to compare with: no segment can be trained again"
    can = f"{spans(possible)} can be" if possible else "none can be"
    if segment not in trained:
        return f"segment {segment} was not trained: there are {spans(trained)}, and {can} replayed"
    return (
        f"segment {segment} cannot be replayed: the state before it is no longer in {run.state} "
        f"(kept are the last two, milestones and the best); {can}"
    )


def _differences(record: Mapping[str, object], prepared: PreparedRun) -> str:
    """What is different on this machine, or that nothing is known to be."""
    before = record["versions"]
    assert isinstance(before, Mapping)
    today = {**versions(), "kernels": prepared.choice.instruction_set}
    then = {**before, "kernels": record["instruction_set"]}
    changed = [f"{n} {then.get(n)} → {v}" for n, v in today.items() if then.get(n) != v]
    if changed:
        return f"other versions than the run was started with: {', '.join(changed)}"
    return (
        "the versions are those of the run: its task draws from something else than the seeds that "
        "it is given, or the state was changed"
    )
