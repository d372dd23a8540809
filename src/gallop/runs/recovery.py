"""Where a run goes on, and what it is refused for: results are never trained over or cut off for a
state that cannot be loaded."""

from __future__ import annotations

from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.plan import Plan
from gallop.policies.normalizer_file import normalizer_path
from gallop.report.display import Display
from gallop.run_folder import manifest, resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.provenance import now, read_provenance
from gallop.run_folder.resume_state import Checked, Saved


def check_results(folder: RunDirectory, display: Display) -> None:
    """Refuse to go on with numbers or policies that are damaged; say which other files are.

    Raises:
        RunError: if a file that the run reads, or adds to, is not as it was written.
    """
    root = folder.path
    record = read_provenance(folder)
    if manifest.root_of(root) is None:
        if record is None:
            raise RunError(provenance_lost(folder))
        if record.get("manifest"):
            manifest.read(root)  # refuses: it is missing
        return
    # Whoever deletes diverged.json wants to try again; it goes when the run goes on.
    found = [each for each in manifest.damages(root) if each.path != folder.diverged_file]
    needed = [damage for damage in found if _is_needed(folder, damage.path)]
    if record is None:
        raise RunError(provenance_lost(folder))
    if needed:
        again = ""
        if needed[0].path.suffix in (".zip", ".npz"):
            again = f"gallop verify --restore {root} makes it again, if that is possible; or "
        raise RunError(f"{needed[0]}: {again}put back a copy of it{_or_a_new_run(folder)}")
    for damage in found:
        display.say(f"{damage}; the run goes on without it (gallop verify {root} lists all)")


def provenance_lost(folder: RunDirectory) -> str:
    """One line: what can be done for a run whose provenance.json cannot be used."""
    path = folder.provenance_file
    return (
        f"{path} is {'damaged' if path.exists() else 'missing'}: put back a copy of it; or gallop "
        f"verify --accept {folder.path} makes it again, without what only it knew"
    )


def _is_needed(folder: RunDirectory, path: Path) -> bool:
    """Whether a run that goes on reads this file, or adds to it."""
    zips = (folder.best_model, folder.final_model, folder.initial_model)
    read = (*folder.numbers.files, *zips, *map(normalizer_path, zips))
    in_root = path.parent == folder.path and path.suffix in (".yaml", ".json", ".csv")
    return in_root or path in read or path.name in ("trained_rewards.npz", "meta.json")


def is_trained(folder: RunDirectory, plan: Plan) -> bool:
    """Whether the last segment's boundary was on disk, be it there still or not."""
    segments = folder.numbers.read_segments()
    return bool(segments) and segments[-1].segment == len(plan.boundaries) - 1


def starting_point(
    folder: RunDirectory, plan: Plan, display: Display, drop_damaged: bool
) -> Saved | None:
    """The boundary that a run goes on from; None for one that has none yet.

    Args:
        drop_damaged: go on without the rows of the replay buffer that are lost, where there is no
            other way.

    Raises:
        RunError: if the run had boundaries and none can be used.
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
                f"{read[0].damaged[0]} is damaged: going back to timestep {saved.timestep:,}; "
                "what came after it is trained again, with the same bits"
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
    """Whether there are results that only a run with a boundary can have."""
    numbers = folder.numbers
    return bool(numbers.read_segments()) or numbers.last_timestep() > plan.boundaries[0].timestep


def _drop(folder: RunDirectory, checked: Checked, display: Display) -> None:
    """The record goes first, so that no row is ever replaced that it does not tell of."""
    dropped = resume_state.lost_rows(checked)
    assert dropped is not None
    record = folder.read_json("provenance.json")
    what = {"timestep": dropped.timestep, "rows": [list(span) for span in dropped.rows]}
    entries = record.get("dropped", [])
    if not any(what.items() <= entry.items() for entry in entries):  # a kill came between
        entries = [*entries, {"at": now(), **what}]
        folder.write_json("provenance.json", record | {"dropped": entries})
    resume_state.drop_damaged(checked)
    n = sum(stop - start for start, stop in dropped.rows)
    display.say(
        f"{n:,} of {dropped.n_rows:,} rows of the replay buffer are lost: copies of others stand "
        "for them; the run goes on, but not with the bits that it would have had (recorded in "
        "provenance.json)"
    )


def _what_can_be_done(folder: RunDirectory, read: list[Checked]) -> str:
    """One line: what is damaged, and each way on."""
    if not read:
        numbers = folder.numbers.last_timestep()
        cleaned = folder.read_json("provenance.json").get("cleaned")
        how = f"gallop clean removed it ({cleaned})" if cleaned else "it was emptied or deleted"
        return (
            f"{folder.path} has results up to timestep {numbers:,} and no state to go on from in "
            f"{folder.state}: {how}; put back a copy of it{_or_a_new_run(folder)}"
        )
    damaged = read[0].damaged[0]
    what = "damaged" if damaged.exists() else "missing"
    line = f"{damaged} is {what}, and no boundary of the run is whole: put back a copy of it"
    usable = [checked for checked in read if resume_state.lost_rows(checked)]
    if usable and usable[0].saved is not None:
        n, lost = len(usable[0].saved.shards), len(usable[0].damaged)
        line += (
            f"; or gallop run --resume {folder.path} --drop-damaged goes on from timestep "
            f"{usable[0].saved.timestep:,} with the {n - lost} of {n} parts of the replay "
            "buffer that are whole (other bits than it would have had; recorded)"
        )
    return line + _or_a_new_run(folder)


def _or_a_new_run(folder: RunDirectory) -> str:
    policy = newest_whole_policy(folder)
    if policy is None:
        return ""
    return f"; or gallop run {folder.experiment_file} --init-from {policy} begins a new run"


def newest_whole_policy(folder: RunDirectory) -> Path | None:
    """The latest policy file that is as it was written."""
    milestones = sorted(folder.path.glob("checkpoints/[0-9]*/model.zip"), reverse=True)
    for path in (folder.final_model, *milestones, folder.best_model):
        if path.is_file():
            try:
                manifest.check(path, normalizer_path(path))
            except RunError:
                continue
            return path
    return None
