"""Restoring damaged results whose content is known with certainty.

Files of returns are rebuilt from episodes.csv and accepted only if their SHA-256 is the one in the
manifest. A policy is rebuilt from an intact policy file of the same timestep, or from the learner's
state there: networks and optimizers are the same (an SB3 zip also stores when it was written).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.plan import Plan, make_plan
from gallop.policies.normalizer_file import normalizer_path
from gallop.report.display import Display
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import npz_bytes, write_bytes
from gallop.run_folder.numbers import rewards_arrays
from gallop.run_folder.prepared import prepare_again
from gallop.run_folder.provenance import now, read_provenance
from gallop.runs.recovery import provenance_lost
from gallop.runs.training import learner_for
from gallop.runs.workflow import with_its_learner


def restore(run: RunDirectory, display: Display) -> None:
    """Restore damaged or missing results as far as possible; provenance.json records restored
    policies.

    Args:
        run: the run.
        display: where to print.

    Raises:
        RunError: if the folder is not a run folder, its experiment, provenance or manifest is
            damaged, or another process is running it.
    """
    plan = make_plan(run.look_at_experiment())
    with run.locked():
        damaged = {damage.path for damage in manifest.damages(run.path)}
        if run.provenance_file in damaged or read_provenance(run) is None:
            raise RunError(provenance_lost(run))
        _restore_returns(run, damaged, display)
        lost = {
            path: timestep
            for path, timestep in _policies(run, plan).items()
            if damaged & {path, normalizer_path(path)}
        }
        whole = {p: t for p, t in _policies(run, plan).items() if p not in lost and p.is_file()}
        rest = _from_twins(run, lost, whole, display)
        if rest:
            _from_states(run, rest, display)
        manifest.settle(run.path)


def _restore_returns(run: RunDirectory, damaged: set[Path], display: Display) -> None:
    hashes = manifest.read(run.path)
    for path, content in _returns(run):
        known = hashes.get(path.relative_to(run.path).as_posix(), [])
        if path in damaged and hashlib.sha256(content).hexdigest() in known:
            write_bytes(path, content)
            display.say(f"{path}: restored from episodes.csv, bit-identical")


def _returns(run: RunDirectory) -> Iterator[tuple[Path, bytes]]:
    """Yield files of returns, and what they must contain according to episodes.csv."""
    numbers = run.numbers
    files = {"random": numbers.baseline_file}
    for folder in run.path.glob("checkpoints/[0-9]*"):
        if folder.name.isdecimal():
            files[folder.name] = run.milestone(int(folder.name)).rewards
    try:
        evaluations = numbers.evaluations_of_episodes()
        episodes = {policy: numbers.read_episodes(policy) for policy in files}
    except RunError:  # episodes.csv itself is damaged
        return
    if evaluations is not None:
        yield numbers.evaluations_file, npz_bytes(vars(evaluations))
    for policy, path in files.items():
        found = episodes[policy]
        if found is not None:
            yield path, npz_bytes(rewards_arrays(found))


def _policies(run: RunDirectory, plan: Plan) -> dict[Path, int]:
    """Return every policy file of a run, present or not, with the timestep of its policy."""
    found = {run.final_model: plan.horizon}
    for boundary in plan.boundaries:
        if boundary.milestone is not None:
            found[run.milestone(boundary.milestone).model] = boundary.timestep
    try:
        evaluations = run.numbers.read_evaluations()
        manifest.check(run.numbers.evaluations_file)
    except RunError:
        return found
    if evaluations is not None and evaluations.best_timestep is not None:
        found[run.best_model] = evaluations.best_timestep
    return found


def _from_twins(
    run: RunDirectory, lost: Mapping[Path, int], whole: Mapping[Path, int], display: Display
) -> dict[Path, int]:
    """Copy intact policy files of the same timesteps; return the policies that have none."""
    rest = {}
    for path, timestep in lost.items():
        twin = next((each for each, at in whole.items() if at == timestep), None)
        if twin is None:
            rest[path] = timestep
            continue
        _record(run, path, twin)
        with manifest.replacing_results(path.parent) as temporary:
            shutil.copyfile(twin, temporary / path.name)
            if normalizer_path(twin).is_file():
                shutil.copyfile(normalizer_path(twin), normalizer_path(temporary / path.name))
        display.say(f"{path}: restored from {twin}")
    return rest


def _from_states(run: RunDirectory, lost: Mapping[Path, int], display: Display) -> None:
    """Write policies from intact learner states."""
    checked = (
        *resume_state.check_learners(run.state),
        *resume_state.check_boundaries(run.state),
    )
    states = {
        each.saved.timestep: each.folder
        for each in checked
        if each.saved is not None and each.has_learner
    }
    if not states.keys() & set(lost.values()):
        return
    prepared = prepare_again(run.read_experiment(), run.read_probed())
    prepared = with_its_learner(run, prepared)
    with learner_for(prepared) as (_, learner):
        for path, timestep in lost.items():
            if timestep in states:
                learner.load_state(states[timestep])
                _record(run, path, states[timestep])
                with manifest.replacing_results(path.parent) as temporary:
                    learner.save_policy(temporary / path.name)
                display.say(f"{path}: restored from {states[timestep]}")


def _record(run: RunDirectory, path: Path, source: Path) -> None:
    """Record, before a policy is replaced, that its bytes will differ from the original's."""
    record = run.read_json(run.provenance_file.name)
    names = [each.relative_to(run.path).as_posix() for each in (path, source)]
    entry = {"at": now(), "file": names[0], "from": names[1]}
    restored = [*record.get("restored", []), entry]
    run.write_json(run.provenance_file.name, record | {"restored": restored})
