r"""Learning with the native learner beside SB3's, and in bfloat16 beside float32, over many seeds.

    python benchmarks/learning_against_sb3.py RESULTS_FOLDER OUTPUT_FOLDER

The runs below RESULTS_FOLDER come from these commands, once for each training seed S. A run of
300,000 timesteps stands for one of 100,000: up to there the two have the same bits.

    sac() { gallop run configs/halfcheetah_sac.yaml --name $1_s$S -f results/learning \
            --films false --evaluation.interval 10000 --seed $S "${@:2}"; }
    sac sac_f32  --learner native -n 100000 --milestones '[50,100]'
    sac sac_f32  --learner native -n 300000 --milestones '[100]'       # instead, for S = 0, 1, 2
    sac sac_bf16 --learner native -n 100000 --milestones '[50,100]' --precision bf16
    sac sac_sb3  --learner sb3    -n 100000 --milestones '[50,100]'

    other() { gallop run --env HalfCheetah-v5 --env-kwargs '{reset_noise_scale: 0.15}' \
              --eval-env-kwargs '{reset_noise_scale: 0.10}' --name $1_s$S -f results/learning \
              --films false --milestones '[100]' --seed $S "${@:2}"; }
    td3="--algo td3 -n 30000 --segment 5000 --evaluation.interval 5000"
    other td3_native --learner native $td3
    other td3_sb3    --learner sb3    $td3
    ppo="--algo ppo --normalize true -n 102400 --segment 10240 --evaluation.interval 10240"
    other ppo_native --learner native $ppo
    other ppo_sb3    --learner sb3    $ppo

Writes every evaluation (learning.csv) and two figures, and prints tables in Markdown. What is
compared is the mean return of the validation episodes at one timestep, the same for every run; a
run that has not come that far is left out, and named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
from reference_against_published import PUBLISHED
from scipy.stats import ttest_1samp

from gallop import figures
from gallop.run_directory import RunDirectory, write_bytes
from gallop.statistics import N_RESAMPLES, bootstrap_interval, interquartile_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPARED_AT = {"sac": 100_000, "td3": 30_000, "ppo": 102_400}
MARGIN = 0.15  # of the float32 mean; declared before any run
LEVEL = 0.05
NONE = "–"

Curve = dict[int, float]
"""Timestep → mean return of the validation episodes."""
Runs = dict[int, Curve]
"""Training seed → curve."""


class Arm(NamedTuple):
    label: str
    settings: dict[str, object]
    """What experiment.yaml must say, so that no run stands under a wrong name."""
    colour: str
    marker: str


_SB3 = Arm("SB3", {"learner": "sb3"}, figures.BASELINE, "s")
_NATIVE = Arm("native", {"learner": "native"}, figures.TRAINED, "o")
ARMS = {
    "sac_f32": _NATIVE._replace(label="native float32"),
    "sac_bf16": Arm("native bf16", {"learner": "native", "precision": "bf16"}, "#e0a030", "^"),
    "sac_sb3": _SB3,
    "td3_native": _NATIVE,
    "td3_sb3": _SB3,
    "ppo_native": _NATIVE,
    "ppo_sb3": _SB3,
}


def main(results: Path, output: Path) -> None:
    runs, left_out = read(results)
    lines = ["arm,training_seed,timestep,mean_return"]
    for arm, seeds in runs.items():
        for seed, curve in seeds.items():
            lines += [f"{arm},{seed},{t},{value!r}" for t, value in curve.items()]
    write_bytes(output / "learning.csv", ("\n".join(lines) + "\n").encode())
    for name, algorithms in (("sac", ["sac"]), ("td3_ppo", ["td3", "ppo"])):
        draw(output / f"{name}.png", algorithms, runs)
    for algorithm in COMPARED_AT:
        report(algorithm, {arm: runs[arm] for arm in runs if arm.startswith(algorithm)})
    print(f"\nLeft out, not that far yet: {', '.join(left_out) or 'none'}.")


def read(results: Path) -> tuple[dict[str, Runs], list[str]]:
    """The runs of every arm that has any, by seed, and the names of the unfinished ones."""
    found: dict[str, Runs] = {}
    left_out = []
    for arm, (_, settings, *_) in ARMS.items():
        algorithm = arm.partition("_")[0]
        paths = (results / f"{algorithm.upper()}_HalfCheetah-v5").glob(f"{arm}_s*")
        numbered = {int(p.name[len(arm) + 2 :]): p for p in paths if re.search(r"_s\d+$", p.name)}
        for seed, path in sorted(numbered.items()):
            evaluations = RunDirectory(path).read_evaluations()
            if evaluations is None or COMPARED_AT[algorithm] not in evaluations.timesteps:
                left_out.append(path.name)
                continue
            written = yaml.safe_load((path / "experiment.yaml").read_text(encoding="utf-8"))
            wanted = {"algo": algorithm, "training_seed": seed, **settings}
            if arm == "sac_f32" and written.get("precision") == "bf16":
                raise SystemExit(f"{path} is a run in bf16")
            for setting, value in wanted.items():
                if written.get(setting) != value:
                    raise SystemExit(f"{path}: {setting} is {written.get(setting)}, not {value}")
            means = evaluations.results.mean(axis=1)
            curve = {int(t): float(m) for t, m in zip(evaluations.timesteps, means, strict=True)}
            found.setdefault(arm, {})[seed] = curve
    return found, left_out


# --- numbers -------------------------------------------------------------------------------------


def outcome(runs: Runs, timestep: int, n_evaluations: int) -> dict[int, float]:
    """Mean over the last evaluations up to a timestep, by training seed."""
    last = {
        seed: [t for t in curve if t <= timestep][-n_evaluations:] for seed, curve in runs.items()
    }
    return {seed: float(np.mean([runs[seed][t] for t in last[seed]])) for seed in runs}


def compare(ours: dict[int, float], theirs: dict[int, float]) -> list[str]:
    """Cells: kind, difference, ratio and probability of improvement, with bootstrap intervals.

    Training seeds are resampled, in pairs where both have the same. The probability is that of a
    run of ours beating a run of theirs, over all such pairs of runs (Agarwal et al. 2021).
    """
    paired = ours.keys() == theirs.keys()
    a, b = (np.array([values[seed] for seed in sorted(values)]) for values in (ours, theirs))
    generator = np.random.default_rng(0)
    picks_a = generator.integers(0, a.size, (N_RESAMPLES, a.size))
    picks_b = picks_a if paired else generator.integers(0, b.size, (N_RESAMPLES, b.size))

    def cell(statistic: Callable[..., NDArray[np.float64]], form: str) -> str:
        value = shown(float(statistic(a, b)), form)
        if min(a.size, b.size) < 2:
            return f"{value} [{NONE}]"
        low, high = np.quantile(statistic(a[picks_a], b[picks_b]), [0.025, 0.975])
        return f"{value} [{shown(low, form)}, {shown(high, form)}]"

    def improvement(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = x[..., :, None], y[..., None, :]
        return np.asarray(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))

    return [
        f"paired, {a.size}" if paired else f"unpaired, {a.size} and {b.size}",
        cell(lambda x, y: x.mean(-1) - y.mean(-1), "+,.0f"),
        # Where a return may be negative, a ratio of means says nothing.
        cell(lambda x, y: x.mean(-1) / y.mean(-1), ".2f") if min(*a, *b) > 0 else NONE,
        cell(improvement, ".2f"),
    ]


def equivalence(ours: dict[int, float], theirs: dict[int, float]) -> list[str]:
    """Cells of two one-sided paired t-tests (TOST) of means within ±15 % of theirs.

    "Equivalent" needs both tests to reject at 5 %: the 90 % interval lies within the margin.
    "Different" is what is not equivalent and has a two-sided paired t-test that rejects at 5 %.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    base = np.array([theirs[seed] for seed in seeds])
    differences = np.array([ours[seed] for seed in seeds]) - base
    if len(seeds) < 2:
        return [str(len(seeds)), *[NONE] * 7, "inconclusive"]
    scale = float(base.mean())
    above = float(ttest_1samp(differences, -MARGIN * scale, alternative="greater").pvalue)
    below = float(ttest_1samp(differences, MARGIN * scale, alternative="less").pvalue)
    equal = ttest_1samp(differences, 0)
    low, high = equal.confidence_interval(1 - 2 * LEVEL)
    verdict = "different" if equal.pvalue < LEVEL else "inconclusive"
    percent = [shown(100 * float(v) / scale, "+.1f") for v in (differences.mean(), low, high)]
    return [
        str(len(seeds)),
        shown(scale),
        shown(scale + float(differences.mean())),
        shown(1 + float(differences.mean()) / scale, ".3f"),
        "{} [{}, {}]".format(*percent),
        f"{above:.2g}",
        f"{below:.2g}",
        f"{equal.pvalue:.2g}",
        "equivalent" if max(above, below) < LEVEL else verdict,
    ]


def report(algorithm: str, arms: dict[str, Runs]) -> None:
    """Print the tables of one algorithm."""
    timestep = COMPARED_AT[algorithm]
    measures = {f"at {figures.short(timestep)}": 1, "mean of the last three evaluations": 3}
    values = {
        (measure, arm): outcome(runs, timestep, n)
        for measure, n in measures.items()
        for arm, runs in arms.items()
    }
    print(f"\n## {algorithm.upper()}\n\nIntervals: 95 % bootstrap over training seeds.\n")
    rows = []
    for (measure, arm), by_seed in values.items():
        sample = np.array(list(by_seed.values()))
        cells = [
            f"{shown(sample.mean())} {NONE}",
            f"{shown(float(interquartile_mean(sample)))} {NONE}",
        ]
        rows.append([measure, ARMS[arm].label, str(sample.size), *cells])
    table("return | arm | n | mean [interval] | IQM [interval]", rows)


def table(header: str, rows: Iterable[Sequence[str]]) -> None:
    """Print Markdown."""
    print(f"| {header} |", "|---" * (header.count("|") + 1) + "|", sep="\n")
    print(*(f"| {' | '.join(row)} |" for row in rows), sep="\n", end="\n\n")


def shown(value: float, form: str = ",.0f") -> str:
    """A number, with a minus sign that is one."""
    return f"{value:{form}}".replace("-", "−")
    timesteps = common(runs.values(), 0, end)
    values = np.array([[curve[t] for curve in runs.values()] for t in timesteps])
    if len(runs) > 1:
        bands = [bootstrap_interval(row, np.random.default_rng(0)) for row in values]
        axes.fill_between(timesteps, *zip(*bands), color=arm.colour, alpha=0.25, linewidth=0)
    style = {"color": arm.colour, "marker": arm.marker, "linewidth": 2.5, "markersize": 5}
    axes.plot(timesteps, values.mean(axis=1), **style, label=f"{arm.label}, n = {len(runs)}")
    longer = [curve for curve in runs.values() if max(curve) > end]
    if longer:
        timesteps = common(longer, end, max(map(max, longer)))
        means = [np.mean([curve[t] for curve in longer]) for t in timesteps]
        style |= {"linewidth": 1.5, "markersize": 3, "linestyle": "--"}
        label = f"the {len(longer)} of these that go on (no band)"
        axes.plot(timesteps, means, **style, label=label)


def common(curves: Iterable[Curve], start: int, end: int) -> list[int]:
    """The timesteps from start to end at which every curve has an evaluation."""
    return [t for t in sorted(set.intersection(*map(set, curves))) if start <= t <= end]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: learning_against_sb3.py RESULTS_FOLDER OUTPUT_FOLDER")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
