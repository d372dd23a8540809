r"""Measure how a timestep's time grows: with the replay buffer, the width and the environments.

    python benchmarks/growth.py [--seconds 2] [--rounds 5] [--output FILE.csv]

HalfCheetah-v5, native learner; only one thing changes at a time:

    transitions   SAC, the reference experiment (batch 128): 10,000 to 1,000,000 transitions in the
                  replay buffer
    width         the same with 100,000 transitions: 64 to 1024 units in each of two hidden layers
    n_envs (SAC)  the same from the start: 1, 4 and 16 environments in one process
    n_envs (PPO)  PPO with SB3's defaults: 1, 4 and 16 environments; whole rollouts

The weights are new, so they are less sparse than later in a run, and the transitions of the first
two series are random numbers. Each setting has its own process, and those of a series take turns.
A turn takes about --seconds, so that everything takes three to five minutes. Every measurement is
added to the CSV; runs are added and never replaced. The figure, a PNG beside the CSV, shows this
run: medians, and bars from the fastest to the slowest round. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from measurements import Measurements
from native_against_peers import Child, Contestant
from trained import experiments

from gallop import machine
from gallop.report.figures import BASELINE, TRAINED

SPEED = Path(__file__).parents[1] / "docs" / "results" / "speed"
COLUMNS = ["instruction_set", "series", "x", "round", "us_per_timestep"]
TRANSITIONS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
WIDTHS = (64, 128, 256, 512, 1024)
N_ENVS = (1, 4, 16)
ROLLOUT = 2_048  # timesteps of each environment
WARM_UP = 120  # timesteps: more than learning_starts

Series = dict[int, list[float]]
"""x -> µs per timestep in each round."""


def all_series() -> dict[str, dict[int, tuple[Contestant, int]]]:
    """Name -> x -> contestant, and the timesteps of which its turns are multiples."""
    reference, sac, _ = experiments().values()
    ppo = {name: value for name, value in sac.items() if name != "algo"} | {"algo": "ppo"}

    def native(experiment: dict[str, Any], **spec: Any) -> Contestant:
        spec = {"work": "native", "task": "learn", "experiment": experiment} | spec
        return Contestant("native", "", spec)

    def wide(width: int) -> dict[str, Any]:
        hyperparameters = reference["hyperparameters"] | {
            "policy_kwargs": {"net_arch": [width, width]}
        }
        return reference | {"hyperparameters": hyperparameters}

    # A segment contains a whole episode of each environment.
    longer = {"segment": 20_000, "evaluation": reference["evaluation"] | {"interval": 20_000}}
    return {
        "transitions": {n: (native(reference, full=n), 1) for n in TRANSITIONS},
        "width": {width: (native(wide(width), full=100_000), 1) for width in WIDTHS},
        "n_envs (SAC)": {n: (native(reference | longer | {"n_envs": n}), n) for n in N_ENVS},
        "n_envs (PPO)": {n: (native(ppo | {"n_envs": n}), n * ROLLOUT) for n in N_ENVS},
    }


def measure(
    name: str,
    contestants: dict[int, tuple[Contestant, int]],
    options: argparse.Namespace,
    measurements: Measurements,
) -> Series:
    """Let the contestants of one series take turns."""
    found: Series = {x: [] for x in contestants}
    with contextlib.ExitStack() as stack:
        turns = {}
        for x, (contestant, multiple) in contestants.items():
            child = stack.enter_context(Child(contestant))
            warm_up = -(-WARM_UP // multiple) * multiple
            child.ask(warm_up)
            speed = child.ask(warm_up)["SPS"]
            turns[x] = child, max(1, round(options.seconds * speed / multiple)) * multiple
        for number in range(options.rounds):
            for x, (child, n) in turns.items():
                found[x].append(1e6 / child.ask(n)["SPS"])
                measurements.add(machine.instruction_set(), name, x, number, found[x][-1])
    for x, times in found.items():
        print(f"{name:14}{x:10,}{statistics.median(times):12,.1f} µs per timestep", flush=True)
    return found


def draw(found: dict[str, Series], path: Path) -> None:
    """Draw three panels: transitions, width, n_envs."""
    figure, (transitions, width, n_envs) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    panels = {
        "transitions": (transitions, "transitions in the replay buffer", TRAINED, "SAC"),
        "width": (width, "width of both hidden layers", TRAINED, "SAC"),
        "n_envs (SAC)": (n_envs, "environments", TRAINED, "SAC"),
        "n_envs (PPO)": (n_envs, "environments", BASELINE, "PPO"),
    }
    for name, series in found.items():
        axes, title, colour, label = panels[name]
        middles = [statistics.median(times) for times in series.values()]
        below = [m - min(times) for m, times in zip(middles, series.values(), strict=True)]
        above = [max(times) - m for m, times in zip(middles, series.values(), strict=True)]
        style: dict[str, Any] = {"marker": "o", "capsize": 3, "color": colour, "label": label}
        axes.errorbar(list(series), middles, (below, above), **style)
        axes.set(xscale="log", xlabel=title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        if axes is transitions:
            axes.set(ylim=(0, 1.5 * max(middles)), ylabel="µs per timestep")
        else:
            axes.set_yscale("log")
            axes.set_xticks(list(series), [str(x) for x in series])
            axes.xaxis.minorticks_off()
    n_envs.legend(frameon=False)
    figure.suptitle("Time of a timestep, native learner on HalfCheetah-v5 (medians and ranges)")
    figure.savefig(path, dpi=150)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--seconds", type=float, default=2, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=SPEED / "growth.csv")
    options = parser.parse_args()
    measurements = Measurements(options.output, COLUMNS)
    found = {
        name: measure(name, contestants, options, measurements)
        for name, contestants in all_series().items()
    }
    draw(found, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
