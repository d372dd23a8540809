"""Consoles that cannot encode every character get ASCII."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gallop.plain_output import plain

RUN = (
    *("run", "--algo", "ppo", "--env", "Pendulum-v1", "--no-preset", "-n", "400", "--films", "no"),
    *("--milestones", "[100]", "--env-kwargs", "{max_episode_steps: 50}", "--name", "añb"),
    *("-params", "n_steps:100", "policy_kwargs.net_arch:[16]"),
)


def gallop(folder, encoding, *arguments):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    command = [sys.executable, "-m", "gallop", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("encoding", "minus"),
    [
        ("cp1252", " - "),
        pytest.param("ascii", " - ", marks=pytest.mark.slow),
        pytest.param("utf-8", " − ", marks=pytest.mark.slow),
    ],
)
def test_a_run_prints_only_what_the_console_can_encode(encoding, minus, tmp_path):
    done = gallop(tmp_path, encoding, *RUN)
    assert (done.returncode, done.stderr) == (0, b"")
    printed = done.stdout.decode(encoding)
    assert minus in printed and "Returns of 10 deterministic episodes" in printed
    name = "anb" if encoding == "ascii" else "añb"
    assert f"gallop watch results/PPO_Pendulum-v1/{name}" in printed
    listed = gallop(tmp_path, encoding, "list")
    assert listed.returncode == 0 and name in listed.stdout.decode(encoding)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["evaluate", "→…±.zip"]])
def test_help_and_errors_are_printed_in_ascii(arguments, tmp_path):
    done = gallop(tmp_path, "ascii", *arguments)
    printed = (done.stdout + done.stderr).decode("ascii")
    assert printed and "Traceback" not in printed
    assert ("->..+/-.zip" in printed) == (arguments[0] == "evaluate")


def test_a_custom_error_handler_is_left_alone(tmp_path):
    done = gallop(tmp_path, "ascii:replace", "presets")
    assert done.returncode == 0 and b"????????" in done.stdout


def test_plain_characters_resemble_the_originals():
    assert plain("─┃⠋é−ﬁ日") == "-|*e-fi?"
