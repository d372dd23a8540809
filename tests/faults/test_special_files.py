"""Each file of a finished run is replaced by a pipe or by garbage: no command blocks or ends
in a traceback."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.report.display import Display
from gallop.runs import workflow

SECONDS = 60
COMMANDS = [
    ["list", "-f", "RESULTS"],
    ["evaluate", "RUN", "--episodes", "1"],
    ["evaluate", "-f", "RESULTS", "--episodes", "1"],
    ["baseline", "RUN", "--episodes", "1"],
    ["figures", "RUN"],
    ["report", "RUN"],
    ["verify", "RUN"],
    ["export", "RUN", "--hub", "HUB"],
    ["run", "--resume", "RUN", "--quiet"],
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    results = tmp_path_factory.mktemp("finished")
    return workflow.run(tiny("ppo"), results, "a", Display(quiet=True)).path


class Waited(BaseException):
    """A command did not end in time."""


def ended(arguments):
    """Return the exit code of a command, which must end in time."""

    def give_up(number, frame):
        raise Waited(f"{arguments} waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        return main(arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="has neither pipes in folders nor alarms")
@pytest.mark.parametrize("kind", ["pipe", "garbage"])
def test_no_command_blocks_or_ends_in_a_traceback(finished, kind, tmp_path, capsys):
    names = [p.relative_to(finished) for p in sorted(finished.rglob("*")) if p.is_file()]
    assert len(names) > 15
    for number, name in enumerate(names):
        results = tmp_path / str(number)
        run = results / finished.parent.name / finished.name
        shutil.copytree(finished, run)
        (run / name).unlink()
        if kind == "pipe":
            os.mkfifo(run / name)
        else:
            (run / name).write_bytes(b"[[{" + bytes(range(256)))
        places = {"RUN": str(run), "RESULTS": str(results), "HUB": str(results / "hub")}
        for command in COMMANDS:
            code = ended([places.get(part, part) for part in command])
            said = capsys.readouterr().err
            assert code in (0, 1, 2), (name, command)
            assert len(said) < 2_000, (name, command)
            assert command[0] != "list" or code == 0, (name, command)
        shutil.rmtree(results)
