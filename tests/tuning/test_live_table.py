"""What a person sees of a search under way, on a terminal."""

from __future__ import annotations

import io

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from gallop.report.display import Display
from gallop.tuning.coordinator import Look, Open
from gallop.tuning.live_table import LiveTable


@pytest.fixture
def shown():
    """What is on the screen after a look at a round of 6 trials."""
    display, screen = Display(), io.StringIO()
    display.console = Console(file=screen, force_terminal=True, width=110, color_system=None)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def ended(state, value, note=""):
        trial = study.ask()
        trial.suggest_float("gamma", 0.9, 1.0)
        if note:
            trial.set_user_attr("first_trial", note)
        if state == TrialState.PRUNED:
            trial.report(value, 1)
        study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)

    ended(TrialState.COMPLETE, 1000.0, "SB3's defaults, moved into the space: gamma 0.99 → 0.995")
    ended(TrialState.COMPLETE, 1500.0)
    ended(TrialState.PRUNED, 9000.0)
    ended(TrialState.FAIL, None)
    trial = study.ask()
    values = {"gamma": trial.suggest_float("gamma", 0.9, 1.0)}
    look = Look(study.trials[:4], {4: Open(trial, values, [], "")}, {4: 250})
    table = LiveTable(display)
    with table.shown():
        table.look(look, "SAC on Ant-v5, round 1", 6, 1000)
        lines = Console(width=110, color_system=None, record=True, file=io.StringIO())
        lines.print(table._live.renderable)
    return [line.strip() for line in lines.export_text().splitlines()]


def test_the_best_trials_come_first_and_none_that_was_stopped_early(shown):
    rows = [line.split()[:3] for line in shown[3:6]]
    assert rows == [["1", "1,500", "finished"], ["0", "1,000", "SB3's"], ["4", "training", "25"]]
    assert "SB3's defaults" in shown[4] and "moved" not in shown[4]
    assert not any("9,000" in line for line in shown)


def test_it_counts_what_became_of_the_trials(shown):
    assert shown[0] == "SAC on Ant-v5, round 1"
    assert shown[-1].startswith("4 of 6 trials, 1 stopped early, 1 failed")
