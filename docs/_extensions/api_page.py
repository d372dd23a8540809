"""The Python API as Markdown: what `gallop` offers, what that takes, returns and raises.

Sphinx's autodoc writes signatures and docstrings. Every function of `gallop.__all__` is shown; of
classes, what is of use outside Gallop.
"""

from __future__ import annotations

from typing import NamedTuple

from markdown import block

import gallop

ORDER = ("experiment", "run", "evaluate", "watch", "run_seeds", "tune", "make_env")


class Shown(NamedTuple):
    """A class, and its attributes and methods that are shown."""

    path: str
    members: tuple[str, ...] = ()
    is_made: bool = False
    """Whether it is there to be called, by its arguments; other objects are only returned."""


RESULTS = (
    Shown("gallop.experiments.settings.Experiment", ("algorithm", "evaluation_env_kwargs")),
    Shown(
        "gallop.run_folder.directory.RunDirectory",
        (
            *("group", "name", "best_model", "final_model", "milestone", "numbers"),
            *("experiment_file", "provenance_file", "seeds_file", "log_file", "tensorboard"),
            *("learning_curve", "comparison", "milestone_bars", "report", "state"),
            *("read_experiment", "look_at_experiment", "is_finished", "read_diverged"),
        ),
        is_made=True,
    ),
    Shown(
        "gallop.run_folder.directory.Milestone",
        ("model", "film", "gif", "boxplot", "histogram", "meta", "read_rewards", "read_meta"),
    ),
    Shown(
        "gallop.run_folder.numbers.RunNumbers",
        ("read_baseline", "read_evaluations", "read_episodes", "final_return", "read_log"),
    ),
    Shown(
        "gallop.run_folder.numbers.Evaluations",
        ("timesteps", "results", "ep_lengths", "seeds", "mean_returns", "best_timestep"),
    ),
    Shown(
        "gallop.evaluation.episodes.Episodes",
        (
            *("seeds", "returns", "lengths", "reward_terms", "actions", "cut"),
            *("n_unstable", "n_cut", "n_not_finite", "first_finite"),
        ),
    ),
    Shown(
        "gallop.run_folder.seed_group.SeedGroup",
        (
            *("run", "runs", "experiment_file", "seeds_file", "learning_curve", "curve_file"),
            *("summary_file", "read_experiment", "read_seeds"),
        ),
        is_made=True,
    ),
    Shown(
        "gallop.tuning.search_directory.RoundDirectory",
        (
            *("search_file", "record_file", "database", "results_file", "trials_file", "page"),
            *("read_search", "next_round"),
        ),
        is_made=True,
    ),
)
ARGUMENTS = (
    Shown("gallop.report.display.Display", is_made=True),
    Shown("gallop.RayCluster", is_made=True),
    Shown("gallop.run_folder.trackers.Tracker", ("log", "close")),
    Shown("gallop.learners.learner.LogRow", ("timestep", "values")),
    Shown("gallop.tuning.search_settings.Search"),
)
FUNCTIONS = ("gallop.tuning.search.from_data",)
ERRORS = (
    *("gallop.errors.ExperimentError", "gallop.errors.RunError", "gallop.errors.HeldError"),
    "gallop.errors.FencedError",
    "gallop.run_folder.consent.ConsentError",
    *("gallop.policies.safe_archive.PolicyFileError", "gallop.run_folder.manifest.DamagedError"),
    *("gallop.errors.TaskError", "gallop.errors.WorkerError", "gallop.errors.DivergedError"),
    *("gallop.runs.seed_group.SeedsFailedError", "gallop.runs.stopping.Stopped"),
)


INTRODUCTIONS = {
    "What they return": "Objects that represent a folder read its files only when you call a "
    "method. The attributes of an `Experiment` are the "
    "[settings of experiment files](settings.md#experiment-files).",
    "What they take": "The attributes of a `Search` are the "
    "[settings of search files](settings.md#search-files).",
    "Errors": "The message of each error is one line. The command line prints it without a "
    "traceback.",
}


def signature(
    app: object, what: str, name: str, obj: object, options: object, given: str, returned: str
) -> tuple[str, None] | None:
    """Leave out the arguments of classes that are only returned or raised."""
    made = {shown.path for shown in (*RESULTS, *ARGUMENTS) if shown.is_made}
    is_returned = what in ("class", "exception") and name not in made
    return ("", None) if given and is_returned else None


def _function(path: str) -> str:
    return f"({path.replace('.', '-')})=\n" + block("{eval-rst}", f".. autofunction:: {path}")


def _class(shown: Shown, directive: str = "autoclass") -> str:
    lines = [f".. {directive}:: {shown.path}"]
    if shown.members:
        lines.append(f"   :members: {', '.join(shown.members)}")
        lines += ["   :undoc-members:", "   :member-order: bysource"]
    return block("{eval-rst}", "\n".join(lines))


def page() -> str:
    """Everything below the introduction of docs/reference/api.md."""
    functions = [name for name in gallop.__all__ if not name[0].isupper()]
    order = sorted(functions, key=lambda name: (*ORDER, name).index(name))
    sections = {
        "Functions": [_function(f"gallop.{name}") for name in order],
        "What they return": [*map(_class, RESULTS)],
        "What they take": [*map(_class, ARGUMENTS), *map(_function, FUNCTIONS)],
        "Errors": [_class(Shown(path), "autoexception") for path in ERRORS],
    }
    return "\n".join(
        "\n".join([f"## {title}\n", INTRODUCTIONS.get(title, "") + "\n", *parts])
        for title, parts in sections.items()
    )
