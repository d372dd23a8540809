"""Names from files and folders are printed as text, without escape sequences and markup."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny
from rich.console import Console

from gallop.commands.cli import main
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import compare, summarise
from gallop.policies.normalizer_file import read_normalizer
from gallop.policies.safe_archive import PolicyFileError
from gallop.report.display import Display, Pair, Row
from gallop.run_folder.directory import RunDirectory
from gallop.runs.run_log import logging_to
from gallop.tuning.live_table import LiveTable
from gallop.tuning.study_page import PageTable

EVIL = "[red]a\x1b[31m[link=x]\x07\u202e"
SHOWN = r"[red]a\x1b[31m[link=x]\x07\u202e"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such names there")


def display_on_a_terminal():
    display = Display()
    display.console = Console(
        file=io.StringIO(), force_terminal=True, color_system=None, width=250, highlight=False
    )
    return display


def printed(display):
    text = display.console.file.getvalue()
    for obeyed in ("\x1b[31m", "\x1b]8", "\x07", "\u202e"):
        assert obeyed not in text
    return text


def test_a_runs_name_and_its_damage_are_listed_as_text(tmp_path, capsys):
    folder = RunDirectory(tmp_path / f"SAC_{EVIL}" / EVIL)
    folder.create(tiny("sac"))
    (folder.path / "provenance.json").write_text("[]")
    assert main(["list", "-f", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert SHOWN[:12] in out
    assert not set(out) & {"\x1b", "\x07", "\u202e"}


def test_an_error_names_a_file_as_text(tmp_path, capsys):
    assert main(["evaluate", f"{tmp_path}/{EVIL}.zip"]) == 2
    err = capsys.readouterr().err
    assert SHOWN in err
    assert not set(err) & {"\x1b", "\x07", "\u202e"}


def test_tables_show_names_as_text():
    display = display_on_a_terminal()
    returns = np.arange(5.0)
    row = Row(EVIL, 3, summarise(returns, interval_generator()))
    pair = Pair(EVIL, compare(returns, returns + 1, interval_generator()))
    display.results(EVIL, [row], [pair])
    display.say(f"{EVIL}\nsecond line")
    with display.episodes(EVIL, 2, 10) as on_timestep:
        on_timestep()
    logging.getLogger("gallop").handlers[-1].console = display.console
    logging.getLogger("gallop").warning("%s is damaged", EVIL)
    text = printed(display)
    assert text.count(SHOWN) >= 5
    assert "second line" in text


@pytest.mark.parametrize("kind", ["episodes", "training"])
def test_output_of_a_task_stays_above_the_progress_bar_and_moves_no_cursor(kind):
    display = display_on_a_terminal()
    with display.episodes("a", 2, 10) if kind == "episodes" else display.bar(10, 0):
        print("a task \x1b[2J\x1b]0;title\x07 prints")
        print("an error \x1b[2J", file=sys.stderr)
    text = printed(display)
    assert "a task 0;title prints\n" in text and "an error \n" in text
    assert "\x1b[2J" not in text and "\x1b]" not in text


def test_a_searchs_tables_show_names_as_text():
    display = display_on_a_terminal()
    table = LiveTable(display)
    table.tables([PageTable(EVIL, (EVIL, "b"), ((EVIL, "1"),), EVIL)])
    trial = SimpleNamespace(number=1, value=2.0, params={EVIL: EVIL})
    table.best(trial)
    assert printed(display).count(SHOWN) >= 6


def test_run_log_holds_names_as_text(tmp_path):
    with logging_to(tmp_path / "run.log"):
        logging.getLogger("gallop.test").info("%s\nis damaged", EVIL)
    text = (tmp_path / "run.log").read_text()
    assert f"{SHOWN}\nis damaged" in text


def test_a_message_made_from_a_file_is_short(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    settings = {"algo": "sac", "env": "Pendulum-v1", "x" * 80_000: 1, "total_timesteps": 100}
    (run / "experiment.yaml").write_text(json.dumps(settings))
    assert main(["run", "--resume", str(run)]) == 2
    assert len(capsys.readouterr().err) < 1_200


# --- statistics that share one array -------------------------------------------------------------


@pytest.mark.parametrize("shared", ["mean", "var"])
def test_statistics_that_share_one_array_do_not_copy_it(shared, tmp_path):
    from stable_baselines3.common.running_mean_std import RunningMeanStd
    from stable_baselines3.common.vec_env import VecNormalize

    one, parts = np.ones(1_000_000, dtype=np.bool_), {}
    for number in range(30):  # 240 MB in float64, and a file of one
        parts[f"k{number}"] = part = RunningMeanStd(shape=(1,))
        setattr(part, shared, one)
    whole = VecNormalize.__new__(VecNormalize)
    settings = {"obs_rms": parts, "norm_obs": True, "clip_obs": 10.0, "epsilon": 1e-8}
    dropped = dict.fromkeys(("venv", "class_attributes", "returns"))  # when it is pickled
    vars(whole).update(settings, **dropped)
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(whole))
    with pytest.raises(PolicyFileError, match="larger than the file"):
        read_normalizer(tmp_path / "vecnormalize.pkl")
