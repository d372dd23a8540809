"""The figures of an audit: contacts over time, pitch, and the return on changed simulators."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gallop.evaluation.audit.audit import Audit, Audited
from gallop.evaluation.audit.contact import (
    bodies_on_floor,
    in_contact,
    intervals,
    label,
    normal_forces,
)
from gallop.evaluation.audit.posture import pitch
from gallop.report import figures
from gallop.report.figures import BASELINE, INK, TRAINED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAIT, PITCH, SENSITIVITY = "gait.png", "pitch.png", "sensitivity.png"
GAIT_SECONDS = 5.0
"""Of the episode, that the gait diagram shows."""


def draw(found: Audit, folder: Path) -> list[Path]:
    """Draw the figures of the filmed episode, and of the sensitivity; return their paths."""
    drawn = {GAIT: gait_diagram(found, found.filmed), PITCH: pitch_trace(found, found.filmed)}
    if found.changes:
        drawn[SENSITIVITY] = sensitivity_plot(found)
    for name, figure in drawn.items():
        figures.save(figure, folder / name)
    return [folder / name for name in drawn]


def gait_diagram(found: Audit, audited: Audited) -> Figure:
    """A bar where a body touches the floor, one row per body, feet at the bottom."""
    from matplotlib.figure import Figure

    trajectory, parts = audited.trajectory, found.parts
    bodies = bodies_on_floor(trajectory, parts)
    feet = [foot.body for foot in parts.feet]
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(bodies)), layout="constrained")
    axes = figure.subplots()
    seconds = trajectory.n * trajectory.dt
    start = max(0.0, (seconds - GAIT_SECONDS) / 2)
    for row, body in enumerate(bodies):
        touching = in_contact(normal_forces(trajectory, body), parts)
        bars = [(a, b - a) for a, b in intervals(touching, trajectory.dt)]
        axes.broken_barh(bars, (row - 0.35, 0.7), color=TRAINED if body in feet else BASELINE)
    axes.set_yticks(range(len(bodies)), [label(parts, body) for body in bodies])
    axes.set_ylim(-0.6, len(bodies) - 0.4)
    axes.set_xlim(start, min(seconds, start + GAIT_SECONDS))
    axes.set_xlabel("seconds")
    axes.set_title(f"On the floor, seed {audited.seed}: a bar where a body carries load")
    return figure


def pitch_trace(found: Audit, audited: Audited) -> Figure:
    """The torso's pitch in degrees, unwrapped, with somersaults shaded."""
    from matplotlib.figure import Figure

    trajectory = audited.trajectory
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    angles = np.degrees(pitch(trajectory, found.parts))
    axes.plot(trajectory.times, angles, color=TRAINED, linewidth=1)
    for level in (-90, 90):
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=":")
    for start, end in audited.measures.posture.somersaults:
        axes.axvspan(start, end, color=BASELINE, alpha=0.25, linewidth=0)
    axes.set_xlim(0, trajectory.times[-1])
    axes.set_xlabel("seconds")
    axes.set_ylabel("pitch, degrees (front down: positive)")
    axes.set_title(f"Pitch, seed {audited.seed}; dotted: on the side of its head or its rear")
    return figure


def sensitivity_plot(found: Audit) -> Figure:
    """The mean return on each changed simulator, as a share of the usual one."""
    from matplotlib.figure import Figure

    usual = _mean([each.return_ for each in found.episodes])
    figure = Figure(figsize=(9, 1 + 0.35 * len(found.changes)), layout="constrained")
    axes = figure.subplots()
    means = [_mean(each.returns) for each in found.changes]
    rows = range(len(found.changes))
    axes.barh(rows, means, color=TRAINED)  # nothing where a mean is NaN
    axes.axvline(usual, color=BASELINE, linestyle="--", label=f"unchanged: {usual:,.0f}")
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, mean in zip(rows, means, strict=True):
        if math.isnan(mean):
            axes.text(0, row, " not measured", va="center", color=BASELINE)
    axes.set_yticks(rows, [each.name for each in found.changes])
    axes.invert_yaxis()
    axes.set_xlabel(f"mean return of {len(found.episodes)} episodes")
    axes.legend(loc="best", frameon=False)
    axes.set_title("The same policy on changed simulators")
    return figure


def _mean(returns: Iterable[float]) -> float:
    """Mean of the finite returns; NaN without any."""
    finite = [value for value in returns if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
