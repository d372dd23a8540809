"""Each file of a run is damaged, truncated, emptied or deleted: detected, and nothing else is lost.

Each damaged run is given to `list`, `verify`, `run --resume` and, if it reads the file, `evaluate`.
The slow tests do one damage per file; `make faults` does all of them.
"""

from __future__ import annotations

import json
import random
import shutil

import forked
import pytest
import runs

HYPERPARAMETERS = {"buffer_size": 1000, "batch_size": 16, "learning_starts": 31}
N_BITS = 8
# Not results; a refused resume leaves only the matching hash of each file in the manifest.
NO_RESULTS = {"run.log", "state/lock", "state/lock.holder", "manifest.json"}
READ_BY_EVALUATE = {"best_model.zip", "experiment.yaml", "manifest.json", "provenance.json"}
WITHOUT_HASH = {"run.log", "lock", "lock.holder"}  # never read back
STOPPED_AFTER = 350  # operations on files: three boundaries are complete


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Kind -> a finished run, and one that was killed in its second half."""
    made = {}
    experiment = runs.experiment("sac", HYPERPARAMETERS, learner="native")
    for which, strike in (("finished", None), ("stopped", forked.killed_at(STOPPED_AFTER))):
        home = tmp_path_factory.mktemp(which)
        runs.write(home, experiment)
        forked.run(home, ["run", "experiment.yaml", "--name", "a"], strike)
        made[which] = runs.run_folder(home)
        for leftover in list(made[which].rglob(".new-*")):  # left by the kill
            shutil.rmtree(leftover)
    assert len(list((made["stopped"] / "state").glob("0*"))) >= 2
    assert not (made["stopped"] / "final_model.zip").exists()
    return made


def damages(content, n_bits, generator):
    """Yield (name, damaged content) for each kind of damage; None means a deleted file."""
    for number in range(n_bits if content else 0):
        flipped = bytearray(content)
        flipped[generator.randrange(len(flipped))] ^= 1 << generator.randrange(8)
        yield f"bit {number} flipped", bytes(flipped)
    if content:
        yield "cut off", content[: len(content) // 2]
        yield "emptied", b""
    yield "deleted", None


def is_harmless(path, damaged, content, hashes):
    """Whether the data is unchanged, as with other white space in JSON; or whether this is the file
    whose first version was being written at the kill, and which may as well be missing.

    Args:
        path: in the run.
        damaged: content, or None for a deleted file.
        content: before the damage.
        hashes: path -> hashes that the manifest allows; None is a missing file.
    """
    if damaged is None:
        return None in hashes.get(path.as_posix(), [])
    try:
        return path.suffix == ".json" and json.loads(damaged) == json.loads(content)
    except ValueError:
        return False


@pytest.mark.parametrize("which", ["finished", "stopped"])
@pytest.mark.parametrize(
    "n_bits",
    [pytest.param(0, marks=pytest.mark.slow), pytest.param(N_BITS, marks=pytest.mark.faults)],
)
def test_damage_is_detected_and_costs_nothing_else(which, n_bits, originals, tmp_path):
    original = originals[which]
    generator = random.Random(n_bits)
    expected = runs.content(originals["finished"])
    names = [p.relative_to(original) for p in sorted(original.rglob("*")) if p.is_file()]
    names = [n for n in names if n.name not in WITHOUT_HASH and "tensorboard" not in n.parts]
    assert len(names) > (20 if which == "finished" else 15)
    hashes = json.loads((original / "manifest.json").read_bytes())["files"]
    assert sum(None in each for each in hashes.values()) <= (which == "stopped")
    counts = dict.fromkeys(("detected", "harmless", "resumed_bit_identically", "refused"), 0)
    failures = []
    for number, name in enumerate(names):
        content = (original / name).read_bytes()
        found = list(damages(content, n_bits or 1, generator))
        # The sample does one damage per file.
        for damage, damaged in found if n_bits else [found[number % len(found)]]:
            home = tmp_path / "home"
            folder = home / original.relative_to(original.parents[2])
            shutil.copytree(original, folder)
            if damaged is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(damaged)
            harmless = is_harmless(name, damaged, content, hashes)
            try:
                outcome = met(home, folder, name, harmless, expected, which == "finished")
            except AssertionError as error:
                failures.append(f"{name}, {damage}: {error}")
            else:
                counts["harmless" if harmless else "detected"] += 1
                counts[outcome] += 1
            assert forked.left_behind(home) == []
            forked.temporary_files(home)
            shutil.rmtree(home)
    if n_bits:
        runs.record("damage", run=which, files=len(names), **counts, failed=len(failures))
    assert not failures, "\n\n".join(failures)


def met(home, folder, name, harmless, expected, is_finished):
    """Run the commands on a damaged run; return how resuming it ends."""

    def said(*arguments):
        ended = forked.run(home, [*arguments])
        assert ended.code in (0, 1, 2), (arguments, ended)
        assert "Traceback" not in ended.output, (arguments, ended.output)
        return ended

    # A folder without an experiment is not a run, so it is not listed.
    assert said("list").code == (0 if (folder / "experiment.yaml").exists() else 2)
    verified = said("verify", str(folder))
    if not harmless:
        assert verified.code == 1 and name.name in verified.output, verified
    if name.name in READ_BY_EVALUATE:
        said("evaluate", str(folder), "--episodes", "1")
    before = runs.content_of_files(folder)
    resumed = said("run", "--resume", str(folder), "--quiet")
    after = runs.content_of_files(folder)
    if is_finished or resumed.code != 0:
        lost = [n for n in before if after.get(n) != before[n] and n not in NO_RESULTS]
        assert lost == [], f"changed by {resumed}: {lost}"
        return "refused"
    found = runs.content(folder)
    different = [n for n in runs.differences(found, expected) if not n.startswith(str(name))]
    assert different == [], (resumed, different)
    return "resumed_bit_identically"
