"""Untrusted folders: links that leave them, pipes, damaged files; none are followed or block."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small_search
import yaml
from conftest import tiny

from gallop import reading
from gallop.commands.cli import main
from gallop.errors import MAX_MESSAGE, ExperimentError, RunError
from gallop.experiments import yaml_file
from gallop.reading import read_bytes, read_json, read_npz
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.links import check_contents, check_run_around
from gallop.run_folder.listing import list_runs


@pytest.fixture
def run(tmp_path):
    folder = RunDirectory(tmp_path / "results" / "SAC_Pendulum-v1" / "copied")
    folder.create(tiny("sac"))
    folder.write_json("provenance.json", {"end": None})
    return folder


@pytest.fixture
def elsewhere(tmp_path):
    """A folder outside of the run, with a file."""
    folder = tmp_path / "elsewhere"
    (folder / "replay").mkdir(parents=True)
    for name in ("notes.txt", "a.safetensors", "replay/a.safetensors"):
        (folder / name).write_text("kept")
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


# --- links ---------------------------------------------------------------------------------------


LINKS = [
    ("run.log", "notes.txt"),
    ("checkpoints", ""),
    ("state/replay", "replay"),
    ("state/lock", "notes.txt"),
    ("state/000000000120", "replay"),
    ("best_model.zip", "notes.txt"),
    ("gone.txt", "not there"),
]
COMMANDS = [
    ["run", "--resume", "RUN"],
    ["run", "--extend", "RUN", "-n", "720"],
    ["figures", "RUN"],
    ["report", "RUN"],
    ["export", "RUN", "--hub", "hub"],
    ["export", "RUN", "--zoo", "zoo"],
]


@pytest.mark.parametrize(("link", "target"), LINKS)
def test_a_link_that_leaves_a_run_is_reported_with_its_target(run, elsewhere, link, target):
    (run.path / link).symlink_to(elsewhere / target)
    with pytest.raises(RunError) as refused:
        check_contents(run.path)
    assert str(run.path / link) in str(refused.value)
    assert str((elsewhere / target).resolve()) in str(refused.value)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_no_command_writes_through_a_link_or_copies_its_target(
    run, elsewhere, command, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (run.state / "replay").symlink_to(elsewhere / "replay")
    before, files = contents(elsewhere), contents(run.path)
    assert main([str(run.path) if part == "RUN" else part for part in command]) == 2
    message = capsys.readouterr().err
    assert "replay is a link that leaves the folder" in message
    assert message.count("\n") == 1
    assert (contents(elsewhere), contents(run.path)) == (before, files)
    assert not (tmp_path / "hub").exists()


def test_links_within_a_run_and_links_to_a_run_are_allowed(run, tmp_path):
    (run.path / "newest").symlink_to("state")
    (run.path / "log").symlink_to(run.path / "experiment.yaml")  # absolute, but inside
    (tmp_path / "shortcut").symlink_to(run.path)
    check_contents(run.path)
    check_contents(tmp_path / "shortcut")


def test_a_group_and_a_search_with_a_link_are_refused(elsewhere, tmp_path, capsys):
    group = tmp_path / "group"
    group.mkdir()
    (group / "group.yaml").write_text("algo: sac\n")
    (group / "seed-0").symlink_to(elsewhere)
    assert main(["run", "--resume", str(group)]) == 2
    assert "seed-0 is a link that leaves the folder" in capsys.readouterr().err
    search = tmp_path / "search"
    search.mkdir()
    record = '{"number": 0, "parent": null, "storage": "study.db", "study_name": "a", '
    (search / "round.json").write_text(record + '"start": "now", "reproducible": false}')
    (search / "trials").symlink_to(elsewhere)
    assert main(["tune", "--resume", str(search)]) == 2
    assert "trials is a link that leaves the folder" in capsys.readouterr().err


def test_the_parent_of_a_round_must_be_next_to_it(tmp_path, capsys):
    search = tmp_path / "search"
    search.mkdir()
    record = '{"number": 1, "parent": "../../etc", "storage": "s", "study_name": "a", '
    (search / "round.json").write_text(record + '"start": "now", "reproducible": false}')
    assert main(["tune", "--resume", str(search)]) == 2
    assert "round.json is damaged" in capsys.readouterr().err


def test_a_film_next_to_a_policy_is_not_written_through_a_link(run, elsewhere):
    (run.path / "checkpoints").symlink_to(elsewhere)
    with pytest.raises(RunError, match="checkpoints is a link that leaves"):
        check_run_around(run.path / "checkpoints" / "model_watch.mp4")


def test_a_lock_that_is_a_link_is_refused(run, elsewhere):
    (run.state / "lock").symlink_to(elsewhere / "notes.txt")
    with pytest.raises(RunError, match="must be a regular file"), run.locked():
        pass
    assert (elsewhere / "notes.txt").read_text() == "kept"


# --- pipes and devices ---------------------------------------------------------------------------

FILES = ["experiment.yaml", "provenance.json", "episodes.csv", "evaluations.npz", "state/lock"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_a_run_never_blocks_a_command(run, name):
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    program = "import sys; from gallop.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in (["list", "-f", run.path.parents[1]], ["run", "--resume", run.path]):
        done = subprocess.run(
            [sys.executable, "-c", program, *command], capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in done.stderr
        if command[0] == "run":
            assert done.returncode == 2
            assert f"{run.path / name} is a pipe" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
def test_a_policy_file_that_is_a_pipe_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "ppo-Pendulum-v1.zip")
    assert main(["evaluate", str(tmp_path / "ppo-Pendulum-v1.zip")]) == 2
    assert "a pipe, not a regular file" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices")
def test_a_device_is_not_a_regular_file(tmp_path):
    (tmp_path / "a.json").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="a device"):
        read_json(tmp_path / "a.json")


# --- damage and size -----------------------------------------------------------------------------


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def array_with_false_shape(shape):
    """An .npz file whose array claims a larger shape than it has."""
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, claim)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("results.npy", header.getvalue())
    return buffer.getvalue()


DAMAGE = [
    ("experiment.yaml", b"[1, 2]", "not a mapping"),
    ("experiment.yaml", b"\xff\xfe\x00", "is not a text file"),
    ("experiment.yaml", b"algo: sac\nenv: Pendulum-v1\n", "total_timesteps"),
    ("experiment.yaml", b"", "is empty"),
    ("provenance.json", b"[]", "must contain a JSON object"),
    ("provenance.json", b"[" * 100_000, "is nested too deeply"),
    ("provenance.json", b'{"end": ', "is not valid JSON"),
    ("episodes.csv", b"a,b\n1,2\n", "column 'policy' is missing"),
    (
        "episodes.csv",
        b"policy,timestep,seed_family,seed,return,length\nfinal,1\n",
        "more or fewer columns",
    ),
    ("episodes.csv", b"\x00" * 200_000, "episodes.csv"),
    (
        "episodes.csv",
        b"policy,timestep,seed_family,seed,return,length\nfinal,1,evaluation,1,much,5\n",
        "'much'",
    ),
    ("evaluations.npz", b"PK\x03\x04", "is not an .npz file"),
    ("evaluations.npz", npz(results=np.zeros((1, 2))), "has no array 'timesteps'"),
    ("evaluations.npz", array_with_false_shape((10**12,)), "incomplete array"),
    (
        "evaluations.npz",
        npz(timesteps=["a"], results=[["b"]], ep_lengths=[[1]], seeds=[1]),
        "must hold numbers in shape",
    ),
]


@pytest.mark.parametrize(("name", "content", "reason"), DAMAGE)
def test_a_damaged_run_is_listed_with_its_reason_among_the_others(
    run, name, content, reason, capsys
):
    whole = RunDirectory(run.path.parent / "whole")
    whole.create(tiny("sac"))
    (run.path / name).write_bytes(content)
    listed = {each.name: each for each in list_runs(run.path.parents[1])}
    assert listed["whole"].status == "stopped"
    assert listed["copied"].status == "damaged"
    assert reason in listed["copied"].reason
    assert "\n" not in listed["copied"].reason
    assert main(["list", "-f", str(run.path.parents[1])]) == 0
    assert "whole" in capsys.readouterr().out


def test_listing_does_not_import_the_task(run, tmp_path, monkeypatch):
    (tmp_path / "marking_task.py").write_text(
        "import pathlib\npathlib.Path('imported').write_text('')\n"
        "import gymnasium\ngymnasium.register('Marked-v0', lambda: None)\n"
    )
    text = run.experiment_file.read_text().replace("Pendulum-v1", "marking_task:Marked-v0")
    run.experiment_file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (listed,) = list_runs(run.path.parents[1])
    assert (listed.status, listed.horizon) == ("stopped", 360)
    assert listed.env == "marking_task:Marked-v0 {max_episode_steps: 50}"
    assert not (tmp_path / "imported").exists()


def test_a_file_larger_than_its_limit_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "a", 4)
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(1_000_000))
    with pytest.raises(ValueError, match="larger than 100,000 bytes"):
        read_npz(tmp_path / "b.npz", limit=100_000)


def test_arrays_are_read_as_numpy_wrote_them(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3), "c": np.array(["x", "yz"])}
    np.savez(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz", ["a", "b", "c"])
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="or is damaged"):
        read_npz(tmp_path / "o.npz")


def test_a_long_message_keeps_both_ends():
    message = str(ExperimentError("first " + "x" * 80_000 + " last"))
    assert len(message) <= MAX_MESSAGE + 3
    assert (message[:5], message[-4:]) == ("first", "last")


def test_links_in_the_folder_of_a_tracker_are_allowed(tmp_path):
    """W&B has links to its logs there; a link in place of the folder itself is refused."""
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (run / "wandb" / "logs").mkdir(parents=True)
    (run / "wandb" / "logs" / "debug-core.log").symlink_to(outside)
    check_contents(run)
    (run / "state").mkdir()
    (run / "state" / "wandb").symlink_to(outside)
    with pytest.raises(RunError, match="is a link that leaves the folder"):
        check_contents(run)


# --- a pipe named by the user --------------------------------------------------------------------

CONFIG = "algo: sac\nenv: Pendulum-v1\ntotal_timesteps: 2000\n"


@pytest.fixture
def pipe():
    """Both ends of a pipe, and its path."""
    reading, writing = os.pipe()
    yield f"/dev/fd/{reading}", writing
    for end in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names")
@pytest.mark.parametrize("command", [["run"], ["baseline", "--episodes", "1"]])
def test_a_config_can_be_read_from_a_pipe(pipe, command, tmp_path, monkeypatch, capsys):
    name, writing = pipe
    monkeypatch.chdir(tmp_path)
    os.write(writing, CONFIG.encode())
    os.close(writing)
    more = ["--dry-run"] if command == ["run"] else []
    assert main([*command, *more, name]) == 0
    assert "Pendulum-v1" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names")
def test_a_search_can_be_read_from_a_pipe(pipe, capsys):
    name, writing = pipe
    os.write(writing, yaml.safe_dump(small_search.one_round(2)).encode())
    os.close(writing)
    assert main(["tune", "--dry-run", name]) == 0
    assert "Pendulum-v1" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names")
def test_a_pipe_with_no_or_too_much_data_is_refused(pipe, monkeypatch, capsys):
    name, writing = pipe
    monkeypatch.setattr(reading, "SECONDS_OF_A_PIPE", 0.2)
    os.write(writing, b"algo: sac\n")
    assert main(["run", name]) == 2
    assert "a pipe that was still open after 0.2 s" in capsys.readouterr().err
    monkeypatch.setattr(yaml_file, "MAX_BYTES", 10)
    os.write(writing, b"algo: sac\n# more")
    assert main(["run", name]) == 2
    assert "is larger than an experiment can be" in capsys.readouterr().err
