"""Tables of 80 columns: names are shortened, numbers and words never are."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import (
    compare,
    slope_of_last_quarter,
    summarise,
    summarise_seeds,
)
from gallop.experiments.presets import all_presets
from gallop.report.display import Display, Pair, Row
from gallop.run_folder.listing import Listed
from gallop.tuning.coordinator import Look, Open
from gallop.tuning.live_table import LiveTable
from gallop.tuning.study_page import PageTable

LONG = (
    "PPO_warehouse_manipulation_environments-ArmWithManyJoints-v0/second-run-gamma-0.995/best.zip"
)
TASK = "warehouse_manipulation_environments:ArmWithManyJointsAndMovingObstacles-v0"
SCALES = [0.03, 300.0, -162_540.0, -123_456_789.0]


def display_of(width=80, terminal=True):
    display = Display()
    display.console = Console(
        file=io.StringIO(), force_terminal=terminal, color_system=None, width=width, highlight=False
    )
    return display


def lines_of(display, width=80):
    lines = display.console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def returns_of(scale, seed):
    return np.random.default_rng(seed).normal(scale, abs(scale) / 5, 10)


def whole(lines, *texts):
    """Every text is printed somewhere with nothing of a number next to it."""
    text = "\n".join(lines)
    return [t for t in texts if not re.search(rf"(?<![\d.,…]){re.escape(t)}(?!…|[.,]?\d)", text)]


# --- a run, gallop evaluate, gallop baseline -----------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "piped"])
def test_every_number_of_a_comparison_is_printed_whole(scale, terminal):
    returns = [returns_of(scale, seed) for seed in range(3)]
    summaries = [summarise(each, interval_generator()) for each in returns]
    rows = [
        Row(f"{letter}: {LONG}", timestep, summary)
        for letter, timestep, summary in zip("ABC", (0, 1_003_520, 123_456), summaries, strict=True)
    ]
    compared = compare(returns[1], returns[0], interval_generator())
    display = display_of(terminal=terminal)
    display.results(TASK, rows, [Pair("B − A", compared), Pair("100 % − 50 %", compared)])
    lines = lines_of(display)
    digits = 0 if abs(scale) >= 200 else 1
    numbers = [f"{v:,.{digits}f}" for s in summaries for v in (s.mean, s.std, s.iqm)]
    if scale == 0.03 or abs(scale) >= 1000:
        assert whole(lines, *numbers) == []
    assert whole(lines, "0", "1,003,520", "123,456") == []
    assert whole(lines, *(f"{p:.3f}" for p in compared[2:])) == []
    text = "\n".join(lines)
    for heading in ("policy", "timestep", "mean", "std", "IQM", "sign-flip", "Wilcoxon"):
        assert heading in text
    assert text.count("A: PPO_w") >= 1 and "best.zip" in text and "100 % − 50 %" in text
    assert text.count("…") >= 3


def test_names_are_not_shortened_where_there_is_room():
    row = Row(f"A: {LONG}", None, summarise(np.arange(5.0), interval_generator()))
    display = display_of(width=160)
    display.results("title", [row])
    assert LONG in display.console.file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_table_too_wide_goes_on_below_itself(width):
    returns = returns_of(-123_456_789.0, 0)
    summary = summarise(returns, interval_generator())
    display = display_of(width=width)
    display.results("title", [Row(LONG, 4, summary)])
    lines = display.console.file.getvalue().splitlines()
    numbers = (summary.mean, summary.std, summary.iqm, *summary.mean_interval)
    assert whole(lines, *(f"{number:,.0f}" for number in numbers)) == []
    rows = [line for line in lines if line.startswith("PPO_w")]
    assert len(rows) > 1 and all("…" in row for row in rows)


def test_the_seeds_of_a_group_are_printed_whole():
    returns = {seed: (-123_456_789.0 - seed, -5.25) for seed in (0, 4_294_967_295)}
    final = summarise_seeds([value for value, _ in returns.values()], interval_generator())
    display = display_of()
    display.seeds("a group", returns, final)
    text = display.console.file.getvalue()
    assert "4,294" not in text and "4294967295" in text
    assert whole(text.splitlines(), "-123,456,789", "-5.2") == []
    assert "over 2 training seeds" in text


# --- gallop list, gallop presets -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("slope", "words"),
    [
        (2_000.0, "is still rising: +250 in the last quarter of training, or +2,000 per 100k"),
        (-2_000.0, "is falling: -250 in the last quarter of training, or -2,000 per 100k"),
        (0.0, "is neither clearly rising nor falling: "),
    ],
)
def test_the_trend_is_printed_with_the_change_in_the_last_quarter(slope, words, capsys):
    timesteps = np.arange(1, 21) * 2_500  # 50k: the last quarter has 12,500 timesteps
    noise = np.tile([1.0, -2.0, 2.0, -2.0, 1.0], 4)  # without a slope in the last 5
    found = slope_of_last_quarter(timesteps, timesteps * slope / 100_000 + noise)
    Display().slope(found, 20, 50_000)
    lines = capsys.readouterr().out.splitlines()
    assert words in " ".join(lines) and "; 5 evaluations)." in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_runs_are_listed_in_80_columns():
    runs = [
        Listed(Path("x"), name, "crossq", TASK, timestep, 10_000_000, mean_return, status)
        for name, timestep, mean_return, status in [
            ("grid/learning-rate-0.0003-batch-256-seed-17", 9_876_543, -162_540.4, "stopped"),
            ("20261128_123321", 10_000_000, 5_069.0, "finished"),
            ("a", 0, None, "running"),
        ]
    ]
    display = display_of()
    display.runs(runs)
    lines = lines_of(display)
    assert whole(lines, "9,876,543 of 10M", "-162,540", "5,069", "0 of 10M") == []
    for line, run in zip(lines[2:], runs, strict=True):
        assert run.status in line and "CROSSQ" in line and "ware" in line and "-v0" in line
    assert "20261128_123321" in lines[3]  # short enough to be whole


def test_presets_are_listed_in_80_columns():
    display = display_of()
    display.presets(all_presets())
    text = "\n".join(lines_of(display))
    assert all(preset.env in text for preset in all_presets())
    assert "…" not in text


# --- a search ------------------------------------------------------------------------------------

MANY = {f"parameter_with_a_long_name_{i}": 0.000123456 * (i + 1) for i in range(40)}


def trial(number, value, state="COMPLETE", parameters=MANY, **attributes):
    return SimpleNamespace(
        number=number,
        value=value,
        params=parameters,
        user_attrs=attributes,
        state=SimpleNamespace(name=state),
    )


SPACES = [{}, {"gamma": 0.99}, {"net_arch": "[256, 256]", "batch_size": 256} | MANY, MANY]


@pytest.mark.parametrize("space", SPACES, ids=["none", "one", "lists", "forty"])
@pytest.mark.parametrize("value", [-0.35, 1_234.5, -1_234_567_890.0])
def test_the_live_table_shows_trial_and_return_whatever_the_space(space, value):
    display = display_of()
    note = {"first_trial": "SB3's defaults, moved into the space"}
    look = Look(
        finished=[trial(123, value, parameters=space), trial(7, value - 1, **note)],
        open={1024: Open(None, space, [], "")},
        n_timesteps={1024: 500},
    )
    table = LiveTable(display)
    with table.shown():
        table.look(look, f"SAC on {TASK}, round 1", 2_000, 1_000)
        screen = Console(width=80, color_system=None, file=io.StringIO(), force_terminal=True)
        screen.print(table._live.renderable)
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    shown = {line.split()[0]: line for line in lines if re.match(r" *\d+  ", line)}
    best = shown["123"]
    assert best.split()[1] == (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}")
    assert "finished" in best and "SB3's defaults" in shown["7"]
    assert "training 50 %" in shown["1024"]
    for name, number in space.items():  # an item is there whole, or not at all
        if name in best:
            rest = best.split(f"{name} ", 1)[1]
            assert rest.startswith(f"{number:.4g}" if isinstance(number, float) else str(number))
    assert any("trial" in line and "return" in line and "parameters" in line for line in lines)


def test_a_trial_that_has_ended_is_a_line_where_there_is_no_terminal():
    display = display_of(terminal=False)
    table = LiveTable(display)
    table.look(Look([], {}, {}), "title", 4, 100)
    table.look(
        Look([trial(3, 12_345.6), trial(4, None, "FAIL", reason="NaN")], {}, {}), "t", 4, 100
    )
    first, second = display.console.file.getvalue().splitlines()
    assert first.startswith("trial   3 finished  return 12,346")
    assert second.startswith("trial   4 failed    NaN")


@pytest.mark.parametrize("scale", [1, 1_000, 100_000])
def test_the_closing_tables_of_a_search_print_numbers_whole(scale):
    row = (
        "trial 1024",
        f"{4_242 * scale:,}",
        f"{3_545 * scale:,} [{2_345 * scale:,}, {4_345 * scale:,}]",
        f"{-1_234 * scale:+,}",
        f"{+2_111 * scale:+,} [{-1_234 * scale:+,}, {2_345 * scale:+,}]",
    )
    headings = ("settings", "in the search", "retrained", "gain in the search", "gain retrained")
    display = display_of()
    LiveTable(display).tables([PageTable("title", headings, (row, row))])
    lines = lines_of(display)
    text = "\n".join(lines)
    assert all(text.count(cell) >= 2 for cell in row)


# --- bars ----------------------------------------------------------------------------------------


def last_line_of(display):
    return display.console.file.getvalue().splitlines()[-1]


def test_a_bar_never_cuts_a_number(monkeypatch):
    display = display_of()
    with display.bar(10_000_000, 0):
        display.activity("100 % milestone")
        display.tick(9_876_543)
        monkeypatch.setattr(display, "_speed", lambda: "12,345 SPS")
        monkeypatch.setattr(display, "_left", lambda: "12 h 30 min left")
        display.tick(9_876_543)
        display.evaluated(9_876_543, -162_540.4)
        screen = Console(width=80, color_system=None, file=io.StringIO(), force_terminal=True)
        screen.print(display._bar.get_renderable())
    (line,) = screen.file.getvalue().splitlines()
    assert "…" not in line and len(line) <= 80
    for text in ("9,876,543/10M", "12,345 SPS", "12 h 30 min left", "return -162,540"):
        assert text in line


def test_a_bar_of_episodes_shortens_the_name_of_the_policy():
    display = display_of()
    with display.episodes(LONG, 1, 1_000_000) as on_timestep:
        on_timestep()
    text = display.console.file.getvalue()
    assert "1/1M timesteps" in text and "1 episode" in text and "episodes" not in text
    assert max(len(re.sub(r"\x1b\[[\d;?]*\w", "", line)) for line in text.splitlines()) <= 82
