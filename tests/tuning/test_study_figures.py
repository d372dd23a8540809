"""Four PNGs of every study, and importances that are told only where they can be."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

from gallop.tuning import study_axes, study_figures, study_summary

NAMES = ["history.png", "importances.png", "parallel.png", "slice.png"]
RATE = FloatDistribution(1e-5, 1e-2, log=True)
NETWORK = CategoricalDistribution(("[64, 64]", "[256, 256]"))


def study_of(*trials, name="a study"):
    """A study of (parameters, distributions, return); a state in place of the return."""
    study = optuna.create_study(study_name=name, direction="maximize")
    for parameters, distributions, value in trials:
        state = value if isinstance(value, optuna.trial.TrialState) else None
        study.add_trial(
            optuna.trial.create_trial(
                params=parameters,
                distributions=distributions,
                value=None if state else value,
                state=state or optuna.trial.TrialState.COMPLETE,
            )
        )
    return study


def rates(*values, returns=None):
    returns = range(len(values)) if returns is None else returns
    return [
        ({"rate": rate}, {"rate": RATE}, float(r)) for rate, r in zip(values, returns, strict=True)
    ]


def mixed():
    """Log, categorical, integer and conditional parameters; a failed and a pruned trial."""
    trials = []
    for n in range(12):
        parameters = {"rate": 10 ** (-5 + n / 4), "network": NETWORK.choices[n % 2], "steps": n + 1}
        distributions = {"rate": RATE, "network": NETWORK, "steps": IntDistribution(1, 64)}
        if n % 3 == 0:
            parameters["noise"] = 10 ** (-4 + n / 6)
            distributions["noise"] = FloatDistribution(1e-4, 1e-1, log=True)
        trials.append((parameters, distributions, float(-abs(n - 7))))
    trials[2] = (*trials[2][:2], optuna.trial.TrialState.FAIL)
    trials[4] = (*trials[4][:2], optuna.trial.TrialState.PRUNED)
    return study_of(*trials)


STUDIES = {
    "mixed": mixed,
    "one trial of one parameter": lambda: study_of(*rates(1e-3)),
    "two trials": lambda: study_of(*rates(1e-3, 1e-4)),
    "equal returns and values": lambda: study_of(*rates(1e-3, 1e-3, 1e-3, returns=[5, 5, 5])),
    "many parameters": lambda: study_of(
        *(
            ({f"p{k}": n * k / 99 for k in range(11)},
             {f"p{k}": FloatDistribution(0, 10) for k in range(11)}, n * 1.0)
            for n in range(20)
        )
    ),
    "names that look like mathematics": lambda: study_of(
        ({"$\\frac$": 1.0}, {"$\\frac$": FloatDistribution(0, 1)}, 1.0), name="$x"
    ),
}  # fmt: skip

EMPTY = {
    "no trial": study_of,
    "only failed trials": lambda: study_of(
        ({"rate": 1e-3}, {"rate": RATE}, optuna.trial.TrialState.FAIL)
    ),
}


def drawn(study, folder, monkeypatch):
    """The figures by name, as they are when they are saved."""
    figures = {}
    monkeypatch.setattr(study_figures, "save", lambda f, path: figures.update({path.stem: f}))
    study_figures.draw(study, folder)
    return figures


@pytest.fixture(scope="module")
def mixed_figures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return drawn(mixed(), tmp_path_factory.mktemp("mixed"), monkeypatch)


def words(figure):
    from matplotlib.text import Text

    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


@pytest.mark.parametrize("kind", STUDIES)
def test_all_four_are_drawn_and_pyplot_is_as_before(kind, tmp_path):
    before = (pyplot.get_fignums(), dict(pyplot.rcParams))
    paths = study_figures.draw(STUDIES[kind](), tmp_path)
    assert [path.name for path in paths] == NAMES
    for path in paths:
        with Image.open(path) as image:
            assert 1000 <= image.width <= 1400 and 200 <= image.height <= 1400
            pixels = np.asarray(image.convert("RGB")).astype(int)
        # Gallop's blue, however pale or dark; a sentence is but grey.
        most_colour = int(np.ptp(pixels, axis=2).max())
        assert most_colour > 25
    assert (pyplot.get_fignums(), dict(pyplot.rcParams)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


@pytest.mark.parametrize("kind", EMPTY)
def test_without_finished_trials_every_figure_says_so(kind, tmp_path, monkeypatch):
    figures = drawn(EMPTY[kind](), tmp_path, monkeypatch)
    assert len(figures) == 4
    assert all(study_summary.NOTHING_YET in words(figure) for figure in figures.values())


def test_trials_without_parameters_have_a_history_and_sentences(tmp_path, monkeypatch):
    figures = drawn(study_of(({}, {}, 1.0), ({}, {}, 2.0)), tmp_path, monkeypatch)
    assert "2 finished" in words(figures.pop("history"))
    assert all(study_summary.NO_PARAMETERS in words(figure) for figure in figures.values())


def test_the_figures_speak_of_returns_and_trials(mixed_figures):
    figures = mixed_figures
    history, slices = figures["history"].axes[0], figures["slice"].axes
    assert history.get_ylabel() == "return"
    assert history.get_xlabel() == "trial (10 finished, 1 pruned, 1 failed)"
    assert all("Objective" not in words(figure) for figure in figures.values())
    np.testing.assert_allclose(history.lines[0].get_ydata()[-1], 0)
    assert [axes.get_xlabel() for axes in slices[:4]] == ["network", "noise", "rate", "steps"]
    # Every dot is where its trial was: ten rates, four minus the pruned one's noise.
    dots = slices[2].collections[0].get_offsets()
    np.testing.assert_allclose(sorted(dots[:, 1]), sorted([-7, -6, -4, -2, -1, 0, -1, -2, -3, -4]))
    assert {"1e-4", "0.001"} <= {tick.get_text() for tick in slices[2].get_xticklabels()}


def test_a_parameter_that_a_trial_did_not_have_is_called_not_used(mixed_figures):
    parallel = mixed_figures["parallel"]
    scales = dict(zip(["network", "noise", "rate", "steps"], parallel.axes[1:], strict=True))
    labels = {k: [t.get_text() for t in s.get_yticklabels()] for k, s in scales.items()}
    assert labels["noise"][0] == "not used"
    assert all("not used" not in labels[name] for name in ("network", "rate", "steps"))
    assert labels["network"] == ["[64, 64]", "[256, 256]"]


def test_the_parallel_figure_takes_the_eight_most_important_parameters(tmp_path, monkeypatch):
    figure = drawn(STUDIES["many parameters"](), tmp_path, monkeypatch)["parallel"]
    assert "8 of 11 hyper-parameters" in words(figure)
    assert len(figure.axes) == 1 + 8


def test_tick_labels_do_not_overlap(mixed_figures):
    slices = mixed_figures["slice"]
    slices.canvas.draw()
    for axes in slices.axes[:4]:
        labels = [t for t in axes.get_xticklabels() if t.get_text() and t.get_rotation() == 0]
        boxes = sorted((t.get_window_extent().x0, t.get_window_extent().x1) for t in labels)
        assert all(left[1] < right[0] for left, right in itertools.pairwise(boxes))


def test_the_same_study_gives_the_same_files_in_another_process(tmp_path):
    program = (
        "import sys; sys.path[:0] = sys.argv[1:2]\n"
        "from pathlib import Path\n"
        "from test_study_figures import mixed\n"
        "from gallop.tuning.study_figures import draw\n"
        "draw(mixed(), Path(sys.argv[2]))\n"
    )
    folders = [tmp_path / "a", tmp_path / "b"]
    study_figures.draw(mixed(), folders[0])
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", program, here, str(folders[1])], check=True)
    for name in NAMES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_importance_of_a_single_parameter_is_one():
    assert study_summary.importances(study_of(*rates(1e-3))) == {"rate": 1.0}


def test_importances_find_the_parameter_that_matters_and_sum_to_one():
    both = {"matters": FloatDistribution(0, 1), "idle": FloatDistribution(0, 1)}
    numbers = np.random.default_rng(0).uniform(size=(60, 2))
    study = study_of(*(({"matters": a, "idle": b}, both, a) for a, b in numbers.tolist()))
    found = study_summary.importances(study)
    assert list(found) == ["matters", "idle"]
    assert found["matters"] > 0.8
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize("returns", [[3.0], [3.0, 4.0], [5.0] * 8])
def test_importances_that_cannot_be_told_are_not_made_up(returns, tmp_path, monkeypatch):
    both = {"a": FloatDistribution(0, 9), "b": FloatDistribution(0, 9)}
    study = study_of(*(({"a": n * 1.0, "b": 9.0 - n}, both, r) for n, r in enumerate(returns)))
    assert study_summary.importances(study) == {}
    said = words(drawn(study, tmp_path, monkeypatch)["importances"])
    assert "Importances are not available yet" in said


@pytest.mark.parametrize(
    ("value", "text"),
    [(300_000, "300k"), (3e-4, "3e-4"), (1e-5, "1e-5"), (0.985, "0.985"), (-2000, "-2k"), (0, "0")],
)
def test_numbers_at_ticks_are_short(value, text):
    assert study_axes._number(value) == text
