"""A study → four PNGs: its history, importances, parallel coordinates and slices.

Optuna draws; here its figures get Gallop's words and look, ticks that can be read and a size that
holds them. Returns are maximised: the higher, the better.
"""

from __future__ import annotations

import contextlib
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gallop.report.figures import BASELINE, INK, TRAINED, save, short

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


NOTHING_YET = "No trial has finished yet, so there is nothing to see."
NO_PARAMETERS = "The finished trials have no parameters to compare."
_FEWEST = 5  # finished trials; of two, PED-ANOVA finds every parameter as important
NO_IMPORTANCES = (
    "Importances cannot be told yet: they take different returns, of at least "
    f"{_FEWEST} finished trials, and parameters that differ between the best and the others."
)

_WIDTH = 10.0  # inches, 1200 pixels
_MOST_AXES = 8  # of parallel.png; more would not leave room for their ticks
_COLUMNS = 4  # of slice.png

# What Optuna and matplotlib say of one trial, of equal values and of rare parameters. Figures of
# them are drawn all the same, or replaced by a sentence that says it.
_EXPECTED_WARNINGS = (
    "Attempting to set identical low and high",
    "The number of trials is too small to compute importances",
    "Target and region quantiles select the same set of trials",
    "Some regimes for parameter",
)


def draw(study: optuna.Study, folder: Path, title: str | None = None) -> list[Path]:
    """Write history.png, importances.png, parallel.png and slice.png; return their paths.

    All four are written for every study of one objective, also for one without finished trials or
    parameters: what cannot be drawn is a sentence. The same study gives the same files. `title` is
    the study's name if there is none.

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


def finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials whose return is known, in order; neither pruned, failed nor infinite."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [t for t in complete if t.value is not None and math.isfinite(t.value)]


def parameter_names(study: optuna.Study) -> list[str]:
    """Of all finished trials, sorted, those that only some of them have included."""
    return sorted({name for trial in finished_trials(study) for name in trial.params})


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each parameter in reaching the best returns; they sum to 1, the greatest first.

    Empty where they cannot be told: with fewer than 5 finished trials, or where no parameter tells
    the best tenth of them from the others (as of equal returns). Of a single parameter it is 1.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    names = parameter_names(study)
    if len(names) < 2:
        return dict.fromkeys(names, 1.0)
    if len(finished_trials(study)) < _FEWEST:
        return {}
    with quiet():
        found = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=names, normalize=False
        )
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's remarks on small studies, and on functions that it calls experimental."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message, UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Let Optuna use pyplot without a screen, and leave no trace of it."""
    import matplotlib
    from matplotlib import pyplot

    backend = matplotlib.get_backend(auto_select=False)
    others = set(pyplot.get_fignums())
    pyplot.switch_backend("agg")
    try:
        # A "$" in a name is a dollar, not mathematics.
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
        return _sentence(f"{title}: returns", NOTHING_YET)
    axes = plot_optimization_history(study, target_name="return")
    figure = _restyle(axes, f"{title}: returns", height=5)
    axes.grid(axis="y", alpha=0.3, color=INK)
    dots, best = axes.collections[0], axes.lines[0]
    dots.set(color=TRAINED, sizes=[24 if len(finished) <= 200 else 10])
    best.set(color=BASELINE, alpha=1, drawstyle="steps-post")
    # Before the first finished trial there is no best one.
    heights = np.asarray(best.get_ydata(), dtype=float)
    best.set_ydata(np.where(np.isfinite(heights), heights, np.nan))
    axes.legend(
        [dots, best], ["return of a trial", "best so far"], loc="lower right",
        bbox_to_anchor=(1, 1), ncols=2, frameon=False,
    )  # fmt: skip
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(-0.5, len(heights) - 0.5)
    axes.set_xlabel(f"trial ({_counts(study)})")
    return figure


def _importances(study: optuna.Study, title: str) -> Figure:
    from matplotlib.ticker import MaxNLocator
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization.matplotlib import plot_param_importances

    title = f"{title}: importance of the parameters"
    n_finished, shares = len(finished_trials(study)), importances(study)
    if not shares:
        return _sentence(title, why_nothing(study) or NO_IMPORTANCES)
    axes = plot_param_importances(
        study,
        evaluator=PedAnovaImportanceEvaluator(),
        params=parameter_names(study),
        target_name="return",
    )
    figure = _restyle(axes, title, height=1.8 + 0.38 * len(shares))
    axes.legend().remove()
    for bar in axes.patches:
        bar.set(facecolor=TRAINED, alpha=0.75)
    for text in axes.texts:
        text.set(text=f" {text.get_text()}", color=INK)
    axes.set_yticks(range(len(shares)), [_shorten(name, 40) for name in reversed(shares)])
    axes.set_ylim(-0.7, len(shares) - 0.3)
    axes.set_xlim(0, 1.12 * max(shares.values()))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylabel("")
    axes.set_xlabel(
        f"share in telling the best tenth of {many(n_finished, 'finished trial')} from the others"
        " (PED-ANOVA)"
    )
    return figure


def _parallel(study: optuna.Study, title: str) -> Figure:
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    title = f"{title}: parameters and return of every finished trial"
    nothing = why_nothing(study)
    if nothing is not None:
        return _sentence(title, nothing)
    names, everything = _most_important(study), parameter_names(study)
    if len(names) < len(everything):
        title += f" ({len(names)} of {len(everything)} parameters)"
    axes = plot_parallel_coordinate(study, params=names, target_name="return")
    figure = _restyle(axes, title, height=6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=8)
    lines: Any = axes.collections[0]
    lines.colorbar.remove()  # the leftmost axis says the same
    place = axes.get_subplotspec()
    assert place is not None
    _best_on_top(lines)
    _label_places(axes, ["return", *names])
    for name, scale in zip(names, figure.axes[1:], strict=True):
        scale.set_subplotspec(place)  # the bar had narrowed it
        scale.spines[["top", "left", "bottom"]].set_visible(False)
        _parallel_ticks(scale, _Parameter(study, name))
    return figure


def _slice(study: optuna.Study, title: str) -> Figure:
    from matplotlib.colors import Normalize
    from optuna.visualization.matplotlib import plot_slice

    title = f"{title}: return over each parameter"
    nothing = why_nothing(study)
    if nothing is not None:
        return _sentence(title, nothing)
    names, finished = parameter_names(study), finished_trials(study)
    drawn: Any = plot_slice(study, params=names, target_name="return")
    panels: list[Any] = list(np.atleast_1d(drawn))
    figure: Figure = panels[0].figure
    # Optuna's bar holds for the last panel only: each has its own colours.
    norm, colours = Normalize(finished[0].number, max(finished[-1].number, 1)), _colours()
    panels[-1].collections[0].colorbar.remove()
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure.set_size_inches(_WIDTH, 1.2 + (3.0 if rows > 1 else 4.2) * rows)
    grid = figure.add_gridspec(rows, columns)
    for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
        panel.set_subplotspec(grid[place // columns, place % columns])
        panel.collections[0].set(cmap=colours, norm=norm, edgecolor=INK, linewidth=0.4)
        _plain(panel)
        _slice_ticks(panel, _Parameter(study, name))
        panel.set_xlabel(_shorten(name, 28))
        panel.set_ylabel("return" if place % columns == 0 else "")
        panel.tick_params(axis="y", labelleft=place % columns == 0)
        panel.ticklabel_format(axis="y", useOffset=False)
    _lay_out(figure)
    figure.suptitle(_shorten(title, 105), fontsize=12, color=INK, x=0.01, ha="left")
    if len(panels) == 1:
        panels[0].set_title("")
    _trial_bar(figure, panels, rows)
    return figure


def _sentence(title: str, sentence: str) -> Figure:
    """A figure of the usual width that says why there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 2.4))
    _lay_out(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(_shorten(title, 105), fontsize=12, color=INK, loc="left")
    axes.text(0, 0.6, textwrap.fill(sentence, 95), fontsize=11, color=INK, va="center")
    return figure


# --- their parts ---


class _Parameter:
    """What the finished trials took of one parameter."""

    def __init__(self, study: optuna.Study, name: str) -> None:
        finished = finished_trials(study)
        having = [trial for trial in finished if name in trial.params]
        distribution: Any = having[0].distributions[name]
        values = [trial.params[name] for trial in having]
        choices = getattr(distribution, "choices", ())
        self.choices = [str(choice) for choice in choices if choice in values]
        self.low: float = 0.0 if choices else min(values)
        self.high: float = 0.0 if choices else max(values)
        self.log = bool(getattr(distribution, "log", False))
        self.whole = all(isinstance(value, int) for value in values)
        self.everywhere = len(having) == len(finished)

    def ticks(self, most: int) -> list[float]:
        """At most so many round numbers between the least and the greatest value."""
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
        # Read from text: 10.0**-5 is not 1e-5.
        places = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
        inside = [place for place in places if low <= place <= high]
        if len(inside) >= 2:
            return inside[:: math.ceil(len(inside) / most)]
    return [low, high]


def why_nothing(study: optuna.Study) -> str | None:
    """Why no parameter can be drawn, in a sentence; None if one can."""
    if not finished_trials(study):
        return NOTHING_YET
    return None if parameter_names(study) else NO_PARAMETERS


def _most_important(study: optuna.Study) -> list[str]:
    everything = parameter_names(study)
    ranked = [*importances(study)] or everything
    return sorted(ranked[:_MOST_AXES])


def _counts(study: optuna.Study) -> str:
    """12 finished, 1 pruned, 2 failed."""
    from optuna.trial import TrialState

    words = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    parts = [f"{len(finished_trials(study))} finished"]
    for word, state in words.items():
        n = len(study.get_trials(deepcopy=False, states=(state,)))
        parts += [f"{n} {word}"] if n else []
    return ", ".join(parts)


def _restyle(axes: Axes, title: str, height: float) -> Figure:
    """Gallop's look for the figure of Optuna's axes."""
    from matplotlib.figure import Figure

    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.set_size_inches(_WIDTH, height)
    _lay_out(figure)
    _plain(axes)
    axes.set_title("")
    axes.set_title(_shorten(title, 105), fontsize=12, color=INK, loc="left", pad=12)
    return figure


def _lay_out(figure: Figure) -> None:
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("white")
    axes.spines[["left", "bottom"]].set(color=INK, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=10)


def _slice_ticks(axes: Axes, parameter: _Parameter) -> None:
    axes.grid(axis="y", alpha=0.3, color=INK)
    if not parameter.choices:
        _set_ticks(axes.xaxis, parameter.ticks(most=3))
        return
    labels = [_shorten(choice, 16) for choice in parameter.choices]
    slanted = sum(map(len, labels)) > 20
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xticks(
        range(len(labels)),
        labels,
        rotation=25 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )


def _parallel_ticks(scale: Axes, parameter: _Parameter) -> None:
    """Few ticks of one axis, on white, so that the lines below do not hide their labels."""
    scale.spines["right"].set(color=INK, linewidth=0.8)
    scale.tick_params(colors=INK, labelsize=8)
    if parameter.choices:
        labels = [_shorten(label.get_text(), 14) for label in scale.get_yticklabels()]
        places = list(scale.get_yticks())
    else:
        if parameter.log and parameter.everywhere and parameter.low == parameter.high:
            scale.set_ylim(parameter.low / 2, parameter.low * 2)  # Optuna's line is in the middle
        places = parameter.ticks(most=6)
        labels = [_number(place) for place in places]
        if not parameter.everywhere and parameter.log:
            places = [math.log10(place) for place in places]
    if not parameter.everywhere:
        # Optuna draws the trials without this parameter at the lower end, and calls it "None".
        places, labels = [scale.get_ylim()[0], *places], ["not used", *labels]
        if parameter.choices:
            del places[1], labels[1]
    _set_ticks(scale.yaxis, places, labels)
    for label in scale.get_yticklabels():
        label.set_bbox({"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1})


def _set_ticks(axis: Axis, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Just these ticks, within the limits as they are."""
    limits = axis.get_view_interval()
    labels = [_number(place) for place in places] if labels is None else labels
    axis.set_ticks(places, labels=labels)
    axis.set_ticks([], minor=True)
    axis.set_view_interval(*limits, ignore=True)


def _label_places(axes: Axes, names: Sequence[str]) -> None:
    slanted = len(names) > 5
    axes.set_xticks(
        range(len(names)),
        [_shorten(name, 24) for name in names],
        rotation=20 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )


def _best_on_top(lines: Any) -> None:
    """Draw the best tenth last and thicker, so that many trials do not bury it."""
    returns, segments = np.asarray(lines.get_array(), dtype=float), lines.get_segments()
    order = np.argsort(returns, kind="stable")
    best = returns[order] >= max(np.quantile(returns, 0.9), np.nextafter(returns.min(), np.inf))
    lines.set_segments([segments[place] for place in order])
    lines.set_array(returns[order])
    if returns.min() == returns.max():
        lines.set_clim(returns[0] - 1, returns[0] + 1)  # else the palest colour
    faint = min(0.55, max(0.15, 30 / returns.size))
    lines.set(cmap=_colours(), linewidth=np.where(best, 2.0, 1.0), alpha=np.where(best, 1, faint))


def _trial_bar(figure: Figure, panels: list[Axes], rows: int) -> None:
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(panels[0].collections[0], ax=panels, pad=0.02, aspect=25 * rows)
    bar.set_label("trial", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.locator = MaxNLocator(5, integer=True)
    bar.update_ticks()


def _colours() -> Colormap:
    """From pale to Gallop's blue, and on to dark: the later, or the better, the darker."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gallop", ["#a9bcc5", TRAINED, "#0b2a36"])


def _shorten(text: str, n: int) -> str:
    return text if len(text) <= n else f"{text[: n - 1]}…"


def _number(value: float) -> str:
    """300000 → 300k, 0.0003 → 3e-4, 0.985 → 0.985."""
    if abs(value) >= 1000:
        return ("-" if value < 0 else "") + short(abs(value))
    if 0 < abs(value) < 0.001:
        return np.format_float_scientific(value, precision=2, trim="-", exp_digits=1)
    return f"{value:.4g}"


def many(n: int, noun: str) -> str:
    """3 episodes, 1 episode."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
