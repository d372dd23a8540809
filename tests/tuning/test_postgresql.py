"""The same search in a PostgreSQL database: same trials, and one line where the database fails."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import ray_nodes
from small_search import (
    finish,
    folder,
    kill,
    nobody_is_left,
    one_round,
    outcome,
    output,
    run,
    search_data,
    start,
    trials,
    tuned_once,
    wait_until,
    write,
)

pytestmark = pytest.mark.slow
FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Server:
    """A PostgreSQL of our own, in a folder of its own, on a free port."""

    def __init__(self, binaries: Path, data: Path) -> None:
        self._binaries, self._data = binaries, data
        self.password = secrets.token_hex(8)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = data / "password"
        secret.write_text(self.password)
        shutil.chown(data, "postgres")
        shutil.chown(secret, "postgres")
        # Locale C: the machine may have no other.
        self._run(
            "initdb", "-D", data / "db", "-U", "tester", "--auth=scram-sha-256",
            f"--pwfile={secret}", "--no-sync", "--locale=C", "--encoding=UTF8",
        )  # fmt: skip
        self.start()

    def _run(self, program, *arguments):
        command = ["runuser", "-u", "postgres", "--", str(self._binaries / program)]
        with (self._data / "out").open("ab") as out:  # no pipe: the server would keep it open
            done = subprocess.run(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd="/",
                timeout=90,
            )
        assert done.returncode == 0, (self._data / "out").read_text()

    def start(self):
        options = f"-p {self.port} -k {self._data} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = self._data / "db" / "log"
        self._run("pg_ctl", "-D", self._data / "db", "-l", log, "-w", "-o", options, "start")

    def stop(self):
        self._run("pg_ctl", "-D", self._data / "db", "-m", "immediate", "-w", "stop")

    def url(self, database, password=None):
        """Of a database, made if it is not there."""
        import psycopg

        address = f"tester:{self.password}@127.0.0.1:{self.port}"
        with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
            names = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
            if database not in names:
                connection.execute(f'CREATE DATABASE "{database}"')
        secret = password or self.password
        return f"postgresql+psycopg://tester:{secret}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    if not FOUND:
        pytest.skip("no PostgreSQL: apt-get install -y --no-install-recommends postgresql")
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL's server runs as another user, which only root can become")
    data = Path(tempfile.mkdtemp(prefix="gallop-postgres-", dir="/tmp"))
    made = Server(FOUND[-1].parent, data)
    yield made
    made.stop()
    shutil.rmtree(data)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What the search comes to in SQLite."""
    home, _ = tuned_once(tmp_path_factory, "tiny")
    return outcome(folder(home))


def told(home, n):
    """Whether trials/00n has been begun: those of the batch before it were told of."""
    return lambda: list(home.glob(f"o/plots/*/x/trials/{n:03d}/seed-0/experiment.yaml"))


def test_the_same_trials_on_a_ray_cluster_that_is_killed_piece_by_piece(
    server, reference, tmp_path, monkeypatch
):
    """A node, a training and the coordinator are killed in turn."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    url = server.url("ray")
    write(tmp_path, search_data())
    with ray_nodes.started(3) as nodes:
        cluster = ["--storage", url, "--engine", "ray", "--address", nodes.address]
        process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x", *cluster)
        wait_until(told(tmp_path, 0), process)
        nodes.kill()
        nodes.add()
        wait_until(told(tmp_path, 2), process)
        wait_until(lambda: ray_nodes.processes_in(tmp_path / "o"), process)
        trainings = ray_nodes.processes_in(tmp_path / "o")
        for pid in trainings:
            kill(pid, signal.SIGKILL)
        kill(process.pid, signal.SIGKILL)
        process.wait()
        assert trainings
        code, text = run(tmp_path, "--resume", folder(tmp_path), *cluster)
        assert code == 0, text
        assert not ray_nodes.processes_in(tmp_path / "o")
    assert outcome(folder(tmp_path)) == reference


def test_the_same_trials_as_in_sqlite_killed_once_and_resumed(server, reference, tmp_path):
    url = server.url("same")
    write(tmp_path, search_data())
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x", "--storage", url)
    wait_until(told(tmp_path, 2), process)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    assert nobody_is_left(tmp_path, 10)
    output(tmp_path)
    code, text = run(tmp_path, "--resume", folder(tmp_path))
    assert code == 2, text
    assert text.count("\n") == 1
    assert "the password of" in text and "give --storage again" in text
    code, text = run(tmp_path, "--resume", folder(tmp_path), "--storage", url)
    assert code == 0, text
    assert outcome(folder(tmp_path)) == reference
    assert not list(tmp_path.rglob("study.db"))
    # The password is nowhere.
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    secret = server.password.encode()
    assert [path for path in files if secret in path.read_bytes()] == []
    assert server.password not in text


def test_a_server_that_goes_away_is_one_line_and_the_search_goes_on_when_it_is_back(
    server, reference, tmp_path
):
    url = server.url("away")
    write(tmp_path, search_data())
    process = start(tmp_path, "search.yaml", "--reproducible", "--name", "x", "--storage", url)
    wait_until(told(tmp_path, 2), process)
    server.stop()
    try:
        code, text = finish(process, tmp_path)
        assert code in (1, 2), text
        assert "Traceback" not in text, text
        last = text.rstrip().splitlines()[-1]
        assert last.startswith("gallop: storage postgresql+psycopg://tester:***@"), text
        assert server.password not in text
        assert nobody_is_left(tmp_path, 1)
        code, text = run(tmp_path, "--resume", folder(tmp_path), "--storage", url)
        assert code in (1, 2), text
        assert "Traceback" not in text and server.password not in text
        assert "cannot be used" in text.rstrip().splitlines()[-1]
    finally:
        server.start()
    code, text = run(tmp_path, "--resume", folder(tmp_path), "--storage", url)
    assert code == 0, text
    assert outcome(folder(tmp_path)) == reference


def test_a_wrong_password_is_one_line_without_it(server, tmp_path):
    write(tmp_path, one_round(2))
    url = server.url("wrong", password="not-the-one")
    code, text = run(tmp_path, "search.yaml", "--name", "x", "--storage", url, "--quiet")
    assert code in (1, 2), text
    assert len(text.splitlines()) == 1 and "password authentication failed" in text
    assert "not-the-one" not in text and server.password not in text
    assert not (tmp_path / "o").exists()


def test_a_study_of_another_task_under_the_same_name_is_refused(server, tmp_path):
    common = ("--storage", server.url("names"), "--study-name", "mine", "--quiet")
    write(tmp_path, one_round(1))
    code, text = run(tmp_path, "search.yaml", "--name", "x", *common)
    assert code == 0, text
    before = trials(folder(tmp_path))
    other = {"env": "MountainCarContinuous-v0"}
    write(tmp_path, one_round(1, experiment=other), "other.yaml")
    code, text = run(tmp_path, "other.yaml", "--name", "y", *common)
    assert code in (1, 2), text
    assert len(text.splitlines()) == 1
    assert "'mine'" in text and "Pendulum-v1" in text and "--study-name" in text
    assert server.password not in text
    assert not list(tmp_path.glob("o/plots/*/y"))
    assert trials(folder(tmp_path)) == before
