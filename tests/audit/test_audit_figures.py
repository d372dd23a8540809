"""The figures of an audit show what was measured, and what was not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from gallop.evaluation.audit.sensitivity import Change
from gallop.report.audit_figures import sensitivity_plot


def test_a_change_that_failed_has_no_bar_but_a_word():
    changes = [
        Change("half the physics step", np.array([40.0, 60.0])),
        Change("integrator rk4", np.array([np.nan, np.nan]), "physics diverged"),
        Change("friction −20 %", np.array([70.0, np.nan])),
        Change("mass +20 %", np.array([0.0, 0.0])),
    ]
    episodes = [SimpleNamespace(return_=value) for value in (100.0, 140.0, np.nan)]
    axes = sensitivity_plot(SimpleNamespace(episodes=episodes, changes=changes)).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:1] + widths[2:] == [50.0, 70.0, 0.0] and np.isnan(widths[1])
    assert [(text.get_text().strip(), text.get_position()) for text in axes.texts] == [
        ("not measured", (0, 1))
    ]
    assert "unchanged: 120" in [text.get_text() for text in axes.get_legend().get_texts()]
