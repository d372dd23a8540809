"""Gallop's style for Optuna's figures: size, colours and readable ticks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gallop.report.figures import INK, TRAINED, short
from gallop.tuning.study_summary import finished_trials

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


WIDTH = 10.0  # inches, 1200 pixels


def sentence(title: str, text: str) -> Figure:
    """Return a figure with a sentence that says why there is no plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 2.4))
    lay_out(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(shorten(title, 105), fontsize=12, color=INK, loc="left")
    axes.text(0, 0.6, textwrap.fill(text, 95), fontsize=11, color=INK, va="center")
    return figure


class SearchedParameter:
    """The values of one parameter in the finished trials."""

    def __init__(self, study: optuna.Study, name: str) -> None:
        """Collect the parameter's values."""
        finished = finished_trials(study)
        having = [trial for trial in finished if name in trial.params]
        distribution = having[0].distributions[name]
        values = [trial.params[name] for trial in having]
        choices = getattr(distribution, "choices", ())
        self.choices = [str(choice) for choice in choices if choice in values]
        self.low: float = 0.0 if choices else min(values)
        self.high: float = 0.0 if choices else max(values)
        self.log = bool(getattr(distribution, "log", False))
        self.whole = all(isinstance(value, int) for value in values)
        self.everywhere = len(having) == len(finished)

    def ticks(self, most: int) -> list[float]:
        """Return at most this many round numbers between the smallest and the largest value."""
        from matplotlib.ticker import MaxNLocator

        if self.low == self.high:
            return [self.low]
        if self.log:
            return _log_ticks(self.low, self.high, most)
        places = MaxNLocator(most - 1, integer=self.whole).tick_values(self.low, self.high)
        return [float(place) for place in places if self.low <= place <= self.high]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8)):
        # Parsed from text, since 10.0**-5 differs from 1e-5.
        places = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
        inside = [place for place in places if low <= place <= high]
        if len(inside) >= 2:
            return inside[:: math.ceil(len(inside) / most)]
    return [low, high]


def restyle(axes: Axes, title: str, height: float) -> Figure:
    """Apply Gallop's style to the figure of Optuna's axes, and return it."""
    from matplotlib.figure import Figure

    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.set_size_inches(WIDTH, height)
    lay_out(figure)
    plain(axes)
    axes.set_title("")
    axes.set_title(shorten(title, 105), fontsize=12, color=INK, loc="left", pad=12)
    return figure


def lay_out(figure: Figure) -> None:
    """Use the constrained layout with a small margin."""
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)


def plain(axes: Axes) -> None:
    """Give axes a white background, two spines and no grid."""
    axes.set_facecolor("white")
    axes.spines[["left", "bottom"]].set(color=INK, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=10)


def slice_ticks(axes: Axes, parameter: SearchedParameter) -> None:
    """Set a few ticks along a parameter, or one per choice that was used."""
    axes.grid(axis="y", alpha=0.3, color=INK)
    if not parameter.choices:
        _set_ticks(axes.xaxis, parameter.ticks(most=3))
        return
    labels = [shorten(choice, 16) for choice in parameter.choices]
    slanted = sum(map(len, labels)) > 20
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xticks(
        range(len(labels)),
        labels,
        rotation=25 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )


def parallel_ticks(scale: Axes, parameter: SearchedParameter) -> None:
    """Set a few ticks of one axis, with white boxes that keep their labels readable."""
    scale.spines["right"].set(color=INK, linewidth=0.8)
    scale.tick_params(colors=INK, labelsize=8)
    if parameter.choices:
        labels = [shorten(label.get_text(), 14) for label in scale.get_yticklabels()]
        places = list(scale.get_yticks())
    else:
        if parameter.log and parameter.everywhere and parameter.low == parameter.high:
            scale.set_ylim(parameter.low / 2, parameter.low * 2)  # Optuna's line is in the middle
        places = parameter.ticks(most=6)
        labels = [_number(place) for place in places]
        if not parameter.everywhere and parameter.log:
            places = [math.log10(place) for place in places]
    if not parameter.everywhere:
        # Optuna plots trials without this parameter at the lower end, labelled "None".
        places, labels = [scale.get_ylim()[0], *places], ["not used", *labels]
        if parameter.choices:
            del places[1], labels[1]
    _set_ticks(scale.yaxis, places, labels)
    for label in scale.get_yticklabels():
        label.set_bbox({"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1})


def _set_ticks(axis: Axis, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Set exactly these ticks, without changing the limits."""
    limits = axis.get_view_interval()
    labels = [_number(place) for place in places] if labels is None else labels
    axis.set_ticks(places, labels=labels)
    axis.set_ticks([], minor=True)
    axis.set_view_interval(*limits, ignore=True)


def label_places(axes: Axes, names: Sequence[str]) -> None:
    """Label the axes of the parallel coordinates."""
    slanted = len(names) > 5
    axes.set_xticks(
        range(len(names)),
        [shorten(name, 24) for name in names],
        rotation=20 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )


def best_on_top(lines: LineCollection) -> None:
    """Plot the best 10 % last and thicker, so that many other trials do not hide them."""
    returns, segments = np.asarray(lines.get_array(), dtype=float), lines.get_segments()
    order = np.argsort(returns, kind="stable")
    best = returns[order] >= max(np.quantile(returns, 0.9), np.nextafter(returns.min(), np.inf))
    lines.set_segments([segments[place] for place in order])
    lines.set_array(returns[order])
    if returns.min() == returns.max():
        lines.set_clim(returns[0] - 1, returns[0] + 1)  # else the palest colour
    faint = min(0.55, max(0.15, 30 / returns.size))
    lines.set(
        cmap=pale_to_dark(), linewidth=np.where(best, 2.0, 1.0), alpha=np.where(best, 1, faint)
    )


def trial_bar(figure: Figure, panels: list[Axes], rows: int) -> None:
    """Add a colour bar for all panels, on which later trials are darker."""
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(panels[0].collections[0], ax=panels, pad=0.02, aspect=25 * rows)
    bar.set_label("trial", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.locator = MaxNLocator(5, integer=True)
    bar.update_ticks()


def pale_to_dark() -> Colormap:
    """Return a colour map from pale to dark, for later or better trials."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gallop", ["#a9bcc5", TRAINED, "#0b2a36"])


def shorten(text: str, n: int) -> str:
    """Return the text in at most n characters, its end replaced by "…"."""
    return text if len(text) <= n else f"{text[: n - 1]}…"


def _number(value: float) -> str:
    """300000 → 300k, 0.0003 → 3e-4, 0.985 → 0.985."""
    if abs(value) >= 1000:
        return ("-" if value < 0 else "") + short(abs(value))
    if 0 < abs(value) < 0.001:
        return np.format_float_scientific(value, precision=2, trim="-", exp_digits=1)
    return f"{value:.4g}"
