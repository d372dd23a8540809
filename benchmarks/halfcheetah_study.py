r"""The reference study on HalfCheetah-v5: train what is missing, and publish what there is.

    python benchmarks/halfcheetah_study.py a       # or b, c, d, e; resumes where it was stopped
    python benchmarks/halfcheetah_study.py a --seeds 0 --workers 1
    python benchmarks/halfcheetah_study.py publish

The experiments are the YAML files in docs/results/halfcheetah/. Each is trained as a group of
training seeds, and study D as a grid, so all commands of Gallop work on it. The runs are then
published in the same folder, as far as they have come: CSVs, figures, films and the page's tables.
What the CSVs say of other runs stays, so that a study can be trained on several machines.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import math
import subprocess
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from reference_against_published import PUBLISHED

import gallop
from gallop.evaluation.audit.sensitivity import HALF_STEP
from gallop.evaluation.statistics import Interval, student_interval
from gallop.experiments.grid import load
from gallop.experiments.plan import make_plan
from gallop.experiments.seeding import EVALUATION_SEEDS, seeds_from
from gallop.reading import read_json
from gallop.report import figures
from gallop.report.films import encoding
from gallop.report.grid_results import read_results
from gallop.report.run_figures import milestone_returns
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.grid_folder import GridFolder, is_grid
from gallop.run_folder.provenance import read_provenance
from gallop.run_folder.resume_state import saved_replay
from gallop.run_folder.seed_group import SeedGroup, is_group
from gallop.runs.grid import run_grid
from gallop.runs.seed_group import run_seeds

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "halfcheetah"
STUDIES = {
    "a": (["a_reference"], "0..4"),
    "b": (["b_sb3_defaults"], "0..2"),
    "c": (["c_noise_010", "c_noise_015", "c_noise_020"], "0..2"),
    "e": (["e_random_start"], "0..2"),
}
BUDGET = 2_000_000
NOISE_BUDGET = 500_000
ORIGINAL = 11_483  # after 2,000,000 timesteps, one training seed
COLOURS = {
    "a_reference": "#1f6f8b",
    "b_sb3_defaults": "#c8553d",
    "e_random_start": "#5b8c3a",
}
NOISE = {"0.10": "c_noise_010", "0.15": "c_noise_015", "0.20": "c_noise_020"}
"""Reset noise in training -> the experiment."""
SEED_COLOURS = ("#1f6f8b", "#c8553d", "#5b8c3a")
TITLES = {
    "a_reference": "A: reference settings",
    "b_sb3_defaults": "B: SB3's defaults",
    "e_random_start": "E: A with 10,000 random timesteps",
}
GRID = "d_start"
CHANGES = {
    "defaults": ("SB3's defaults", 100),
    "defaults_10k": ("SB3's defaults", 10_000),
    "reference": ("reference settings", 100),
    "reference_10k": ("reference settings", 10_000),
    "quickstart": ("quickstart", 100),
    "quickstart_10k": ("quickstart", 10_000),
}
"""Changes of study D -> settings, and random timesteps at the start."""
TORSO_ANGLE = 1
"""Its index in an observation of HalfCheetah-v5."""
LEAST_SEEDS = 2  # of a figure with a dot per training seed
FILM_SECONDS, FILM_SIZE, FILM_FPS = 4, 180, 10


class Evaluation(NamedTuple):
    """A row of evaluations.csv."""

    experiment: str
    training_seed: int
    timestep: int
    mean_return: float


class Episode(NamedTuple):
    """A row of milestones.csv."""

    experiment: str
    training_seed: int
    timestep: int
    evaluation_seed: int
    episode_return: float


class Run(NamedTuple):
    """A row of runs.csv."""

    experiment: str
    training_seed: int
    timestep: int
    total_timesteps: int
    minutes_if_never_stopped: float | None
    n_threads: int
    instruction_set: str
    resumes: int
    random_policy: float
    """Mean return of the random baseline."""
    commit: str


class Audited(NamedTuple):
    """A row of audits.csv: what the audit says of one milestone; means over its episodes."""

    experiment: str
    training_seed: int
    timestep: int
    mean_return: float
    at_half_step: float
    """Median return at half the physics step over the usual median."""
    upside_down: float
    n_somersaults: float
    in_the_air: float
    on_the_body: float
    """Share of the floor's impulse on anything but feet."""
    energy_from_no_force: float
    steepness_of_bfoot: float
    steepness_of_ffoot: float
    findings: str


class Posture(NamedTuple):
    """A row of posture.csv: how the cheetah was in a segment of the training."""

    experiment: str
    training_seed: int
    timestep: int
    """The end of the segment."""
    upside_down: float
    """Share of its timesteps, to two digits."""


class Start(NamedTuple):
    """A row of starts.csv: a run of study D, its final policy; means over ten episodes."""

    change: str
    training_seed: int
    mean_return: float
    upside_down: float

    @property
    def is_stuck(self) -> bool:
        """Whether it runs on its back."""
        return self.upside_down > 0.5


class Study(NamedTuple):
    """All that has been published; each part is the CSV of that name."""

    evaluations: list[Evaluation]
    milestones: list[Episode]
    runs: list[Run]
    audits: list[Audited]
    starts: list[Start]
    posture: list[Posture]


ROWS = Study(Evaluation, Episode, Run, Audited, Start, Posture)  # type: ignore[arg-type]
N_KEYS = Study(2, 2, 2, 2, 2, 3)  # type: ignore[arg-type]
"""How many columns name what a new row replaces. Rows of posture.csv are replaced one by one,
because a run's replay buffer has only the newest million."""


class Final(NamedTuple):
    """The policy of one training seed at some timestep."""

    seed: int
    returns: np.ndarray
    """On the ten evaluation seeds; shape [10]."""


def finals(study: Study, experiment: str, timestep: int) -> list[Final]:
    """Return the policies that have reached a number of timesteps."""
    by_seed: dict[int, list[float]] = {}
    for each in study.milestones:
        if (each.experiment, each.timestep) == (experiment, timestep):
            by_seed.setdefault(each.training_seed, []).append(each.episode_return)
    return [Final(seed, np.array(returns)) for seed, returns in sorted(by_seed.items())]


def over_seeds(found: Sequence[Final]) -> tuple[float, Interval]:
    """Return the mean over training seeds, with Student's interval."""
    means = [final.returns.mean() for final in found]
    return float(np.mean(means)), student_interval(means)


# --- what has been published, and what the runs here add to it -----------------------------------


def published() -> Study:
    """Read the CSVs."""
    return Study(*(read_csv(PAGE / f"{name}.csv", row)
                   for name, row in zip(Study._fields, ROWS, strict=True)))  # fmt: skip


def read_csv(path: Path, row: Any) -> list[Any]:
    if not path.exists():
        return []
    types = typing.get_type_hints(row)
    with path.open(newline="") as file:
        return [
            row(**{name: None if not text else PARSERS.get(types[name], float)(text)
                   for name, text in each.items()})
            for each in csv.DictReader(file)
        ]  # fmt: skip


PARSERS: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float}


def write_csv(path: Path, row: Any, rows: Iterable[Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(row._fields)
        writer.writerows([repr(value) if isinstance(value, float) else value for value in each]
                         for each in rows)  # fmt: skip


def with_runs(old: Study, results: Path) -> Study:
    """Add the runs in a folder, as far as they have come. They replace the published ones of the
    same experiment and training seed."""
    runs = {key: run for key, run in found_runs(results).items() if reached(run)}
    new = Study(
        [row for key, run in runs.items() for row in evaluation_rows(*key, run)],
        [row for key, run in runs.items() for row in milestone_rows(*key, run)],
        [run_row(*key, run) for key, run in runs.items()],
        [row for key, run in runs.items() for row in audit_rows(*key, run)],
        start_rows(results),
        posture_rows(results),
    )
    return Study(*(replaced(*each) for each in zip(old, new, N_KEYS, strict=True)))


def replaced(before: Sequence[Any], after: Sequence[Any], n: int) -> list[Any]:
    """Return the rows in order; those with the same first `n` columns as a new one are replaced."""
    keys = {row[:n] for row in after}
    return sorted([*(row for row in before if row[:n] not in keys), *after], key=place)


def place(row: Any) -> tuple[Any, ...]:
    """Where a row is in its CSV."""
    return (*row[:3], getattr(row, "evaluation_seed", 0))


def found_runs(results: Path) -> dict[tuple[str, int], RunDirectory]:
    """Return (experiment, training seed) -> run of all that has been begun."""
    found = {}
    for name in (name for names, _ in STUDIES.values() for name in names):
        group = SeedGroup(results / "SAC_HalfCheetah-v5" / name)
        if is_group(group.path):
            found |= {(name, seed): run for seed, run in group.runs().items()}
    return found


def evaluation_rows(name: str, seed: int, run: RunDirectory) -> list[Evaluation]:
    found = run.numbers.read_evaluations()
    if found is None:
        return []
    pairs = zip(found.timesteps.tolist(), found.mean_returns.tolist(), strict=True)
    return [Evaluation(name, seed, timestep, mean) for timestep, mean in pairs]


def milestone_rows(name: str, seed: int, run: RunDirectory) -> list[Episode]:
    return [
        Episode(name, seed, timestep, start, value)
        for timestep, returns in milestone_returns(
            run, make_plan(run.look_at_experiment())
        ).values()
        for start, value in zip(EVALUATION_SEEDS, returns.tolist(), strict=True)
    ]


def run_row(name: str, seed: int, run: RunDirectory) -> Run:
    record, baseline = read_provenance(run), run.numbers.read_baseline()
    assert record is not None and baseline is not None
    return Run(
        name, seed, reached(run), run.look_at_experiment().total_timesteps, wall_minutes(run),
        record["n_threads"], record["instruction_set"], len(record["resumes"]),
        float(baseline.mean()), record["commit"],
    )  # fmt: skip


def reached(run: RunDirectory) -> int:
    """Return the timestep of the last resume state."""
    segments = run.numbers.read_segments()
    return segments[-1].timestep if segments else 0


def wall_minutes(run: RunDirectory) -> float | None:
    """Return the minutes from start to end of a finished run that was never stopped."""
    record = read_provenance(run)
    if record is None or len(record["resumes"]) > 1 or record["end"] is None:
        return None  # a group starts each run with one resume
    first = record["resumes"][0]["at"] if record["resumes"] else record["start"]
    start, end = (datetime.datetime.fromisoformat(each) for each in (first, record["end"]))
    return round((end - start).total_seconds() / 60, 1)


def start_rows(results: Path) -> list[Start]:
    folder = GridFolder(results / GRID)
    if not is_grid(folder.path):
        return []
    return [
        Start(run.cell.change, run.seed, run.final, upside_down(run.folder.milestone(100)))
        for run in read_results(folder, folder.read()).runs
        if run.state == "finished"
    ]


def upside_down(milestone: Milestone) -> float:
    """Return the share of the time in which a policy is upside down."""
    episodes = record_of(milestone)["episodes"]
    return float(np.mean([each["posture"]["upside_down"] for each in episodes]))


def posture_rows(results: Path) -> list[Posture]:
    """Read from the replay buffers of study B how the cheetah was while it trained."""
    return [
        Posture(name, seed, timestep, round(float(is_upside_down(rows).mean()), 2))
        for (name, seed), run in found_runs(results).items()
        if name in STUDIES["b"][0]
        for timestep, rows in saved_replay(run.state)
    ]


def is_upside_down(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return whether the torso is turned beyond ±90 degrees after each timestep."""
    return np.cos(rows["next_observations"][..., TORSO_ANGLE]) < 0


# --- audits --------------------------------------------------------------------------------------


def audit_rows(name: str, seed: int, run: RunDirectory) -> list[Audited]:
    """Audit a run's milestones that have no full audit, and return what all say. While the run
    trains, it has its folder to itself: what is not audited then comes with the next call."""
    found, experiment = [], run.look_at_experiment()
    for percent in experiment.milestones:
        milestone = run.milestone(percent)
        if not milestone.model.exists():
            continue
        if HALF_STEP not in _changes(record_of(milestone)):
            if run.is_locked():
                continue
            command = ["audit", str(milestone.path), "--sensitivity", "-o"]
            command = [sys.executable, "-m", "gallop", *command, str(milestone.path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        timestep = experiment.total_timesteps * percent // 100
        found.append(audited(name, seed, timestep, record_of(milestone)))
    return found


def record_of(milestone: Milestone) -> Mapping[str, Any]:
    return read_json(milestone.audit) if milestone.audit.exists() else {}


def audited(name: str, seed: int, timestep: int, record: Mapping[str, Any]) -> Audited:
    """Return the row of one audit.json."""
    episodes = record["episodes"]
    returns = [each["return"] for each in episodes]
    half = np.array(_changes(record)[HALF_STEP], float)

    def mean(value: Callable[[Any], float]) -> float:
        return float(np.mean([value(each) for each in episodes]))

    def off_feet(each: Any) -> float:
        shares = each["contact"]["impulse_share"]
        return sum(share for body, share in shares.items() if not body.startswith("foot"))

    return Audited(
        name, seed, timestep, float(np.mean(returns)),
        float(np.median(half) / np.median(returns)),
        mean(lambda each: each["posture"]["upside_down"]),
        mean(lambda each: len(each["posture"]["somersaults"])),
        mean(lambda each: each["contact"]["flight"]),
        mean(off_feet),
        mean(lambda each: each["energy"]["residual_share"]),
        mean(lambda each: each["toes"]["steepness"].get("bfoot", np.nan)),
        mean(lambda each: each["toes"]["steepness"].get("ffoot", np.nan)),
        "; ".join(f"{each['name']} ({each['episodes']} of {each['of']})"
                  for each in record["findings"]),
    )  # fmt: skip


def _changes(record: Mapping[str, Any]) -> dict[str, list[float]]:
    return {each["change"]: each["returns"] for each in record.get("sensitivity", [])}


def audit_table(found: Sequence[Audited], names: Sequence[str]) -> list[str]:
    """Return the lines of the table of these experiments."""
    lines = [
        "| experiment | training seed | timesteps | return | at half the physics step "
        "| in the air | steepness of rear, front foot | findings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        if each.experiment in names:
            lines.append(
                f"| {each.experiment} | {each.training_seed} | {each.timestep:,} "
                f"| {each.mean_return:,.0f} | {each.at_half_step:.0%} | {each.in_the_air:.0%} "
                f"| {each.steepness_of_bfoot:.0f}°, {each.steepness_of_ffoot:.0f}° "
                f"| {each.findings} |"
            )
    return lines


# --- figures and film ----------------------------------------------------------------------------


def draw_curves(study: Study) -> None:
    """Draw the evaluations of A, B and E with the published points and the original's result."""
    figure, axes = new_figure("SAC on HalfCheetah-v5: each training seed, and their mean")
    for name in reversed(COLOURS):
        draw_seeds(axes, study, name)
    baseline = np.mean([run.random_policy for run in study.runs])
    axes.axhline(float(baseline), color="#888888", linestyle="--", label="random policy")
    axes.plot(
        list(PUBLISHED), list(PUBLISHED.values()), "D", color=figures.INK, markersize=5,
        label="published plain SAC, mean of 10 seeds",
    )  # fmt: skip
    axes.plot([BUDGET], [ORIGINAL], "*", color="#b8860b", markersize=14, label="original, 1 seed")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: figures.short(value)))
    axes.set_xlabel("timesteps")
    axes.set_ylabel("evaluation return, mean of 5 episodes")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figures.save(figure, PAGE / "learning_curves.png")


def draw_seeds(axes: Axes, study: Study, name: str) -> None:
    """Draw a thin line per training seed, and a thick one of their mean as far as all have come."""
    seeds: dict[int, dict[int, float]] = {}
    for each in study.evaluations:
        if each.experiment == name:
            seeds.setdefault(each.training_seed, {})[each.timestep] = each.mean_return
    for curve in seeds.values():
        axes.plot(list(curve), list(curve.values()), color=COLOURS[name], linewidth=0.8, alpha=0.5)
    if seeds:
        common = sorted(set.intersection(*map(set, seeds.values())))
        mean = [np.mean([curve[timestep] for curve in seeds.values()]) for timestep in common]
        label = f"{TITLES[name]}, mean of {len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
        axes.plot(common, mean, color=COLOURS[name], linewidth=2.5, label=label)


def draw_finals(study: Study) -> None:
    """Draw a dot per training seed after 2,000,000 timesteps, with mean and interval."""
    found = {name: finals(study, name, BUDGET) for name in COLOURS}
    found = {name: policies for name, policies in found.items() if policies}
    if sum(map(len, found.values())) < LEAST_SEEDS:
        return
    figure, axes = new_figure("Mean return after 2,000,000 timesteps, by training seed")
    for place, (name, policies) in enumerate(found.items()):
        draw_dots(axes, place, policies, COLOURS[name])
    axes.axhline(ORIGINAL, color="#b8860b", label=f"original, 1 seed: {ORIGINAL:,}")
    axes.axhline(
        PUBLISHED[BUDGET], color=figures.INK, linestyle=":",
        label=f"published plain SAC, 10 seeds: {PUBLISHED[BUDGET]:,}",
    )  # fmt: skip
    names = [f"{TITLES[name]}\nn = {len(policies)}" for name, policies in found.items()]
    label_places(axes, names)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figures.save(figure, PAGE / "final_returns.png")


def draw_noise(study: Study) -> None:
    """Draw a dot per training seed after 500,000 timesteps, by reset noise in training."""
    found = {noise: finals(study, name, NOISE_BUDGET) for noise, name in NOISE.items()}
    found = {noise: policies for noise, policies in found.items() if policies}
    if sum(map(len, found.values())) < LEAST_SEEDS:
        return
    figure, axes = new_figure("Mean return after 500,000 timesteps, by reset noise in training")
    for place, policies in enumerate(found.values()):
        draw_dots(axes, place, policies, figures.TRAINED)
    label_places(axes, [f"{noise}\nn = {len(policies)}" for noise, policies in found.items()])
    figures.save(figure, PAGE / "reset_noise.png")


def draw_posture(study: Study) -> None:
    """Draw return and posture of each training seed of study B over its training."""
    name = "b_sb3_defaults"
    seeds = [run.training_seed for run in study.runs if run.experiment == name]
    if not seeds:
        return
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.set_title(
        "Study B: return, and share of the timesteps upside down in training", fontsize=12,
        loc="left", color=figures.INK,
    )  # fmt: skip
    for seed, colour in zip(seeds, SEED_COLOURS, strict=False):
        for axes, rows in ((above, study.evaluations), (below, study.posture)):
            found = [row for row in rows if (row.experiment, row.training_seed) == (name, seed)]
            axes.plot([row.timestep for row in found], [row[3] for row in found], color=colour,
                      label=f"training seed {seed}")  # fmt: skip
    above.set_ylabel("evaluation return")
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    below.set_ylabel("share upside down")
    below.set_xlabel("timesteps")
    below.set_xlim(left=0)
    below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: figures.short(value)))
    for axes in (above, below):
        clear(axes)
        axes.set_ylim(bottom=0)
    figure.legend(
        handles=above.get_lines(), loc="outside lower center", ncols=len(seeds), frameon=False
    )
    figures.save(figure, PAGE / "posture.png")


def draw_starts(study: Study) -> None:
    """Draw a dot per training seed of study D, coloured by whether it runs on its back."""
    found = by_change(study)
    if not found:
        return
    figure, axes = new_figure("Return after 50,000 timesteps, by training seed")
    for stuck, colour, label in ((False, figures.TRAINED, "on its feet"),
                                 (True, "#c8553d", "on its back")):  # fmt: skip
        for place, runs in enumerate(found.values()):
            means = sorted(run.mean_return for run in runs if run.is_stuck == stuck)
            spread = np.linspace(-0.15, 0.15, len(means))
            axes.plot(place + spread, means, "o", color=colour, label=label if not place else None)
    names = [f"{settings}\n{n:,} random" for settings, n in (CHANGES[name] for name in found)]
    label_places(axes, names)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(loc="upper left", frameon=False)
    figures.save(figure, PAGE / "starts.png")


def by_change(study: Study) -> dict[str, list[Start]]:
    found = {name: [run for run in study.starts if run.change == name] for name in CHANGES}
    return {name: runs for name, runs in found.items() if runs}


def n_stuck(runs: Sequence[Start]) -> int:
    return sum(run.is_stuck for run in runs)


def draw_dots(axes: Axes, place: int, policies: Sequence[Final], colour: str) -> None:
    means = [final.returns.mean() for final in policies]
    spread = np.linspace(-0.1, 0.1, len(means)) if len(means) > 1 else np.zeros(1)
    axes.plot(place + spread, means, "o", color=colour, alpha=0.7)
    mean, (low, high) = over_seeds(policies)
    if len(policies) > 2:  # the interval of two seeds would flatten all others
        axes.errorbar(
            place + 0.2, mean, yerr=[[mean - low], [high - mean]], fmt="s", color=colour, capsize=5
        )


def label_places(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.set_ylabel("mean of ten evaluation episodes")


def clear(axes: Axes) -> None:
    """Leave only the lines that help to read a value."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


def new_figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, loc="left", color=figures.INK)
    clear(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure, axes


def draw_films(results: Path) -> None:
    """Put films side by side, as gifs: study A's milestones, and study C's noises."""
    runs = found_runs(results)
    if run := runs.get(("a_reference", 0)):  # the page says that it is this seed
        films = [run.milestone(percent).film for percent in (25, 50, 100)]
        if all(path.is_file() for path in films):
            side_by_side(films, PAGE / "milestones.gif")
    films = [run.milestone(100).film for name in NOISE.values()
             if (run := runs.get((name, 0)))]  # fmt: skip
    if len(films) == len(NOISE) and all(path.is_file() for path in films):
        side_by_side(films, PAGE / "reset_noise.gif")


def side_by_side(films: Sequence[Path], gif: Path) -> None:
    """Put the first seconds of three films side by side."""
    size = f"fps={FILM_FPS},scale={FILM_SIZE}:-2:flags=lanczos"
    each = "".join(f"[{place}:v]{size}[{place}];" for place in range(3))
    palette = "split[x][y];[x]palettegen=max_colors=64[p];[y][p]paletteuse=dither=none"
    inputs = [word for path in films for word in ("-t", str(FILM_SECONDS), "-i", str(path))]
    subprocess.run(
        [
            *(encoding.ffmpeg(), "-loglevel", "error", "-y", *inputs, "-filter_complex"),
            f"{each}[0][1][2]hstack=3,{palette}",
            str(gif),
        ],
        check=True,
    )


# --- the page ------------------------------------------------------------------------------------


def tables(study: Study) -> dict[str, list[str]]:
    """Return name -> lines of each table of the page."""
    result = ["| study | n | mean return [95 % over seeds] | each seed |", "|---|---|---|---|"]
    for name in COLOURS:
        policies = finals(study, name, BUDGET)
        if policies:
            result.append(f"| {TITLES[name]} | {row_of(policies)} |")
    noise = [
        "| reset noise in training | n | mean return [95 % over seeds] | each seed |",
        "|---|---|---|---|",
    ]
    for value, name in NOISE.items():
        policies = finals(study, name, NOISE_BUDGET)
        if policies:
            noise.append(f"| {value} | {row_of(policies)} |")
    progress = ["| experiment | training seed | timesteps trained |", "|---|---|---|"]
    for run in study.runs:
        progress.append(f"| {run.experiment} | {run.training_seed} "
                        f"| {run.timestep:,} of {run.total_timesteps:,} |")  # fmt: skip
    starts = ["| settings | random timesteps | run on their backs | mean return of these | "
              "mean return of the others |", "|---|---|---|---|---|"]  # fmt: skip
    for name, runs in by_change(study).items():
        settings, n_random = CHANGES[name]
        means = [
            mean_return(run for run in runs if run.is_stuck == stuck) for stuck in (True, False)
        ]
        starts.append(f"| {settings} | {n_random:,} | {n_stuck(runs)} of {len(runs)} "
                      f"| {' | '.join(means)} |")  # fmt: skip
    for lines, name, text in (
        (result, "final_returns", "Mean returns after 2,000,000 timesteps"),
        (noise, "reset_noise", "Mean returns after 500,000 timesteps, by reset noise"),
        (starts, "starts", "Returns after 50,000 timesteps, by training seed"),
    ):
        if (PAGE / f"{name}.png").exists():
            lines += ["", f"![{text}]({name}.png)"]
    return {"finals": result, "noise": noise, "starts": starts, "progress": progress}


def mean_return(runs: Iterable[Start]) -> str:
    returns = [run.mean_return for run in runs]
    return f"{np.mean(returns):,.0f}" if returns else "–"


def row_of(policies: Sequence[Final]) -> str:
    mean, (low, high) = over_seeds(policies)
    interval = f" [{low:,.0f}, {high:,.0f}]" if math.isfinite(low) else ""
    each = ", ".join(f"{final.returns.mean():,.0f}" for final in policies)
    return f"{len(policies)} | {mean:,.0f}{interval} | {each}"


def write_tables(page: Path, written: dict[str, list[str]]) -> None:
    """Replace each table between its two comments, <!-- NAME --> and <!-- end -->."""
    text = page.read_text()
    for name, lines in written.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        if not begin:
            raise SystemExit(f"{page}: no comment <!-- {name} -->")
        _, end, after = rest.partition("<!-- end -->")
        text = before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after
    page.write_text(text)


def publish(results: Path) -> None:
    """Write everything in docs/results/halfcheetah: what has been published, and the runs here."""
    study = with_runs(published(), results)
    for name, row, rows in zip(Study._fields, ROWS, study, strict=True):
        write_csv(PAGE / f"{name}.csv", row, rows)
    draw_curves(study)
    draw_finals(study)
    draw_noise(study)
    draw_starts(study)
    draw_posture(study)
    draw_films(results)
    audited_ones = {"audits": audit_table(study.audits, [*COLOURS, *NOISE.values()])}
    write_tables(PAGE / "README.md", tables(study) | audited_ones)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", choices=[*STUDIES, "d", "publish"])
    parser.add_argument("--seeds", help="such as 0..4 or 0,3; default: all of the study")
    parser.add_argument("--workers", type=int, help="runs at a time; default: one per core")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    if options.study == "d":
        run_grid(load(PAGE / f"{GRID}.yaml"), options.results / GRID, workers=options.workers)
    elif options.study != "publish":
        names, seeds = STUDIES[options.study]
        for name in names:
            run_seeds(
                gallop.experiment(PAGE / f"{name}.yaml"), seeds_from(options.seeds or seeds),
                results=options.results, name=name, workers=options.workers,
            )  # fmt: skip
    publish(options.results)


if __name__ == "__main__":
    main()
