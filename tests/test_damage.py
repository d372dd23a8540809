"""Damage is detected and reported, and costs no results; kills and cleaning are reported, too."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import StopAt, tiny

from gallop.commands import cli
from gallop.errors import RunError
from gallop.report.display import Display
from gallop.run_folder import files, manifest, resume_state
from gallop.run_folder.directory import Diverged, RunDirectory
from gallop.run_folder.manifest import write_json_result, write_npz_result
from gallop.run_folder.seed_group import SeedGroup
from gallop.run_folder.verification import accept, verify
from gallop.runs import workflow
from gallop.runs.stopping import Stopped

SETTINGS = {"milestones": [50, 100], "total_timesteps": 480}


def experiment():
    """Four segments, all of whose rows stay in the replay buffer."""
    return tiny("sac", {"learning_rate": 1e-3, "buffer_size": 1000}, **SETTINGS)


def make(home: Path, name: str, stop_at: int | None = None) -> RunDirectory:
    trackers = [] if stop_at is None else [StopAt(stop_at)]
    with contextlib.suppress(Stopped) if stop_at else contextlib.nullcontext():
        workflow.run(experiment(), home, name, Display(quiet=True), trackers)
    return RunDirectory(next(home.glob(f"*/{name}")))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def finished_run(home):
    run = make(home, "finished")
    assert run.is_finished()
    return run


@pytest.fixture(scope="module")
def stopped_run(home):
    run = make(home, "stopped", 360)
    assert not run.is_finished() and resume_state.last_timestep(run.state) == 360
    return run


@pytest.fixture
def finished(finished_run, tmp_path):
    return copy(finished_run, tmp_path)


@pytest.fixture
def stopped(stopped_run, tmp_path):
    return copy(stopped_run, tmp_path)


def copy(run: RunDirectory, home: Path) -> RunDirectory:
    path = home / run.path.parent.name / run.path.name
    shutil.copytree(run.path, path)
    return RunDirectory(path)


def gallop(capsys, *arguments) -> tuple[int, list[str]]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, (captured.out + captured.err).splitlines()


def contents(run: RunDirectory) -> dict[str, bytes]:
    """All files except logs and the lock."""
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in sorted(run.path.rglob("*"))
        if path.is_file() and path.name not in ("lock", "lock.holder", "run.log")
    }


def flip(path: Path, place: float = 0.5, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(bytes(content))


def end_in_order(path: Path) -> str:
    """Evaluations, whose bits do not depend on wall-clock time."""
    with np.load(path / "evaluations.npz") as file:
        return repr(file["results"].tolist())


# --- verify --------------------------------------------------------------------------------------


def test_an_intact_run_is_reported_as_intact(finished_run, stopped_run, capsys):
    for run in (finished_run, stopped_run):
        code, lines = gallop(capsys, "verify", run.path)
        assert code == 0
        assert len(lines) == 1 and lines[0].endswith("files intact")


def test_a_folder_inside_a_run_is_not_a_run(finished_run, capsys):
    for part in (finished_run.state, finished_run.milestone(50).path):
        code, lines = gallop(capsys, "verify", part)
        assert code == 2 and lines == [f"gallop: {part}: not a run folder (no experiment.yaml)"]


UNCHECKED = {"run.log", "lock", "lock.holder"}  # logs, and files that resuming does not read


def checked_files(run: RunDirectory) -> list[Path]:
    found = [path for path in sorted(run.path.rglob("*")) if path.is_file()]
    return [p for p in found if p.name not in UNCHECKED and "tensorboard" not in p.parts]


@pytest.mark.parametrize("which", ["finished", "stopped"])
def test_a_flipped_bit_truncation_emptying_or_deletion_of_any_file_is_detected(which, request):
    run = request.getfixturevalue(which)
    assert verify(run.path).problems == []
    rng = random.Random(5)
    for path in checked_files(run):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        for damage in (bytes(changed), content[: len(content) // 2], b"", None):
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            problems = verify(run.path).problems
            harmless = path.suffix == ".json" and same_json(damage, content)
            assert harmless or any(path.name in line for line in problems), (path, damage and 1)
            path.write_bytes(content)
    assert verify(run.path).problems == []


def same_json(a: bytes | None, b: bytes) -> bool:
    try:
        return a is not None and json.loads(a) == json.loads(b)
    except ValueError:
        return False


def test_a_damaged_or_missing_manifest_is_reported(stopped, capsys):
    file = stopped.path / "manifest.json"
    content = file.read_bytes()
    flip(file)
    code, lines = gallop(capsys, "verify", stopped.path)
    assert code == 1 and f"{file} is damaged" in lines[0]
    file.write_bytes(content)
    file.unlink()
    code, lines = gallop(capsys, "verify", stopped.path)
    assert code == 1 and f"{file} is missing" in lines[0]
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert (
        code == 2
        and len(lines) == 1
        and "is missing; to accept the files as they are: gallop verify" in lines[0]
    )


def test_a_run_of_an_earlier_version_is_readable_and_reported(finished, capsys):
    (finished.path / "manifest.json").unlink()
    record = finished.read_json("provenance.json")
    del record["manifest"]
    finished.write_json("provenance.json", record)
    code, lines = gallop(capsys, "verify", finished.path)
    assert code == 0 and "written by a version without manifest.json" in lines[0]
    assert finished.numbers.read_evaluations() is not None


def test_changed_files_can_be_accepted(finished, capsys):
    flip(finished.learning_curve)
    code, lines = gallop(capsys, "verify", "--accept", finished.path)
    assert code == 0 and f"{finished.learning_curve} is damaged: accepted" in lines
    accepted = finished.read_json("provenance.json")["accepted"]
    assert [entry["files"] for entry in accepted] == [["learning_curve.png"]]


def test_a_kill_between_writing_manifest_and_file_leaves_both_valid(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    (root / "a.csv").write_bytes(b"old")
    manifest.begin(root)

    class Killed(BaseException):
        pass

    def replace(self, target):
        if Path(target).name != manifest.NAME:  # which is written first
            raise Killed
        self.rename(target)

    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        manifest.write_result(root / "a.csv", b"new")
    assert len(manifest.read(root)["a.csv"]) == 2
    assert manifest.damages(root) == []  # the old one
    (root / "a.csv").write_bytes(b"new")
    assert manifest.damages(root) == []  # the new one
    manifest.write_result(root / "b.csv", b"")
    assert len(manifest.read(root)["a.csv"]) == 1
    (root / "a.csv").write_bytes(b"old")
    assert [damage.path.name for damage in manifest.damages(root)] == ["a.csv"]


def test_damage_in_a_group_is_detected_in_its_own_files_and_in_its_runs(tmp_path, capsys):
    seeds = (0, 1)
    group = SeedGroup(tmp_path / "PPO_Pendulum-v1" / "g")
    with group.locked():
        group.write(tiny("ppo"), seeds)
        for seed in seeds:
            group.run(seed).create(tiny("ppo", training_seed=seed))
    code, lines = gallop(capsys, "verify", group.path)
    assert code == 0, lines
    for file in (group.experiment_file, group.seeds_file, group.run(1).experiment_file):
        content = file.read_bytes()
        flip(file)
        code, lines = gallop(capsys, "verify", group.path)
        assert code == 1 and f"{file} is damaged" in lines
        file.write_bytes(content)
    (group.path / "manifest.json").unlink()
    code, lines = gallop(capsys, "verify", group.path)
    assert code == 1 and f"{group.path / 'manifest.json'} is missing" in lines[0]


def group_of_two(home: Path) -> SeedGroup:
    group = SeedGroup(home / "PPO_Pendulum-v1" / "g")
    with group.locked():
        group.write(tiny("ppo"), (0, 1))
        for seed in (0, 1):
            group.run(seed).create(tiny("ppo", training_seed=seed))
    return group


def test_accepting_a_group_accepts_its_own_files_but_not_its_runs(tmp_path, capsys):
    group = group_of_two(tmp_path)
    group.experiment_file.write_text(group.experiment_file.read_text() + "# mine\n")
    other = group.run(1).experiment_file
    other.write_text(other.read_text() + "# mine\n")
    code, lines = gallop(capsys, "run", "--resume", group.path)
    assert code == 2 and f"gallop verify --accept {group.path}" in lines[-1]
    code, lines = gallop(capsys, "verify", "--accept", group.path)
    assert code == 1 and f"{group.experiment_file} is damaged: accepted" in lines
    assert lines[1:] == [f"{other} is damaged"]
    (entry,) = json.loads(group.seeds_file.read_text())["accepted"]
    assert entry["files"] == ["group.yaml"]
    assert group.read_experiment() == tiny("ppo")
    group.write(tiny("ppo"), (0, 1, 2))
    assert json.loads(group.seeds_file.read_text())["accepted"] == [entry]


def test_unreadable_seeds_are_rebuilt_from_the_existing_runs(tmp_path, capsys):
    group = group_of_two(tmp_path)
    group.seeds_file.write_text("[")
    code, lines = gallop(capsys, "verify", "--accept", group.path)
    assert code == 0, lines
    assert group.read_seeds() == [0, 1]
    assert (group.path / "seeds.damaged.json").read_text() == "["


def test_a_held_run_of_a_group_does_not_prevent_verifying_the_others(tmp_path, capsys):
    group = group_of_two(tmp_path)
    damaged = group.run(1).experiment_file
    flip(damaged)
    with group.run(0).locked():
        code, lines = gallop(capsys, "verify", group.path)
    assert code == 1 and lines[0] == f"{damaged} is damaged"
    assert "seed-0 is being run by another process" in lines[1] and "not checked" in lines[1]


def test_the_manifest_does_not_cover_files_added_by_users(finished, capsys):
    """But it covers all our files: the manifest of a finished run lists the same."""
    results = {path.relative_to(finished.path).as_posix() for path in finished.results()}
    assert results == set(manifest.read(finished.path))
    for name in ("notes.csv", "checkpoints/050/mine.json", "state/mine.txt"):
        (finished.path / name).write_text("mine")
    flip(finished.learning_curve)
    code, _ = gallop(capsys, "verify", "--accept", finished.path)
    assert code == 0 and set(manifest.read(finished.path)) == results


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", None])
def test_an_unreadable_provenance_can_be_replaced(content, stopped, finished_run, capsys):
    file = stopped.provenance_file
    file.unlink() if content is None else file.write_bytes(content)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and f"gallop verify --accept {stopped.path}" in lines[-1]
    code, lines = gallop(capsys, "verify", "--accept", stopped.path)
    assert code == 0, lines
    record = stopped.read_json(file.name)
    assert record["accepted"][0]["files"] == ["provenance.json"] and record["versions"] == {}
    aside = stopped.path / "provenance.damaged.json"
    assert content is None or aside.read_bytes() == content
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 0, lines
    assert end_in_order(stopped.path) == end_in_order(finished_run.path)
    assert stopped.is_finished() and verify(stopped.path).problems == []


def test_nothing_is_accepted_before_it_is_recorded(finished):
    flip(finished.learning_curve)

    class Killed(BaseException):
        pass

    def begin(*_):
        raise Killed

    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "begin", begin)
        accept(finished.path)
    (entry,) = finished.read_json("provenance.json")["accepted"]
    assert entry["files"] == ["learning_curve.png"]
    assert [d.path for d in manifest.damages(finished.path)] == [finished.learning_curve]
    accept(finished.path)
    assert manifest.damages(finished.path) == []


# --- readers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("best_model.zip", [["evaluate", "RUN"], ["watch", "RUN", "-o", "x.mp4"]]),
        ("final_model.zip", [["export", "RUN", "--hub", "OUT"]]),
        ("final_model.zip", [["evaluate", "RUN/final_model.zip"]]),
        ("evaluations.npz", [["figures", "RUN"], ["run", "--extend", "RUN", "-n", "960"]]),
        ("evaluations.npz", [["report", "RUN"], ["report", "RUN", "-o", "OUT.html"]]),
        ("checkpoints/050/model.zip", [["evaluate", "RUN/checkpoints/050"]]),
        ("experiment.yaml", [["evaluate", "RUN"]]),
    ],
)  # fmt: skip
def test_every_reader_refuses_a_damaged_file(name, commands, finished, tmp_path, capsys):
    flip(finished.path / name)
    for command in commands:
        arguments = [
            part.replace("RUN", str(finished.path)).replace("OUT", str(tmp_path / "out"))
            for part in command
        ]
        code, lines = gallop(capsys, *arguments)
        assert code == 2 and len(lines) == 1, lines
        assert str(finished.path / name) in lines[0] and "damaged" in lines[0]


def test_a_damaged_policy_cannot_be_the_initial_policy(finished, capsys, tmp_path):
    flip(finished.final_model)
    arguments = ("--init-from", finished.final_model, "-f", tmp_path / "new")
    code, lines = gallop(capsys, "run", finished.experiment_file, *arguments)
    assert code == 2 and f"{finished.final_model} is damaged" in lines[-1]
    assert not list(tmp_path.glob("new/*/*/experiment.yaml"))


def test_damage_is_detected_from_inside_a_run_and_under_any_name(
    finished, tmp_path, capsys, monkeypatch
):
    """Paths are made absolute, however the user has typed them."""
    flip(finished.milestone(100).model)
    for here, named in (
        (finished.milestone(100).path, "model.zip"),
        (finished.milestone(100).path, "."),
        (finished.milestone(100).path, "../100"),
        (finished.path / "checkpoints", "100"),
    ):
        monkeypatch.chdir(here)
        code, lines = gallop(capsys, "evaluate", named, "--env", "Pendulum-v1")
        assert code == 2 and "restore it from a copy or" in lines[-1], (here, named, lines)
    monkeypatch.chdir(tmp_path)
    for name in ("checkpoints/100", "state"):  # of all runs, of a run
        shutil.copytree(finished.path, tmp_path / name)
        flip(tmp_path / name / "best_model.zip")
        code, lines = gallop(capsys, "evaluate", name, "--env", "Pendulum-v1")
        assert code == 2 and "restore it from a copy or" in lines[-1], (name, lines)


def test_the_manifest_of_a_run_that_has_ended_has_one_hash_per_file(finished_run, stopped_run):
    for run in (finished_run, stopped_run):
        assert {len(hashes) for hashes in manifest.read(run.path).values()} == {1}


def test_diverged_json_is_in_the_manifest_until_the_run_resumes(stopped, capsys):
    stopped.write_diverged(Diverged(360, "reward", "a reward is NaN", {}))
    flip(stopped.diverged_file, place=0.3)
    assert verify(stopped.path).problems == [f"{stopped.diverged_file} is damaged"]
    stopped.write_diverged(Diverged(360, "training", "a loss is NaN", {}))
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and f"or delete {stopped.diverged_file}" in lines[-1]
    stopped.diverged_file.unlink()
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 0 and not any("diverged.json" in line for line in lines)
    assert verify(stopped.path).problems == []


def earlier(run: RunDirectory) -> None:
    """Make a run look as if written by a version without manifests."""
    record = run.read_json("provenance.json")
    del record["manifest"]
    (run.path / "manifest.json").unlink()
    run.write_json("provenance.json", record)


def test_a_record_of_an_earlier_version_is_never_replaced(stopped, capsys):
    earlier(stopped)
    record, seeds = stopped.read_json("provenance.json"), stopped.seeds_file.read_bytes()
    stopped.seeds_file.unlink()
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 0, lines
    after = stopped.read_json("provenance.json")
    assert after["start"] == record["start"] and len(after["resumes"]) == 1
    assert stopped.seeds_file.read_bytes() == seeds


def test_records_lost_with_the_manifest_are_not_silently_rewritten(stopped, capsys):
    for name in ("manifest.json", "provenance.json", "seeds.json"):
        (stopped.path / name).unlink()
    before = contents(stopped)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and "provenance.json is missing" in lines[-1]
    assert contents(stopped) == before


def equal_policies(one: Path, other: Path) -> bool:
    from gallop.policies.sb3_zip import read_training

    a, b = read_training(one), read_training(other)
    return a.tensors.keys() == b.tensors.keys() and all(
        np.array_equal(array, b.tensors[name]) for name, array in a.tensors.items()
    )


@pytest.mark.parametrize("cleaned", [False, True])
def test_results_known_with_certainty_are_restored(cleaned, finished, finished_run, capsys):
    names = ["evaluations.npz", "random_baseline_rewards.npz", "best_model.zip"]
    names += [f"checkpoints/{n}" for n in ("050/model.zip", "050/trained_rewards.npz")]
    if cleaned:
        assert gallop(capsys, "clean", finished.path)[0] == 0
    for name in names:
        flip(finished.path / name)
    (finished.path / "final_model.zip").unlink()
    code, lines = gallop(capsys, "verify", finished.path)
    assert code == 1 and lines[-1].startswith(f"gallop verify --restore {finished.path}")
    code, lines = gallop(capsys, "verify", "--restore", finished.path)
    for name in names:
        if name.endswith(".npz"):
            assert (finished.path / name).read_bytes() == (finished_run.path / name).read_bytes()
    final = f"{finished.final_model}: restored from {finished.path}/checkpoints/100/model.zip"
    assert final in lines
    policies = ["final_model.zip"] if cleaned else [*names[2:4], "final_model.zip"]
    for name in policies:
        assert equal_policies(finished.path / name, finished_run.path / name), name
    restored = finished.read_json("provenance.json")["restored"]
    assert {"final_model.zip"} <= {entry["file"] for entry in restored} <= {*policies, *names}
    left = verify(finished.path).problems
    assert (code, left) == (0, []) or cleaned
    if cleaned:  # there is neither a state nor an equal policy file
        assert code == 1 and f"{finished.path}/checkpoints/050/model.zip is damaged" in left


def test_a_stopped_run_says_how_to_restore_its_policy_and_then_resumes(
    stopped, finished_run, capsys
):
    flip(stopped.best_model)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and f"gallop verify --restore {stopped.path}" in lines[-1]
    assert gallop(capsys, "verify", "--restore", stopped.path)[0] == 0
    assert gallop(capsys, "run", "--resume", stopped.path)[0] == 0
    assert end_in_order(stopped.path) == end_in_order(finished_run.path)


def test_nothing_is_restored_from_damaged_files(finished, capsys):
    flip(finished.path / "evaluations.npz")
    numbers = finished.path / "episodes.csv"
    numbers.write_text(numbers.read_text().replace("current,120", "current,121"))
    damaged = (finished.path / "evaluations.npz").read_bytes()
    code, _ = gallop(capsys, "verify", "--restore", finished.path)
    assert code == 1
    assert (finished.path / "evaluations.npz").read_bytes() == damaged


# --- resume --------------------------------------------------------------------------------------


def harm_state(run: RunDirectory) -> None:
    shutil.rmtree(run.state)


def harm_shard(run: RunDirectory) -> None:
    flip(min((run.state / "replay").iterdir()))


@pytest.mark.parametrize("harm", [harm_state, harm_shard])
def test_a_finished_run_stays_finished_with_a_damaged_state(harm, finished, capsys):
    harm(finished)
    before = contents(finished)
    code, lines = gallop(capsys, "run", "--resume", finished.path)
    assert (code, lines) == (0, [f"{finished.path} is finished: nothing to do"])
    assert contents(finished) == before


def test_a_damaged_old_shard_is_refused_with_all_options_and_changes_nothing(stopped, capsys):
    harm_shard(stopped)
    shard = min((stopped.state / "replay").iterdir())
    write_json_result(stopped.diverged_file, Diverged(1, "reward", "nan", {})._asdict())
    manifest.settle(stopped.path)
    before = contents(stopped)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2
    assert str(shard) in lines[-1] and "--drop-damaged" in lines[-1]
    policy = stopped.path / "checkpoints" / "050" / "model.zip"
    assert f"--init-from {policy}" in lines[-1]
    assert contents(stopped) == before
    with np.load(stopped.path / "evaluations.npz") as file:
        assert file["timesteps"].tolist() == [120, 240, 360]


def test_a_run_can_continue_without_lost_rows(stopped, capsys):
    harm_shard(stopped)
    code, lines = gallop(capsys, "run", "--resume", stopped.path, "--drop-damaged")
    assert code == 0, lines
    record = stopped.read_json("provenance.json")
    (dropped,) = record["dropped"]
    assert dropped["timestep"] == 360 and dropped["rows"] == [[0, 120]]
    assert any("120 of 360 rows of the replay buffer are lost" in line for line in lines)
    assert stopped.is_finished()
    assert verify(stopped.path).problems == []
    with np.load(stopped.path / "evaluations.npz") as file:
        assert file["timesteps"].tolist() == [120, 240, 360, 480]


def test_rows_are_replaced_only_after_this_is_recorded(stopped, capsys):
    harm_shard(stopped)
    shard = min((stopped.state / "replay").iterdir())
    damaged = shard.read_bytes()

    class Killed(BaseException):
        pass

    def write_record(*_):
        raise Killed

    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_state, "_write_record", write_record)
        workflow.resume(stopped, Display(quiet=True), drop_damaged=True)
    assert stopped.read_json("provenance.json")["dropped"][0]["rows"] == [[0, 120]]
    code, lines = gallop(capsys, "run", "--resume", stopped.path, "--drop-damaged")
    assert code == 0, lines
    assert len(stopped.read_json("provenance.json")["dropped"]) == 1
    assert shard.with_suffix(".damaged").read_bytes() == damaged


def test_lost_rows_are_replaced_by_copies_of_intact_rows(stopped):
    from safetensors.numpy import load_file

    shards = sorted((stopped.state / "replay").iterdir())
    newest = load_file(shards[-1])
    flip(shards[0])
    assert resume_state.newest_boundary(stopped.state) is None
    resume_state.drop_damaged(next(resume_state.check_boundaries(stopped.state)))
    saved = resume_state.newest_boundary(stopped.state)
    assert saved is not None and saved.timestep == 360
    for key, array in load_file(shards[0]).items():
        assert np.array_equal(array, newest[key])


def test_a_deleted_state_does_not_restart_the_run_at_timestep_0(stopped, capsys):
    harm_state(stopped)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2
    assert "results up to timestep 360, but its resume state" in lines[-1]
    with np.load(stopped.path / "evaluations.npz") as file:
        assert file["timesteps"].tolist() == [120, 240, 360]


def test_resuming_from_an_older_boundary_gives_the_same_result(stopped, finished_run, capsys):
    flip(stopped.state / "000000000360" / "learner.safetensors")
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 0, lines
    assert any("going back to timestep 240" in line for line in lines)
    assert end_in_order(stopped.path) == end_in_order(finished_run.path)
    assert verify(stopped.path).problems == []


def test_a_state_that_cannot_be_loaded_costs_no_results(stopped, capsys):
    # Intact according to its hashes, but of another learner.
    folder = stopped.state / "000000000360"
    record = json.loads((folder / "boundary.json").read_text())
    (folder / "learner.json").write_text("{}")
    record["files"]["learner.json"] = resume_state.digest(folder / "learner.json")
    resume_state._write_record(folder, record)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and f"{folder} cannot be loaded" in lines[-1]
    with np.load(stopped.path / "evaluations.npz") as file:
        assert file["timesteps"].tolist() == [120, 240, 360]
    assert stopped.numbers.last_timestep() == 360


@pytest.mark.parametrize("name", ["evaluations.npz", "episodes.csv", "best_model.zip"])
def test_damaged_results_are_not_appended_to(name, stopped, capsys):
    flip(stopped.path / name)
    before = contents(stopped)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and len(lines) == 1
    assert f"{stopped.path / name} is damaged" in lines[0]
    assert contents(stopped) == before


def test_a_damaged_normalizer_of_the_initial_policy_is_refused(stopped, capsys):
    file = stopped.state / "initial_model.normalizer.npz"
    write_npz_result(file, {"mean": np.zeros(3)})
    flip(file)
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and f"{file} is damaged" in lines[-1]


def test_a_deleted_experiment_is_reported(stopped, capsys):
    stopped.experiment_file.unlink()
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and lines[-1].endswith("it was deleted: restore it from a copy)")


def test_a_damaged_boundary_does_not_displace_an_intact_one(stopped):
    newest = stopped.state / "000000000360"
    (newest / "learner.json").write_bytes(b"")
    shutil.copytree(newest, stopped.state / "000000000480")
    resume_state.prune(stopped.state)
    names = sorted(path.name for path in stopped.state.glob("0*"))
    assert "000000000240" in names


# --- replaying segments --------------------------------------------------------------------------


def test_a_replayed_segment_is_bit_identical(finished_run, capsys):
    for segment in (0, 3):
        code, lines = gallop(capsys, "verify", "--replay", segment, finished_run.path)
        assert code == 0, lines
        assert lines[-2:] == ["learner: bit-identical", "replay buffer: bit-identical"]


def test_a_segment_without_its_start_lists_the_replayable_ones(finished, capsys):
    shutil.rmtree(finished.state / "learners", ignore_errors=True)
    code, lines = gallop(capsys, "verify", "--replay", 1, finished.path)
    assert code == 2 and "segment 1 cannot be replayed" in lines[-1]
    assert lines[-1].endswith("replayable segments: 0, 3")
    code, lines = gallop(capsys, "verify", "--replay", 9, finished.path)
    assert code == 2 and "segment 9 was not trained" in lines[-1]


def test_replayable_segments_are_found_by_reading_each_file_once(finished):
    read = []

    def digest(path):
        read.append(path)
        return files.digest(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_state, "digest", digest)
        assert sorted(resume_state.replayable(finished.state))[-1] == 4
    assert len(read) == len(set(read)) > 8


def test_a_segment_is_replayed_from_a_read_only_folder(disk, finished, capsys):
    run = copy(finished, disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, lines = gallop(capsys, "verify", "--replay", 3, run.path)
    assert code == 0 and lines[-1] == "replay buffer: bit-identical", lines


def test_replaying_detects_different_bits(finished, capsys):
    numbers = finished.path / "segments.csv"
    segment = finished.numbers.read_segments()[0]
    text = numbers.read_text().replace(segment.learner_sha256, "0" * 64)
    manifest.write_result(numbers, text.encode())
    code, lines = gallop(capsys, "verify", "--replay", 0, finished.path)
    assert code == 1
    assert any(line.startswith("learner: DIFFERENT bits") for line in lines)


def test_learners_of_milestones_and_of_the_best_policy_are_kept(finished):
    kept = {int(path.name) for path in finished.state.glob("learners/0*")}
    kept |= {int(path.name) for path in finished.state.glob("0*")}
    best = finished.numbers.read_evaluations().best_timestep
    assert {240, 480, best} <= kept


# --- clean ---------------------------------------------------------------------------------------


def test_clean_frees_space_and_keeps_every_result(finished, capsys):
    before = {n: c for n, c in contents(finished).items() if not n.startswith("state/")}
    code, lines = gallop(capsys, "clean", finished.path)
    assert code == 0 and lines[0].endswith(" freed")
    after = contents(finished)
    for name in ("provenance.json", "manifest.json"):
        del before[name], after[name]
    assert after == before
    assert verify(finished.path).problems == []
    code, lines = gallop(capsys, "run", "--extend", finished.path, "-n", 960)
    assert code == 2 and "its resume state was removed by gallop clean" in lines[-1]
    assert "--init-from" in lines[-1]


def test_clean_refuses_unfinished_runs(stopped, capsys):
    before = contents(stopped)
    code, lines = gallop(capsys, "clean", stopped.path)
    assert code == 2 and "is not finished" in lines[0] and "--unfinished" in lines[0]
    assert contents(stopped) == before
    code, lines = gallop(capsys, "clean", "--unfinished", stopped.path)
    assert code == 0 and not list(stopped.state.glob("0*"))
    code, lines = gallop(capsys, "run", "--resume", stopped.path)
    assert code == 2 and "gallop clean removed it on 20" in lines[-1] and "restore it" in lines[-1]


def test_a_killed_clean_leaves_nothing_that_looks_damaged(finished, capsys):
    class Killed(BaseException):
        pass

    remove = shutil.rmtree

    def rmtree(path, ignore_errors=False):
        records = list(Path(path).rglob("boundary.json"))
        if not records:  # part of a write
            return remove(path, ignore_errors)
        records[0].unlink()
        raise Killed

    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        cli.main(["clean", str(finished.path)])
    assert verify(finished.path).problems == []
    assert gallop(capsys, "clean", finished.path)[0] == 0
    assert not [path for path in finished.state.rglob("*") if path.suffix == ".safetensors"]


def test_clean_keeps_queued_films(finished, capsys):
    job = finished.film_job(50)
    write_npz_result(job, {"actions": np.zeros(3)})
    code, _ = gallop(capsys, "clean", finished.path)
    assert code == 0 and job.exists()
    assert verify(finished.path).problems == []


def test_clean_does_not_write_to_a_damaged_record(finished, capsys):
    text = finished.provenance_file.read_text()
    finished.provenance_file.write_text(text.replace('"native"', '"nativf"'))
    code, lines = gallop(capsys, "clean", finished.path)
    assert code == 2 and f"{finished.provenance_file} is damaged" in lines[0]
    assert list(finished.state.glob("0*"))


# --- locks, and runs killed just after their start -----------------------------------------------


def test_a_run_whose_folder_is_moved_away_commits_nothing(tmp_path):
    class Mover:
        def log(self, row):
            if row.timestep >= 240 and not (tmp_path / "moved").exists():
                run = next(tmp_path.glob("results/*/a"))
                run.rename(tmp_path / "moved")

        def close(self):
            pass

    with pytest.raises(RunError, match="was moved, deleted or replaced"):
        workflow.run(
            tiny("ppo", **SETTINGS), tmp_path / "results", "a", Display(quiet=True), [Mover()]
        )
    moved = RunDirectory(tmp_path / "moved")
    assert resume_state.last_timestep(moved.state) == 120


def test_a_replaced_lock_is_noticed(tmp_path):
    folder = RunDirectory(tmp_path / "SAC_Pendulum-v1" / "a")
    folder.create(tiny("sac"))
    with folder.locked():
        folder.check_held()
        (folder.state / "lock").unlink()
        (folder.state / "lock").touch()
        with pytest.raises(RunError, match="was moved, deleted or replaced"):
            folder.check_held()


def test_a_folder_left_by_an_early_kill_of_an_older_version_is_used_again(tmp_path):
    folder = RunDirectory(tmp_path / "SAC_Pendulum-v1" / "a")
    (folder.state / ".new-abc").mkdir(parents=True)
    (folder.state / "lock").touch()
    with pytest.raises(RunError, match="killed just after its start"):
        folder.read_experiment()
    folder.create(tiny("sac"))
    assert folder.read_experiment() == tiny("sac")


def test_a_folder_with_any_content_is_never_used_again(tmp_path):
    folder = RunDirectory(tmp_path / "SAC_Pendulum-v1" / "a")
    folder.path.mkdir(parents=True)
    (folder.path / "evaluations.npz").touch()
    with pytest.raises(RunError, match="already exists"):
        folder.create(tiny("sac"))
    assert (folder.path / "evaluations.npz").exists()
