"""Four figures of a study as PNG: history, importances, parallel coordinates and slices.

Optuna plots them; this module gives them Gallop's labels and style, readable ticks and a suitable
size. Returns are maximised: higher is better.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gallop.errors import counted
from gallop.report.figures import BASELINE, INK, TRAINED, save
from gallop.tuning.study_axes import (
    WIDTH,
    SearchedParameter,
    best_on_top,
    label_places,
    lay_out,
    pale_to_dark,
    parallel_ticks,
    plain,
    restyle,
    sentence,
    shorten,
    slice_ticks,
    trial_bar,
)
from gallop.tuning.study_summary import (
    NO_IMPORTANCES,
    NOTHING_YET,
    counts,
    finished_trials,
    importances,
    parameter_names,
    quiet,
    why_nothing,
)

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure


_MOST_AXES = 8  # in parallel.png; more would leave no room for tick labels
_COLUMNS = 4  # in slice.png


def draw(study: optuna.Study, folder: Path, title: str | None = None) -> list[Path]:
    """Write history.png, importances.png, parallel.png and slice.png; return their paths.

    All four are written for every study with one objective: where something cannot be plotted, for
    example without finished trials, the figure says so. The same study gives the same files.

    Args:
        study: the study.
        folder: where to write.
        title: of the figures; default: the study's name.

    Raises:
        OSError: if the folder cannot be written.
    """
    title = study.study_name if title is None else title
    drawings: dict[str, Callable[[optuna.Study, str], Figure]] = {
        "history": _history,
        "importances": _importances,
        "parallel": _parallel,
        "slice": _slice,
    }
    paths = []
    for name, drawing in drawings.items():
        path = folder / f"{name}.png"
        with _drawing():
            save(drawing(study, title), path)
        paths.append(path)
    return paths


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Let Optuna use pyplot without a display, and restore pyplot's state."""
    import matplotlib
    from matplotlib import pyplot

    backend = matplotlib.get_backend(auto_select=False)
    others = set(pyplot.get_fignums())
    pyplot.switch_backend("agg")
    try:
        # A "$" in a name does not start a formula.
        with quiet(), matplotlib.rc_context({"text.parse_math": False}):
            yield
    finally:
        for number in set(pyplot.get_fignums()) - others:
            pyplot.close(number)
        if backend is not None:
            pyplot.switch_backend(backend)


# --- the figures ---


def _history(study: optuna.Study, title: str) -> Figure:
    from matplotlib.ticker import MaxNLocator
    from optuna.visualization.matplotlib import plot_optimization_history

    finished = finished_trials(study)
    if not finished:
        return sentence(f"{title}: returns", NOTHING_YET)
    axes = plot_optimization_history(study, target_name="return")
    figure = restyle(axes, f"{title}: returns", height=5)
    axes.grid(axis="y", alpha=0.3, color=INK)
    dots, best = axes.collections[0], axes.lines[0]
    dots.set(color=TRAINED, sizes=[24 if len(finished) <= 200 else 10])
    best.set(color=BASELINE, alpha=1, drawstyle="steps-post")
    # There is no best trial before the first finished one.
    heights = np.asarray(best.get_ydata(), dtype=float)
    best.set_ydata(np.where(np.isfinite(heights), heights, np.nan))
    axes.legend(
        [dots, best], ["return of a trial", "best so far"], loc="lower right",
        bbox_to_anchor=(1, 1), ncols=2, frameon=False,
    )  # fmt: skip
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(-0.5, len(heights) - 0.5)
    axes.set_xlabel(f"trial ({counts(study)})")
    return figure


def _importances(study: optuna.Study, title: str) -> Figure:
    from matplotlib.ticker import MaxNLocator
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization.matplotlib import plot_param_importances

    title = f"{title}: importance of the hyper-parameters"
    n_finished, shares = len(finished_trials(study)), importances(study)
    if not shares:
        return sentence(title, why_nothing(study) or NO_IMPORTANCES)
    axes = plot_param_importances(
        study,
        evaluator=PedAnovaImportanceEvaluator(),
        params=parameter_names(study),
        target_name="return",
    )
    figure = restyle(axes, title, height=1.8 + 0.38 * len(shares))
    axes.legend().remove()
    for bar in axes.patches:
        bar.set(facecolor=TRAINED, alpha=0.75)
    for text in axes.texts:
        text.set(text=f" {text.get_text()}", color=INK)
    axes.set_yticks(range(len(shares)), [shorten(name, 40) for name in reversed(shares)])
    axes.set_ylim(-0.7, len(shares) - 0.3)
    axes.set_xlim(0, 1.12 * max(shares.values()))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylabel("")
    axes.set_xlabel(
        "share in distinguishing the best 10 % of "
        f"{counted(n_finished, 'finished trial')} (PED-ANOVA)"
    )
    return figure


def _parallel(study: optuna.Study, title: str) -> Figure:
    from matplotlib.collections import LineCollection
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    title = f"{title}: hyper-parameters and return of every finished trial"
    nothing = why_nothing(study)
    if nothing is not None:
        return sentence(title, nothing)
    names, everything = _most_important(study), parameter_names(study)
    if len(names) < len(everything):
        title += f" ({len(names)} of {len(everything)} hyper-parameters)"
    axes = plot_parallel_coordinate(study, params=names, target_name="return")
    figure = restyle(axes, title, height=6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=8)
    lines = axes.collections[0]
    assert isinstance(lines, LineCollection) and lines.colorbar is not None
    lines.colorbar.remove()  # the leftmost axis shows the same
    place = axes.get_subplotspec()
    assert place is not None
    best_on_top(lines)
    label_places(axes, ["return", *names])
    for name, scale in zip(names, figure.axes[1:], strict=True):
        scale.set_subplotspec(place)  # the colour bar had narrowed it
        scale.spines[["top", "left", "bottom"]].set_visible(False)
        parallel_ticks(scale, SearchedParameter(study, name))
    return figure


def _slice(study: optuna.Study, title: str) -> Figure:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from optuna.visualization.matplotlib import plot_slice

    title = f"{title}: return against each hyper-parameter"
    nothing = why_nothing(study)
    if nothing is not None:
        return sentence(title, nothing)
    names, finished = parameter_names(study), finished_trials(study)
    drawn = plot_slice(study, params=names, target_name="return")
    panels = list(drawn.flat) if isinstance(drawn, np.ndarray) else [drawn]
    figure = panels[0].get_figure()
    assert isinstance(figure, Figure)
    # Optuna's colour bar applies to the last panel only; each has its own scale.
    norm, colours = Normalize(finished[0].number, max(finished[-1].number, 1)), pale_to_dark()
    bar = panels[-1].collections[0].colorbar
    assert bar is not None
    bar.remove()
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure.set_size_inches(WIDTH, 1.2 + (3.0 if rows > 1 else 4.2) * rows)
    grid = figure.add_gridspec(rows, columns)
    for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
        panel.set_subplotspec(grid[place // columns, place % columns])
        panel.collections[0].set(cmap=colours, norm=norm, edgecolor=INK, linewidth=0.4)
        plain(panel)
        slice_ticks(panel, SearchedParameter(study, name))
        panel.set_xlabel(shorten(name, 28))
        panel.set_ylabel("return" if place % columns == 0 else "")
        panel.tick_params(axis="y", labelleft=place % columns == 0)
        panel.ticklabel_format(axis="y", useOffset=False)
    lay_out(figure)
    figure.suptitle(shorten(title, 105), fontsize=12, color=INK, x=0.01, ha="left")
    if len(panels) == 1:
        panels[0].set_title("")
    trial_bar(figure, panels, rows)
    return figure


def _most_important(study: optuna.Study) -> list[str]:
    everything = parameter_names(study)
    ranked = [*importances(study)] or everything
    return sorted(ranked[:_MOST_AXES])
