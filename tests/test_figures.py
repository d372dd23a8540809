"""Figures show their data, with axes, units, n and the meaning of the band."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gallop.evaluation.statistics import SeedCurve
from gallop.report import figures
from gallop.run_folder.numbers import Evaluations

EVALUATIONS = Evaluations(
    timesteps=np.array([10_000, 20_000, 30_000]),
    results=np.array([[1.0, 3.0], [10.0, 20.0], [4.0, 8.0]]),
    ep_lengths=np.full((3, 2), 1000),
    seeds=np.array([1, 2]),
)
BASELINE = np.array([-300.0, -200.0, -250.0])


def texts(figure):
    axes = figure.axes[0]
    found = [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
    found += [t.get_text() for t in axes.texts]
    found += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    legend = axes.get_legend()
    return " | ".join(found + ([t.get_text() for t in legend.get_texts()] if legend else []))


def test_the_learning_curve_is_the_mean_with_a_band_of_one_std():
    figure = figures.learning_curve("SAC on Pendulum-v1", EVALUATIONS)
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), EVALUATIONS.timesteps)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2, 15, 6])
    band = axes.collections[0].get_paths()[0].vertices
    assert {(20_000, 10), (20_000, 20)} <= {tuple(point) for point in band}
    shown = texts(figure)
    for words in ("timesteps", "return", "± 1 std over 2 episodes", "mean of 2", "best 15"):
        assert words in shown


def test_the_comparison_adds_the_random_policys_band():
    figure = figures.comparison("t", EVALUATIONS, BASELINE)
    assert figure.axes[0].lines[1].get_ydata()[0] == -250
    box = figure.axes[0].patches[0].get_bbox()
    assert (box.y0, box.y1) == pytest.approx((-250 - BASELINE.std(), -250 + BASELINE.std()))
    assert "random policy: mean ± 1 std of 3 episodes" in texts(figure)


def test_the_curves_over_seeds_show_every_run_their_iqm_and_its_band():
    timesteps = np.array([100, 200])
    returns = np.array([[1.0, 5.0], [2.0, np.nan], [6.0, 7.0]])
    over_seeds = SeedCurve(
        np.array([3, 2]), np.array([3.0, 6.0]), np.array([1.0, 5.0]), np.array([5.5, 7.0])
    )
    figure = figures.curves_over_seeds("t", timesteps, returns, [0, 4, 9], over_seeds)
    *runs, middle = figure.axes[0].lines
    assert [line.get_gid() for line in runs] == ["seed-0", "seed-4", "seed-9"]
    assert [line.get_ydata().tolist() for line in runs] == [[1, 5], [2], [6, 7]]
    assert middle.get_ydata().tolist() == [3, 6]
    assert middle.get_linewidth() > 2 * runs[0].get_linewidth()
    band = {tuple(point) for point in figure.axes[0].collections[0].get_paths()[0].vertices}
    assert {(100, 1), (100, 5.5), (200, 5), (200, 7)} <= band
    shown = texts(figure)
    for words in ("3 runs", "interquartile mean", "95 % bootstrap", "3 training seeds", "return"):
        assert words in shown


def test_the_bars_are_the_means_of_the_milestones():
    returns = {25: np.array([1.0, 3.0, 2.0]), 100: np.array([10.0, 30.0, 20.0])}
    figure = figures.milestone_bars("t", returns, {25: 500_000, 100: 2_000_000}, BASELINE)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [-250, 2, 20]
    shown = texts(figure)
    for words in ("25 %\n500k timesteps", "100 %\n2M timesteps", "random", "mean", "± 1 std"):
        assert words in shown


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_the_numbers_of_the_bars_are_inside_the_figure(scale):
    returns = {25: scale * np.array([700.0, 900.0]), 100: scale * np.array([120.0, 160.0])}
    figure = figures.milestone_bars("t", returns, {25: 500, 100: 2_000}, scale * -BASELINE)
    figure.canvas.draw()
    top = figure.axes[0].get_window_extent().y1
    assert max(text.get_window_extent().y1 for text in figure.axes[0].texts) < top


def test_the_box_plot_and_the_histogram_show_every_episode():
    returns = np.array([1.0, 2.0, 2.0, 9.0])
    boxes = figures.trained_vs_random("t", returns, BASELINE)
    assert "n = 4" in texts(boxes) and "n = 3" in texts(boxes)
    dots = [set(line.get_ydata()) for line in boxes.axes[0].lines if line.get_marker() == "o"]
    assert dots == [set(BASELINE), set(returns)]
    histogram = figures.histogram("t", returns)
    bars = histogram.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 4
    assert "mean 3.5" in texts(histogram) and "of 4" in texts(histogram)


def test_the_same_data_give_the_same_png(tmp_path):
    for name in ("a.png", "b.png"):
        figures.save(figures.learning_curve("t", EVALUATIONS), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (960, 600)
        assert len(image.convert("RGB").getcolors(10**6)) > 100
