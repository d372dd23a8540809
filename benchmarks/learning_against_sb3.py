r"""Compare learning of the native learner and SB3 over many seeds.

    python benchmarks/learning_against_sb3.py RESULTS_FOLDER OUTPUT_FOLDER

The runs in RESULTS_FOLDER come from these commands (bash), once per training seed S. A run of
300,000 timesteps replaces one of 100,000: up to that timestep the two are bit-identical.

    sac() { gallop run configs/halfcheetah_sac.yaml --name $1_s$S -f results/learning \
            --films false --evaluation.interval 10000 --seed $S "${@:2}"; }
    sac sac_f32  --learner native -n 100000 --milestones '[50,100]'
    sac sac_f32  --learner native -n 300000 --milestones '[100]'       # instead, for S = 0, 1, 2
    sac sac_sb3  --learner sb3    -n 100000 --milestones '[50,100]'
    sac sac_sb3  --learner sb3    -n 30000  --milestones '[100]'       # S = 4 … 15

    other() { gallop run --env HalfCheetah-v5 --env-kwargs '{reset_noise_scale: 0.15}' \
              --eval-env-kwargs '{reset_noise_scale: 0.10}' --name $1_s$S -f results/learning \
              --films false --milestones '[100]' --seed $S "${@:2}"; }
    td3="--algo td3 -n 15000 --segment 5000 --evaluation.interval 5000"
    other td3_native --learner native $td3
    other td3_sb3    --learner sb3    $td3
    ppo="--algo ppo --normalize true -n 102400 --segment 10240 --evaluation.interval 10240"
    other ppo_native --learner native $ppo
    other ppo_sb3    --learner sb3    $ppo

Writes every evaluation (learning.csv) and two figures, and prints tables in Markdown. Runs that are
already in learning.csv stay there unless the folder has them too, so that hours of training need
not happen on one day. So do the runs in bfloat16 (sac_bf16), which Gallop no longer trains. The
compared value is the mean return of the validation episodes at one timestep, the same for every
run. By 30,000 timesteps, runs of SAC that will stay low can be told from those that learn to run:
one table has all runs that reached that timestep.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
from reference_against_published import PUBLISHED

from gallop.evaluation.statistics import N_RESAMPLES, bootstrap_interval, interquartile_mean
from gallop.report import figures
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import write_bytes

HEADER = "arm,training_seed,timestep,mean_return"
COMPARED_AT = {"sac": 100_000, "td3": 15_000, "ppo": 102_400}
SEPARATED_AT, LOW = 30_000, 1_600  # of SAC; chosen after looking at the runs
LABELS = {"f32": "native", "native": "native", "sb3": "SB3"}  # f32: the name in learning.csv
BLUE, RED = figures.TRAINED, figures.BASELINE
STYLES = {"f32": (BLUE, "o"), "native": (BLUE, "o"), "sb3": (RED, "s")}

Array = NDArray[np.float64]
Curve = dict[int, float]  # timestep → mean return of the validation episodes, ascending
Runs = dict[int, Curve]  # by training seed, ascending
Returns = dict[int, float]  # by training seed, ascending


def main(results: Path, output: Path) -> None:
    found: dict[str, dict[str, Runs]] = {}
    every = recorded(output / "learning.csv")
    for algorithm, end in COMPARED_AT.items():
        names = ("f32", "sb3") if algorithm == "sac" else ("native", "sb3")
        arms = {}
        for arm in names:
            runs = every[f"{algorithm}_{arm}"] | read(results, algorithm, arm)
            arms[arm] = every[f"{algorithm}_{arm}"] = dict(sorted(runs.items()))
        found[algorithm] = {arm: so_far for arm in names if (so_far := reaching(arms[arm], end))}
        if algorithm == "sac":
            report_separated(arms)
    lines = [HEADER]
    for name, runs in every.items():
        for seed, curve in runs.items():
            lines += [f"{name},{seed},{t},{v!r}" for t, v in curve.items()]
    write_bytes(output / "learning.csv", ("\n".join(lines) + "\n").encode())
    draw(output / "td3_ppo.png", {name.upper(): found[name] for name in ("td3", "ppo")})
    until = {
        arm: {seed: cut(curve, COMPARED_AT["sac"]) for seed, curve in runs.items()}
        for arm, runs in found["sac"].items()
    }
    longer = {arm: runs for arm, runs in found["sac"].items() if runs != until[arm]}
    draw(output / "sac.png", {"SAC": until, "Longer runs of SAC": longer})
    for algorithm, arms in found.items():
        report(algorithm, arms)


def recorded(path: Path) -> dict[str, Runs]:
    """The runs in learning.csv, by arm; none if there is no such file."""
    arms: dict[str, Runs] = defaultdict(dict)
    if path.exists():
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        assert header == HEADER, header
        for line in lines:
            arm, seed, timestep, value = line.split(",")
            arms[arm].setdefault(int(seed), {})[int(timestep)] = float(value)
    return arms


def reaching(runs: Runs, end: int) -> Runs:
    """The runs that were evaluated at this timestep."""
    return {seed: curve for seed, curve in runs.items() if end in curve}


def read(results: Path, algorithm: str, arm: str) -> Runs:
    """The runs of one arm that have an evaluation; prints the names of the others to stderr."""
    runs = {}
    for path in sorted(results.glob(f"{algorithm.upper()}_HalfCheetah-v5/{algorithm}_{arm}_s*")):
        evaluations = RunDirectory(path).numbers.read_evaluations()
        if evaluations is None:
            print(f"{path.name}: left out, no evaluation yet", file=sys.stderr)
            continue
        # A run with a wrong name would be counted in the wrong arm.
        said = yaml.safe_load((path / "experiment.yaml").read_text(encoding="utf-8"))
        seed, learner = int(path.name.rpartition("_s")[2]), "sb3" if arm == "sb3" else "native"
        used = said["training_seed"], said["learner"]
        if used != (seed, learner):
            raise SystemExit(f"{path}: the name does not match seed and learner {used}")
        means = evaluations.results.mean(axis=1).tolist()
        runs[seed] = dict(zip(evaluations.timesteps.tolist(), means, strict=True))
    return runs


def cut(curve: Mapping[int, float], end: int) -> Curve:
    return {t: value for t, value in curve.items() if t <= end}


def outcome(runs: Runs, end: int, n_evaluations: int) -> Returns:
    """Each run's mean over its last evaluations up to a timestep."""
    until = {seed: list(cut(curve, end).values()) for seed, curve in runs.items()}
    return {seed: float(np.mean(values[-n_evaluations:])) for seed, values in until.items()}


def averages(returns: Returns) -> list[str]:
    """Cells: n, mean and interquartile mean."""
    values, cells = np.array(list(returns.values())), [str(len(returns))]
    for statistic in (lambda resamples: resamples.mean(axis=-1), interquartile_mean):
        interval = bootstrap_interval(values, np.random.default_rng(0), statistic)
        cells.append(shown(float(statistic(values)), interval, values.size))
    return cells


def compare(ours: Returns, theirs: Returns) -> list[str]:
    """Cells: n, difference and ratio of the means, probability of improvement.

    The bootstrap resamples training seeds, in pairs if both sides have the same seeds. The
    probability of improvement is that of our run having a higher return than their run (Agarwal et
    al. 2021).
    """
    paired = ours.keys() == theirs.keys()
    a, b = np.array(list(ours.values())), np.array(list(theirs.values()))
    generator = np.random.default_rng(0)
    picks_a = generator.integers(0, a.size, (N_RESAMPLES, a.size))
    picks_b = picks_a if paired else generator.integers(0, b.size, (N_RESAMPLES, b.size))

    def cell(statistic: Callable[[Array, Array], Array], form: str) -> str:
        interval = np.quantile(statistic(a[picks_a], b[picks_b]), [0.025, 0.975])
        return shown(float(statistic(a, b)), interval, min(a.size, b.size), form)

    def improvement(x: Array, y: Array) -> Array:
        gains = np.sign(x[..., :, None] - y[..., None, :])  # a tie counts as half
        return np.asarray((gains.mean(axis=(-2, -1)) + 1) / 2)

    return [
        f"{a.size}, paired" if paired else f"{a.size} and {b.size}, unpaired",
        cell(lambda x, y: x.mean(axis=-1) - y.mean(axis=-1), "+,.0f"),
        # A ratio is meaningless if the mean may be zero or negative.
        cell(lambda x, y: x.mean(axis=-1) / y.mean(axis=-1), ".2f") if b.min() > 0 else "–",
        cell(improvement, ".2f"),
    ]


def report(algorithm: str, arms: dict[str, Runs]) -> None:
    """Print the tables of one algorithm, with the primary and the secondary measure."""
    if not arms:
        return
    end = COMPARED_AT[algorithm]
    measures = {
        f"at {end:,}": {arm: outcome(runs, end, 1) for arm, runs in arms.items()},
        f"last three to {end:,}": {arm: outcome(runs, end, 3) for arm, runs in arms.items()},
    }
    rows = [
        [measure, LABELS[arm], *averages(returns)]
        for measure, by in measures.items()
        for arm, returns in by.items()
    ]
    name = algorithm.upper()
    table(f"{name}: mean return | arm | n | mean [95 %] | IQM [95 %]", rows)
    native = "f32" if algorithm == "sac" else "native"
    if {native, "sb3"} <= arms.keys():
        rows = [[measure, *compare(by[native], by["sb3"])] for measure, by in measures.items()]
        header = "n | difference [95 %] | ratio [95 %] | probability of improvement [95 %]"
        table(f"{name}: {LABELS[native]} − SB3 | {header}", rows)


def report_separated(arms: dict[str, Runs]) -> None:
    """Print how many runs of SAC are low at the timestep where the two groups separate."""
    rows = []
    for arm, runs in arms.items():
        if values := sorted(outcome(reaching(runs, SEPARATED_AT), SEPARATED_AT, 1).values()):
            low = sum(value < LOW for value in values)
            every = ", ".join(f"{value:,.0f}" for value in values)
            rows.append([LABELS[arm], str(len(values)), f"{np.mean(values):,.0f}", str(low), every])
    table(f"SAC at {SEPARATED_AT:,} | n | mean | below {LOW:,} | all, ascending", rows)


def table(header: str, rows: Iterable[Sequence[str]]) -> None:
    """Print Markdown."""
    print(f"| {header} |", "|---" * (header.count("|") + 1) + "|", sep="\n")
    print(*(f"| {' | '.join(row)} |" for row in rows), sep="\n", end="\n\n")


def shown(value: float, interval: Iterable[float], n: int, form: str = ",.0f") -> str:
    """A value and its interval, which a single training seed does not have."""
    bounds = ", ".join(f"{bound:{form}}" for bound in interval) if n > 1 else "–"
    return f"{value:{form}} [{bounds}]".replace("-", "−")


def draw(path: Path, panels: dict[str, dict[str, Runs]]) -> None:
    """Draw a figure with one axes per panel that has runs."""
    panels = {title: arms for title, arms in panels.items() if arms}
    if not panels:
        return
    figure = Figure(figsize=(13 if len(panels) > 1 else 8, 5.5), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)
    for axes, (title, arms) in zip(grid[0], panels.items(), strict=True):
        for arm, runs in arms.items():
            draw_arm(axes, arm, runs)
        last = max(t for runs in arms.values() for curve in runs.values() for t in curve)
        points = cut(PUBLISHED, last) if "SAC" in title else {}
        if points:
            x, y, label = list(points), list(points.values()), "published plain SAC, mean of n = 10"
            axes.plot(x, y, "D", color=figures.INK, markersize=8, label=label)
        axes.set_title(f"{title} on HalfCheetah-v5", fontsize=12, color=figures.INK, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: figures.short(value)))
        key = "thin: training seeds, thick: their mean, band: its 95 % bootstrap interval"
        axes.set_xlabel(f"timesteps\n{key}")
        axes.legend(loc="lower right" if points else "best", frameon=False)
    grid[0][0].set_ylabel("mean return of 5 validation episodes")
    figures.save(figure, path)


def draw_arm(axes: Axes, arm: str, runs: Runs) -> None:
    """Draw runs thin, their mean thick with its band, and dashed where only some runs continue."""
    colour, marker = STYLES[arm]
    for curve in runs.values():
        axes.plot(list(curve), list(curve.values()), color=colour, linewidth=0.7, alpha=0.45)
    timesteps, values = common(runs.values())
    if len(runs) > 1:
        bands = np.array([bootstrap_interval(row, np.random.default_rng(0)) for row in values])
        axes.fill_between(timesteps, *bands.T, color=colour, alpha=0.2, linewidth=0)
    label, means = f"{LABELS[arm]}, n = {len(runs)}", values.mean(axis=1)
    axes.plot(timesteps, means, color=colour, marker=marker, linewidth=2.2, label=label)
    longer = [curve for curve in runs.values() if max(curve) > timesteps[-1]]
    if longer:
        later, values = common(longer, timesteps[-1])
        label = f"the longer runs, n = {len(longer)} (no band)"
        axes.plot(later, values.mean(axis=1), "--", color=colour, linewidth=2, label=label)


def common(curves: Iterable[Curve], start: int = 0) -> tuple[list[int], Array]:
    """Timesteps from `start` on that all curves have, and the returns there, [t, curve]."""
    curves = list(curves)
    timesteps = [t for t in sorted(set.intersection(*map(set, curves))) if t >= start]
    return timesteps, np.array([[curve[t] for curve in curves] for t in timesteps])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: learning_against_sb3.py RESULTS_FOLDER OUTPUT_FOLDER")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
