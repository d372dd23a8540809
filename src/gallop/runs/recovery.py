"""Where a run resumes, and when resuming is refused.

Results are never overwritten or truncated on account of a resume state that cannot be loaded.
"""

from __future__ import annotations

from pathlib import Path

from gallop.errors import RunError, counted
from gallop.experiments.plan import Plan
from gallop.policies.normalizer_file import normalizer_path
from gallop.report.display import Display
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.provenance import now, read_provenance
from gallop.run_folder.resume_state import Checked, Saved


def check_results(folder: RunDirectory, display: Display) -> None:
    """Refuse to resume from damaged numbers or policies; report other damaged files.

    Raises:
        RunError: if a file that the run reads or appends to is damaged.
    """
    root = folder.path
    record = read_provenance(folder)
    if manifest.root_of(root) is None:
        if record is None:
            raise RunError(provenance_lost(folder))
        if record.get("manifest"):
            manifest.read(root)  # raises, because it is missing
        return
    # Users delete diverged.json to retry; resuming removes it from the manifest.
    found = [each for each in manifest.damages(root) if each.path != folder.diverged_file]
    needed = [damage for damage in found if _is_needed(folder, damage.path)]
    if record is None:
        raise RunError(provenance_lost(folder))
    if needed:
        rebuild = ""
        if needed[0].path.suffix in (".zip", ".npz"):
            rebuild = f" or try gallop verify --restore {root}"
        raise RunError(f"{needed[0]}: restore it from a copy{rebuild}{_or_a_new_run(folder)}")
    for damage in found:
        display.say(f"{damage}; the run continues without it (gallop verify {root} lists all)")


def provenance_lost(folder: RunDirectory) -> str:
    """Return one line on what to do for a run whose provenance.json cannot be used."""
    path = folder.provenance_file
    return (
        f"{path} is {'damaged' if path.exists() else 'missing'}: restore it from a copy, or write "
        f"a new one, without the lost details, with gallop verify --accept {folder.path}"
    )


def _is_needed(folder: RunDirectory, path: Path) -> bool:
    """Whether a resumed run reads this file or appends to it."""
    zips = (folder.best_model, folder.final_model, folder.initial_model)
    read = (*folder.numbers.files, *zips, *map(normalizer_path, zips))
    in_root = path.parent == folder.path and path.suffix in (".yaml", ".json", ".csv")
    return in_root or path in read or path.name in ("trained_rewards.npz", "meta.json")


def is_trained(folder: RunDirectory, plan: Plan) -> bool:
    """Whether the last segment's boundary was ever on disk, even if it is no longer there."""
    segments = folder.numbers.read_segments()
    return bool(segments) and segments[-1].segment == len(plan.boundaries) - 1


def starting_point(
    folder: RunDirectory, plan: Plan, display: Display, drop_damaged: bool
) -> Saved | None:
    """Return the boundary from which a run resumes; None for a run that has none yet.

    Args:
        folder: the run.
        plan: its plan.
        display: where to print.
        drop_damaged: if there is no other way, continue without the lost rows of the replay buffer.

    Raises:
        RunError: if the run had boundaries and none is usable.
    """
    read: list[Checked] = []
    for checked in resume_state.check_boundaries(folder.state):
        read.append(checked)
        if checked.is_whole:
            break
    if read and read[-1].saved is not None and read[-1].is_whole:
        saved = read[-1].saved
        if len(read) > 1:
            display.say(
                f"{read[0].damaged[0]} is damaged: going back to timestep {saved.timestep:,}; the "
                "timesteps after it are trained again, with bit-identical results"
            )
        return saved
    if not read and not _has_come_on(folder, plan):
        return None
    usable = [checked for checked in read if resume_state.lost_rows(checked)]
    if not drop_damaged or not usable:
        raise RunError(_what_can_be_done(folder, read))
    _drop(folder, usable[0], display)
    return resume_state.newest_boundary(folder.state)


def _has_come_on(folder: RunDirectory, plan: Plan) -> bool:
    """Whether there are results that only a run with a boundary can have produced."""
    numbers = folder.numbers
    return bool(numbers.read_segments()) or numbers.last_timestep() > plan.boundaries[0].timestep


def _drop(folder: RunDirectory, checked: Checked, display: Display) -> None:
    """Replace lost rows; the record is written first, so that no replacement goes unrecorded."""
    dropped = resume_state.lost_rows(checked)
    assert dropped is not None
    record = folder.read_json("provenance.json")
    what = {"timestep": dropped.timestep, "rows": [list(span) for span in dropped.rows]}
    entries = record.get("dropped", [])
    if not any(what.items() <= entry.items() for entry in entries):  # recorded before a kill
        entries = [*entries, {"at": now(), **what}]
        folder.write_json("provenance.json", record | {"dropped": entries})
    resume_state.drop_damaged(checked)
    n = sum(stop - start for start, stop in dropped.rows)
    verb = "is" if n == 1 else "are"
    display.say(
        f"{n:,} of {counted(dropped.n_rows, 'row')} of the replay buffer {verb} lost and replaced "
        "by copies of other rows; the run continues, but will not be bit-identical to an undamaged "
        "one (recorded in provenance.json)"
    )


def _what_can_be_done(folder: RunDirectory, read: list[Checked]) -> str:
    """Return one line: what is damaged, and every way to continue."""
    if not read:
        numbers = folder.numbers.last_timestep()
        cleaned = folder.read_json("provenance.json").get("cleaned")
        how = f"gallop clean removed it on {cleaned}" if cleaned else "it was emptied or deleted"
        return (
            f"{folder.path} has results up to timestep {numbers:,}, but its resume state "
            f"{folder.state} is missing ({how}): restore it from a copy{_or_a_new_run(folder)}"
        )
    damaged = read[0].damaged[0]
    what = "damaged" if damaged.exists() else "missing"
    line = f"{damaged} is {what}, and no boundary of the run is intact: restore it from a copy"
    usable = [checked for checked in read if resume_state.lost_rows(checked)]
    if usable and usable[0].saved is not None:
        n, lost = len(usable[0].saved.shards), len(usable[0].damaged)
        line += (
            f"; or resume from timestep {usable[0].saved.timestep:,} with the {n - lost} of "
            f"{counted(n, 'part')} of the replay buffer that "
            f"{'is' if n - lost == 1 else 'are'} intact (results will differ; this is recorded): "
            f"gallop run --resume {folder.path} --drop-damaged"
        )
    return line + _or_a_new_run(folder)


def _or_a_new_run(folder: RunDirectory) -> str:
    policy = newest_whole_policy(folder)
    if policy is None:
        return ""
    return (
        f"; or start a new run from its policy: gallop run {folder.experiment_file} "
        f"--init-from {policy}"
    )


def newest_whole_policy(folder: RunDirectory) -> Path | None:
    """Return the latest policy file that is not damaged; None if there is none."""
    milestones = sorted(folder.path.glob("checkpoints/[0-9]*/model.zip"), reverse=True)
    for path in (folder.final_model, *milestones, folder.best_model):
        if path.is_file():
            try:
                manifest.check(path, normalizer_path(path))
            except RunError:
                continue
            return path
    return None
