"""The engine for a Ray cluster without a cluster: bad input, leases, and what nodes tell."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.errors import FencedError
from gallop.execution import ray_cluster, ray_node, ray_pool
from gallop.execution.child import Deaths
from gallop.execution.work import WorkItem
from gallop.run_folder import fence
from gallop.run_folder.files import (
    new_folder,
    remove_file,
    remove_leftovers,
    remove_together,
    write_bytes,
)
from gallop.run_folder.prepared import prepare
from gallop.runs.workflow import make_folder

RUN = ["run", "--algo", "ppo", "--env", "Pendulum-v1", "-n", "8192", "--no-preset", "--films=false"]


@pytest.fixture
def run(tmp_path):
    return make_folder(tmp_path / "run", prepare(tiny("ppo")))


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seeds=0..1", "--engine=rey"], "--engine rey: did you mean ray?"),
        (["--seeds=0..1", "--address=a:1"], "--address requires --engine ray"),
        (["--engine=ray"], "--engine requires --seeds or --resume"),
        (["--seeds=0..1", "--engine=ray", "--address=node"], "expected HOST:PORT"),
        (["--seeds=0..1", "--engine=ray", "--address=node:99999"], "expected HOST:PORT"),
        (["--seeds=0..1", "--engine=ray", "--address=ray://a:10001"], "expected HOST:PORT"),
        (["--seeds=0..1", "--engine=ray", "--address=a..b:6379"], "no Ray cluster can be reached"),
    ],
)
def test_bad_flags_are_refused_on_one_line(flags, said, tmp_path, capsys):
    if "ray" in " ".join(flags):
        pytest.importorskip("ray")
    assert main([*RUN, *flags, "-f", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error
    assert not (tmp_path / "results").exists()


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails
    flags = ["--seeds=0..1", "--engine=ray", "-f", str(tmp_path / "results")]
    assert main([*RUN, *flags]) == 2
    error = capsys.readouterr().err
    assert error == 'gallop: --engine ray: Ray is not installed: pip install "gallop-rl[ray]"\n'
    assert not (tmp_path / "results").exists()


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path, capsys):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--seeds=0..1", "--engine=ray", f"--address=127.0.0.1:{port}"]
    began = time.monotonic()
    assert main([*RUN, *flags, "-f", str(tmp_path / "results")]) == 2
    assert time.monotonic() - began < 60  # Ray alone would try for 13 minutes
    error = capsys.readouterr().err
    assert "no Ray cluster can be reached there (Connection refused)" in error
    assert error.count("\n") == 1 and not (tmp_path / "results").exists()


def test_rays_own_variable_is_checked_like_the_flag(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://a:10001")
    assert main([*RUN, "--seeds=0..1", "--engine=ray", "-f", str(tmp_path / "results")]) == 2
    assert "RAY_ADDRESS ray://a:10001: expected HOST:PORT" in capsys.readouterr().err


# --- what nodes tell -----------------------------------------------------------------------------


def told(**changes):
    ours = {"host": "n1", "missing": "", "sees": True, "instruction_set": "avx2"}
    return {**ours, "versions": ray_node.installed(), **changes}


def test_a_node_like_this_machine_can_run_items(tmp_path):
    assert ray_pool.problem_of(told(), tmp_path) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sees": False}, "is not shared with node n1"),
        ({"missing": "does not have gallop installed (no)"}, "node n1 does not have gallop"),
        ({"versions": {**ray_node.installed(), "gallop": "0.0.9"}}, "node n1 has gallop 0.0.9"),
        ({"versions": {**ray_node.installed(), "numpy": "1.0"}}, "node n1 has numpy 1.0, and this"),
        (
            {"versions": {**ray_node.installed(), "more": "1"}},
            "has more 1, and this machine has no",
        ),
    ],
)
def test_a_node_that_would_train_other_bits_is_refused(changes, said, tmp_path):
    assert said in ray_pool.problem_of(told(**changes), tmp_path)


def test_a_node_answers_only_if_it_sees_what_the_driver_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_node, "SECONDS_UNTIL_SEEN", 0.2)
    assert not ray_node.tell(str(tmp_path), "n1")["sees"]
    assert not (tmp_path / "n1").exists()
    (tmp_path / "driver").write_bytes(b"")
    answer = ray_node.tell(str(tmp_path), "n1")
    assert answer["sees"] and (tmp_path / "n1").is_file()
    assert answer["versions"] == ray_node.installed()


# --- leases and fences ---------------------------------------------------------------------------


def test_a_lease_stops_only_without_new_beats(run, monkeypatch):
    monkeypatch.setattr(ray_cluster, "SECONDS_OF_A_LEASE", 0.2)
    watch = ray_cluster._Watch()
    for beat in range(3):
        fence.write_lease(run.path, fence.our_lease("t", beat, "n1"))
        assert not watch.has_stopped(fence.read_lease(run.path))
        time.sleep(0.15)
    time.sleep(0.1)
    assert watch.has_stopped(fence.read_lease(run.path))
    fence.write_lease(run.path, fence.our_lease("another", 2, "n1"))
    assert not watch.has_stopped(fence.read_lease(run.path))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"token": 1}', "\x00" * 100])
def test_a_damaged_lease_counts_as_none(content, run):
    fence.lease_file(run.path).write_text(content)
    assert fence.read_lease(run.path) is None


def test_a_lease_that_is_just_being_written_is_still_the_last_one(run):
    token = fence.raise_fence(run.path, break_lock=False)
    placed = ray_cluster._Placed(WorkItem(run.path, ("gallop",)), token, None)
    assert placed.lease() is None
    fence.write_lease(run.path, fence.our_lease("another", 7, "n1"))
    assert placed.lease() is None
    fence.write_lease(run.path, fence.our_lease(token, 1, "n1"))
    assert placed.lease().beat == 1
    fence.lease_file(run.path).write_text("")
    assert placed.lease().beat == 1


def test_a_node_whose_run_is_taken_before_it_begins_does_not_count_as_failed(run):
    """As by `gallop report RUN` in the second that the process takes to import what it needs."""
    token = fence.raise_fence(run.path, break_lock=False)
    order = ray_node.Order(
        folder=str(run.path),
        command=["gallop", "run", "--quiet", "--resume", str(run.path)],
        token=token,
        n_threads=1,
        environment={},
        working_folder=str(run.path.parent),
    )
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(ray_node.supervise, order, "n1")
        while fence.read_lease(run.path) is None:
            time.sleep(0.01)
        with run.locked():
            pass
        assert ended.result()[0] == ray_node.SUPERSEDED


def test_taking_a_run_deletes_whatever_is_called_like_a_temporary_folder(run):
    (run.path / ".new-file").write_bytes(b"")
    (run.path / "elsewhere").mkdir()
    (run.path / "elsewhere" / "kept").write_bytes(b"")
    (run.path / "state" / ".new-link").symlink_to(run.path / "elsewhere")
    fence.raise_fence(run.path, break_lock=False)
    assert not fence.temporary_folders(run.path)
    assert (run.path / "elsewhere" / "kept").is_file()


def test_a_run_can_be_taken_while_its_process_writes(run):
    is_done = threading.Event()

    def write():
        while not is_done.is_set():
            nested = run.path / "checkpoints" / ".new-a"
            nested.mkdir(exist_ok=True, parents=True)
            shutil.rmtree(nested.parent, ignore_errors=True)

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        try:
            for _ in range(1_000):
                fence.raise_fence(run.path, break_lock=False)
        finally:
            is_done.set()
        writing.result()


def test_a_process_whose_run_was_taken_leaves_the_temporary_folders_of_its_successor(
    run, monkeypatch
):
    token = fence.raise_fence(run.path, break_lock=False)
    ((name, value),) = fence.variable(run.path, token).items()
    fence.raise_fence(run.path, break_lock=False)
    (run.path / ".new-of-its-successor").mkdir()
    monkeypatch.setenv(name, value)
    with pytest.raises(FencedError):
        remove_leftovers(run.path)
    assert (run.path / ".new-of-its-successor").is_dir()


def test_a_process_whose_run_was_taken_can_neither_write_nor_delete(run, monkeypatch):
    token = fence.raise_fence(run.path, break_lock=False)
    ((name, value),) = fence.variable(run.path, token).items()
    monkeypatch.setenv(name, value)
    write_bytes(run.path / "a", b"first")
    fence.raise_fence(run.path, break_lock=True)
    for act in (
        lambda: write_bytes(run.path / "a", b"second"),
        lambda: remove_together([run.path / "a"]),
        lambda: remove_file(run.path / "a"),
        lambda: new_folder(run.path / "checkpoints" / "x").__enter__(),
        lambda: run.locked().__enter__(),
    ):
        with pytest.raises(FencedError, match="was given to another process"):
            act()
    assert (run.path / "a").read_bytes() == b"first"
    assert not list(run.path.rglob(".new-*"))
    write_bytes(run.path.parent / "b", b"elsewhere")  # other folders are not concerned


def test_a_command_of_the_user_takes_the_run_from_a_worker_that_may_still_be_there(run):
    lost = fence.raise_fence(run.path, break_lock=False)
    with run.locked():
        assert fence.read_token(run.path) not in ("", lost)
    never_handed_out = make_folder(run.path.parent / "other", prepare(tiny("ppo")))
    with never_handed_out.locked():
        assert not fence.fence_file(never_handed_out.path).exists()


def test_taking_a_run_back_deletes_what_is_about_to_be_moved(run):
    fence.raise_fence(run.path, break_lock=False)
    with pytest.raises(FileNotFoundError), new_folder(run.path / "new") as temporary:
        (temporary / "file").write_bytes(b"")
        fence.raise_fence(run.path, break_lock=False)
    assert not (run.path / "new").exists()


def test_breaking_the_lock_frees_a_run_whose_process_hangs(run):
    with run.locked():
        assert run.is_locked()
        fence.raise_fence(run.path, break_lock=True)
        assert not run.is_locked()


def test_an_item_that_keeps_dying_without_progress_is_given_up(run):
    deaths = Deaths()
    assert [deaths.may_go_on(run.path) for _ in range(10)] == [True] * 9 + [False]
