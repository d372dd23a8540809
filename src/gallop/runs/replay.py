"""Replaying a segment: training it again and comparing the bits with those recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from gallop.errors import RunError
from gallop.experiments.seeding import spans
from gallop.report.display import Display
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.prepared import PreparedRun, prepare_again
from gallop.run_folder.provenance import versions
from gallop.run_folder.verification import at_rest
from gallop.runs.training import learner_for, train
from gallop.runs.workflow import with_its_learner


def replay(run: RunDirectory, segment: int, display: Display) -> bool:
    """Train one segment of a run again, from the boundary before it; nothing is written.

    Args:
        run: the run.
        segment: number of the segment, from 0.
        display: where to print.

    Returns:
        Whether learner and replay buffer are bit-identical to what segments.csv recorded.

    Raises:
        RunError: if the segment was never trained, or the state before it no longer exists.
    """
    prepared = prepare_again(run.read_experiment(), run.read_probed())
    with at_rest(run):
        manifest.check(run.path / "segments.csv", run.path / "provenance.json", run.initial_model)
        prepared = with_its_learner(run, prepared)
        record = run.read_json("provenance.json")
        rows = {row.segment: row for row in run.numbers.read_segments()}
        starts = resume_state.replayable(run.state)
        possible = sorted(number for number in rows if number == 0 or number in starts)
        if segment not in possible:
            raise RunError(_why_not(run, segment, sorted(rows), possible))
        choice = prepared.choice._replace(n_threads=record["n_threads"])
        prepared = dataclasses.replace(prepared, choice=choice)
        display.say(f"replaying segment {segment}, up to timestep {rows[segment].timestep:,}")
        bits = _train(run, prepared, segment, starts, rows[segment].shard)
    expected = rows[segment].learner_sha256, rows[segment].shard_sha256
    for what, ours, theirs in zip(("learner", "replay buffer"), bits, expected, strict=True):
        if theirs:
            differs = f"DIFFERENT bits: {ours} instead of {theirs}"
            display.say(f"{what}: {'bit-identical' if ours == theirs else differs}")
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
    """Train the segment; return the SHA-256 of the learner and of the shard at its end."""
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
        return f"{run.path} cannot be replayed: it has no segments.csv to compare with"
    can = f"replayable segments: {spans(possible) if possible else 'none'}"
    if segment not in trained:
        return f"segment {segment} was not trained; trained segments: {spans(trained)}; {can}"
    return (
        f"segment {segment} cannot be replayed: the state before it is no longer in {run.state}, "
        f"which keeps the last two, the milestones and the best; {can}"
    )


def _differences(record: Mapping[str, object], prepared: PreparedRun) -> str:
    """Return one line on possible reasons: versions that changed, or else the task itself."""
    before = record["versions"]
    assert isinstance(before, Mapping)
    today = {**versions(), "kernels": prepared.choice.instruction_set}
    then = {**before, "kernels": record["instruction_set"]}
    changed = [f"{n} {then.get(n)} → {v}" for n, v in today.items() if then.get(n) != v]
    if changed:
        return f"versions have changed since the run started: {', '.join(changed)}"
    return (
        "the versions are those of the run: its task uses random numbers that do not depend on the "
        "given seeds, or the state was changed"
    )
