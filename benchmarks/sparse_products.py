r"""Time SAC's gradient step at different densities, with zeros multiplied and with zeros left out.

    python benchmarks/sparse_products.py [--rounds 7] [--steps 20] [--output FILE.csv]

The networks are random (256 x 256, batch 128, one thread); a shift of all hidden biases sets how
many of their units are not zero, and a learning rate of 0 keeps them there. Each instruction set of
this processor computes every density in three ways in turns: dense, sparse, and as the kernels
choose. So this shows below which density leaving out zeros pays (PAYS_BELOW in native/sparse.hpp),
and that the choice is never slower than dense. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from measurements import Measurements

from gallop import _kernels
from gallop.policies import kernels
from gallop.policies.kernels import Mlp, Shape

OBSERVATIONS, ACTIONS, HIDDEN, BATCH, ROWS = 17, 6, (256, 256), 128, 4096
SHIFTS = (-1.5, -1.0, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1.0, 1.5, 3.0)
WAYS = {"dense": 0.0, "sparse": 2.0, "chosen": None}
COLUMNS = ("instruction_set", "density", "way", "round", "microseconds")


def network(engine: Any, inputs: int, outputs: int, shift: float, seed: int) -> Mlp:
    """A random network that learns, with its hidden biases shifted."""
    rng = np.random.default_rng(seed)
    widths = [inputs, *HIDDEN, outputs]
    mlp = Mlp(engine, Shape(widths, "relu", "none"), learns=True, target=True)
    layers = []
    for number, (m, n) in enumerate(itertools.pairwise(widths)):
        bias = np.full(n, shift if number < len(HIDDEN) else 0.0)
        layers.append((rng.standard_normal((n, m)) / np.sqrt(m), bias))
    mlp.write(mlp.parameters, layers)
    if mlp.target is not None:
        mlp.target[:] = mlp.parameters
    return mlp


class Step:
    """SAC's gradient step on random transitions."""

    def __init__(self, instruction_set: str, shift: float, sparse_below: float | None) -> None:
        engine = kernels.engine(1, instruction_set, sparse_below=sparse_below)
        self._actor = network(engine, OBSERVATIONS, 2 * ACTIONS, shift, 0)
        inputs = OBSERVATIONS + ACTIONS
        self._critics = [network(engine, inputs, 1, shift, seed) for seed in (1, 2)]
        self._kernel = _kernels.Sac(
            actor=self._actor.kernel,
            critics=[critic.kernel for critic in self._critics],
            entropy=np.zeros(3, np.float32),
            adam=_kernels.AdamSettings(beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0),
            batch=BATCH,
            gamma=0.99,
            tau=0.005,
            learn_entropy=True,
            target_entropy=-float(ACTIONS),
            target_update_interval=1,
        )
        rng = np.random.default_rng(0)
        self.observations = rng.standard_normal((ROWS + 1, OBSERVATIONS), np.float32)
        self.actions = np.tanh(rng.standard_normal((ROWS, ACTIONS), np.float32))
        self._kernel.use_replay(
            observations=self.observations,
            following=np.arange(1, ROWS + 1, dtype=np.int32),
            actions=self.actions,
            rewards=rng.standard_normal(ROWS, np.float32),
            ends=np.zeros(ROWS, np.bool_),
        )

    def density(self) -> float:
        """Share of the critics' hidden activations that are not zero."""
        shares = []
        x = np.concatenate([self.observations[:-1], self.actions], axis=1)
        for critic in self._critics:
            y = x
            for weight, bias in critic.read(critic.parameters)[:-1]:
                y = np.maximum(y @ weight.T + bias, 0)
                shares.append(float((y > 0).mean()))
        return statistics.mean(shares)

    def microseconds(self, n: int, seed: int) -> float:
        """Time of one of n gradient steps."""
        rng = np.random.default_rng(seed)
        indices = rng.integers(0, ROWS, (n, BATCH))
        noise = rng.standard_normal((n, 2, BATCH, ACTIONS), np.float32)
        started = perf_counter()
        self._kernel.step(indices=indices, noise=noise, learning_rate=0.0, n_done=0)
        return 1e6 * (perf_counter() - started) / n


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="gradient steps per turn")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    book = Measurements(options.output, COLUMNS)
    for name in _kernels.instruction_sets():
        print(f"{name}\n{'density':>9}{'dense':>9}{'sparse':>9}{'chosen':>9}  chosen / dense")
        for shift in SHIFTS:
            steps = {way: Step(name, shift, below) for way, below in WAYS.items()}
            density = steps["dense"].density()
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for number in range(options.rounds + 1):
                for way, step in steps.items():
                    took = step.microseconds(options.steps, number)
                    if number:  # the first one warms up
                        times[way].append(took)
                        book.add(name, density, way, number, took)
            medians = {way: statistics.median(values) for way, values in times.items()}
            shown = "".join(f"{value:9,.0f}" for value in medians.values())
            ratio = medians["chosen"] / medians["dense"]
            print(f"{density:9.1%}{shown}{ratio:10.2f}", flush=True)


if __name__ == "__main__":
    main()
