r"""Measure how sparse the networks grow in one run, and how fast it trains meanwhile.

    python benchmarks/density.py [--timesteps 300000] [--stretch 10000] [--output FILE.csv]

Trains the reference experiment (SAC, batch 128, HalfCheetah-v5) with the native learner, training
seed 0. After each stretch, it computes with NumPy, from the weights and from 16 batches of the
replay buffer, for each hidden layer of the actor and of the critics

    density   the share of activations that are not zero
    silent    the share of units that are zero for a whole batch, mean over the batches

and writes them to the CSV at once, with the SPS of the stretch (without these computations) and the
seconds since the start (with them). The figure, a PNG beside the CSV, is drawn anew after each
stretch, so that a run that was cut off has one too. The run takes 8 to 15 minutes on two cores.
Runs are added to the CSV and never replaced. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from contestant import native_learner
from growth import SPEED
from measurements import Measurements
from numpy.typing import NDArray
from trained import experiments, segments

from gallop import machine
from gallop.report.figures import BASELINE, INK, TRAINED

COLUMNS = ["instruction_set", "timestep", "network", "layer", "density", "silent", "sps", "seconds"]
N_BATCHES = 16
COLOURS = {"actor": TRAINED, "critic0": BASELINE, "critic1": INK}


class Sparsity(NamedTuple):
    """Of one hidden layer."""

    density: float
    silent: float


def sparsity(layers: list[tuple[Any, Any]], batches: NDArray[np.float32]) -> list[Sparsity]:
    """Compute the sparsity of each hidden layer.

    Args:
        layers: weight [outputs, inputs] and bias [outputs] of each layer; the last is the output.
        batches: inputs [batches, batch, inputs].
    """
    found, x = [], batches
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight.T + bias, 0)
        active = x > 0
        found.append(Sparsity(float(active.mean()), 1 - float(active.any(axis=1).mean())))
    return found


def of_networks(learner: Any, batch: int, rng: np.random.Generator) -> dict[str, list[Sparsity]]:
    """Compute the sparsity of the actor and of each critic on batches of the replay buffer."""
    rows = learner.replay.sample(rng, (N_BATCHES, batch))
    arrays = learner.replay.arrays
    observations = arrays["observations"][rows]
    with_actions = np.concatenate([observations, arrays["actions"][rows]], axis=-1)
    return {
        name: sparsity(
            network.read(network.parameters), observations if name == "actor" else with_actions
        )
        for name, network in learner.networks.items()
    }


def draw(curves: Mapping[str, list[float]], path: Path) -> None:
    """Draw the density of each layer, and below it the SPS, against timesteps.

    Args:
        curves: "timestep", "SPS", and a density per "NETWORK LAYER".
        path: of the PNG.
    """
    figure, (upper, lower) = plt.subplots(
        2, 1, sharex=True, figsize=(8, 6.5), height_ratios=(3, 2), layout="constrained"
    )
    for name, values in curves.items():
        if name not in ("timestep", "SPS"):
            network, layer = name.split()
            style = "-" if layer == "1" else "--"
            label = f"{network}, hidden layer {layer}"
            percent = [100 * value for value in values]
            upper.plot(curves["timestep"], percent, style, color=COLOURS[network], label=label)
    upper.set(ylabel="activations that are not zero, %", ylim=(0, None))
    upper.legend(frameon=False, ncols=2)
    lower.plot(curves["timestep"], curves["SPS"], color=TRAINED)
    lower.set(xlabel="timesteps", ylabel="timesteps per second", ylim=(0, None), xlim=(0, None))
    lower.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.suptitle("Density and speed of one run: SAC, batch 128, HalfCheetah-v5")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--timesteps", type=int, default=300_000)
    parser.add_argument("--stretch", type=int, default=10_000, help="timesteps between rows")
    parser.add_argument("--output", type=Path, default=SPEED / "density.csv")
    options = parser.parse_args()
    measurements, instructions = Measurements(options.output, COLUMNS), machine.instruction_set()
    experiment, environments, learner = native_learner({"experiment": experiments()["sac128"]})
    batch, rng = experiment.hyperparameters.batch_size, np.random.default_rng(0)
    curves: dict[str, list[float]] = {"timestep": [], "SPS": []}
    started = perf_counter()
    stretches = segments(experiment, environments, learner, options.timesteps, options.stretch)
    for sps in stretches:
        seconds, timestep = perf_counter() - started, learner.timestep
        curves["timestep"].append(timestep)
        curves["SPS"].append(sps)
        for network, layers in of_networks(learner, batch, rng).items():
            for layer, (density, silent) in enumerate(layers, 1):
                row = (timestep, network, layer, density, silent, sps, seconds)
                measurements.add(instructions, *row)
                curves.setdefault(f"{network} {layer}", []).append(density)
        draw(curves, options.output.with_suffix(".png"))
        left = seconds / timestep * (options.timesteps - timestep) / 60
        densities = ", ".join(f"{k} {v[-1]:.0%}" for k, v in curves.items() if " " in k)
        print(f"{timestep:,}: {sps:,.0f} SPS, {densities}; {left:.1f} min left", flush=True)
    environments.close()


if __name__ == "__main__":
    main()
