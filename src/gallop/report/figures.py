"""The figures of a run. Each states what its band shows, and the number of episodes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gallop.errors import counted
from gallop.evaluation.statistics import SeedCurve, finite
from gallop.run_folder.manifest import write_result
from gallop.run_folder.numbers import Evaluations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TRAINED, BASELINE, INK = "#1f6f8b", "#c8553d", "#333333"


def learning_curve(title: str, evaluations: Evaluations, note: str = "") -> Figure:
    """Plot mean ± standard deviation of the evaluation return against timesteps.

    Like all figures, it shows the finite returns, and states how many others there are.

    Args:
        title: of the figure.
        evaluations: during training.
        note: more about these returns, printed below the title.
    """
    figure, axes = _new(title, note, evaluations.results)
    _draw_curve(axes, evaluations)
    axes.legend(loc="best", frameon=False)
    return figure


def comparison(
    title: str, evaluations: Evaluations, baseline: NDArray[np.float64], note: str = ""
) -> Figure:
    """Plot the learning curve together with the random policy's mean and band."""
    figure, axes = _new(title, note, evaluations.results, baseline)
    _draw_curve(axes, evaluations)
    baseline = finite(baseline)
    if not baseline.size:
        axes.legend(loc="best", frameon=False)
        return figure
    mean, std = baseline.mean(), baseline.std()
    axes.axhline(mean, color=BASELINE, linewidth=1.5, linestyle="--")
    axes.axhspan(
        mean - std,
        mean + std,
        color=BASELINE,
        alpha=0.25,
        linewidth=0,
        label=f"random policy: mean ± 1 std of {counted(baseline.size, 'episode')}",
    )
    axes.legend(loc="best", frameon=False)
    return figure


def curves_over_seeds(
    title: str,
    timesteps: NDArray[np.int64],
    returns: NDArray[np.float64],
    seeds: Sequence[int],
    over_seeds: SeedCurve,
) -> Figure:
    """Plot a thin line per training seed, and their interquartile mean with its interval.

    Args:
        title: of the figure.
        timesteps: of all evaluations; shape [k].
        returns: mean return of each evaluation, NaN where a run has none; shape [n_runs, k].
        seeds: the training seeds; shape [n_runs].
        over_seeds: statistics of `returns` over seeds.
    """
    figure, axes = _new(title)
    n = len(seeds)
    for seed, row in zip(seeds, returns, strict=True):
        there = np.isfinite(row)
        (line,) = axes.plot(timesteps[there], row[there], color=INK, linewidth=0.8, alpha=0.45)
        line.set_gid(f"seed-{seed}")
    line.set_label(f"{counted(n, 'run')} (one per training seed)")
    axes.fill_between(
        timesteps, over_seeds.low, over_seeds.high, color=TRAINED, alpha=0.25, linewidth=0,
        label=f"95 % bootstrap interval of the IQM over {counted(n, 'training seed')}",
    )  # fmt: skip
    axes.plot(
        timesteps, over_seeds.iqm, color=TRAINED, linewidth=2.5, marker="o", markersize=4,
        label="interquartile mean (IQM) over training seeds",
    )  # fmt: skip
    _label_curve(axes)
    axes.set_ylabel("mean evaluation return")
    axes.legend(loc="best", frameon=False)
    return figure


def milestone_bars(
    title: str,
    returns: Mapping[int, NDArray[np.float64]],
    timesteps: Mapping[int, int],
    baseline: NDArray[np.float64],
    note: str = "",
) -> Figure:
    """Plot the mean return of the random policy and at each milestone, with a dot per episode."""
    figure, axes = _new(title, note, baseline, *returns.values())
    labels = ["random\npolicy", *(f"{p} %\n{short(timesteps[p])} timesteps" for p in returns)]
    n = baseline.size
    groups = [finite(group) for group in (baseline, *returns.values())]
    colours = [BASELINE, *[TRAINED] * len(returns)]
    means = [float(g.mean()) if g.size else 0.0 for g in groups]
    stds = [float(g.std()) if g.size else 0.0 for g in groups]
    axes.bar(range(len(groups)), means, yerr=stds, capsize=5, color=colours, alpha=0.75, width=0.6)
    tops = [
        max(mean + std, float(group.max(initial=mean)))
        for mean, std, group in zip(means, stds, groups, strict=True)
    ]
    for place, group in enumerate(groups):
        _draw_dots(axes, group, place)
        axes.annotate(
            f"{means[place]:,.0f}" if group.size else "not finite",
            (place, max(tops[place], 0)),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xticks(range(len(groups)), labels)
    axes.set_xlabel(f"bars: mean; whiskers: ± 1 std; dots: {counted(n, 'evaluation episode')}")
    axes.set_ylabel("episode return")
    axes.axhline(0, color=INK, linewidth=0.8)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.08 * (high - low))  # room for the numbers above the bars
    return figure


def trained_vs_random(
    title: str, returns: NDArray[np.float64], baseline: NDArray[np.float64], note: str = ""
) -> Figure:
    """Plot boxes of the returns of the random policy and of a milestone's policy."""
    figure, axes = _new(title, note, returns, baseline)
    returns, baseline = finite(returns), finite(baseline)
    boxes = axes.boxplot(
        [baseline, returns],
        widths=0.5,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": INK},
    )
    for box, colour in zip(boxes["boxes"], (BASELINE, TRAINED), strict=True):
        box.set(facecolor=colour, alpha=0.5)
    _draw_dots(axes, baseline, 1)
    _draw_dots(axes, returns, 2)
    axes.set_xticks(
        [1, 2], [f"random policy\nn = {baseline.size}", f"trained policy\nn = {returns.size}"]
    )
    axes.set_xlabel("boxes: quartiles and median; whiskers: up to 1.5 × IQR; dots: episodes")
    axes.set_ylabel("episode return")
    return figure


def histogram(title: str, returns: NDArray[np.float64], note: str = "") -> Figure:
    """Plot a histogram of the returns of a milestone's policy."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _new(title, note, returns)
    returns = finite(returns)
    axes.hist(
        returns,
        bins=min(10, max(5, returns.size // 2)),
        color=TRAINED,
        alpha=0.75,
        edgecolor="white",
    )
    mean = float(returns.mean()) if returns.size else 0.0
    if returns.size:
        axes.axvline(mean, color=INK, linestyle="--", label=f"mean {mean:,.1f}")
    axes.plot(
        returns,
        np.full(returns.size, 0.06),
        "|",
        color=INK,
        markersize=14,
        label="one episode each",
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("episode return")
    axes.set_ylabel(f"episodes (of {returns.size})")
    axes.legend(loc="best", frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    # Without metadata, the same data give the same file.
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_result(path, buffer.getvalue())


def _new(title: str, note: str = "", *returns: NDArray[np.float64]) -> tuple[Figure, Axes]:
    """Return an empty figure, with notes on these returns below its title."""
    from matplotlib.figure import Figure

    n_left_out = sum(int((~np.isfinite(each)).sum()) for each in returns)
    if n_left_out:
        verb = "is" if n_left_out == 1 else "are"
        left_out = f"{counted(n_left_out, 'return')} {verb} not finite and left out"
        note = f"{left_out}; {note}" if note else left_out
    if note:
        title = f"{title}\n{note}"

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure, axes


def _draw_curve(axes: Axes, evaluations: Evaluations) -> None:
    timesteps, results = evaluations.timesteps, evaluations.results
    there = np.isfinite(results).any(axis=1)
    timesteps, n = timesteps[there], results.shape[1]
    rows = [finite(row) for row in results[there]]
    mean, std = (np.array([f(row) for row in rows]) for f in (np.mean, np.std))
    axes.fill_between(
        timesteps, mean - std, mean + std, color=TRAINED, alpha=0.25, linewidth=0,
        label=f"± 1 std over {counted(n, 'episode')}",
    )  # fmt: skip
    axes.plot(
        timesteps, mean, color=TRAINED, marker="o", markersize=4,
        label=f"mean of {counted(n, 'deterministic episode')} (validation seeds)",
    )  # fmt: skip
    if evaluations.best_timestep is not None:
        best = int(np.flatnonzero(timesteps == evaluations.best_timestep)[0])
        axes.annotate(
            f"best {mean[best]:,.0f}",
            (float(timesteps[best]), float(mean[best])),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
        )
    _label_curve(axes)
    axes.set_ylabel("episode return")


def _label_curve(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.margins(y=0.12)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_xlabel("timesteps")


def _draw_dots(axes: Axes, values: NDArray[np.float64], place: float) -> None:
    spread = np.linspace(-0.12, 0.12, values.size) if values.size > 1 else np.zeros(values.size)
    axes.plot(place + spread, values, "o", color=INK, markersize=3, alpha=0.7)


def short(timesteps: float) -> str:
    """Return a number of timesteps in short form, rounded to 4 digits: 1500000 → 1.5M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if timesteps >= size:
            return f"{timesteps / size:.4g}{unit}"
    return f"{timesteps:g}"


__all__: Sequence[str] = (
    "comparison",
    "curves_over_seeds",
    "histogram",
    "learning_curve",
    "milestone_bars",
    "save",
    "trained_vs_random",
)
