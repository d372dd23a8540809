"""Compare the time per trial of `gallop tune` and rl-baselines3-zoo's `--optimize`.

    python benchmarks/search_against_zoo.py --zoo PYTHON [--trials 4] [--timesteps 10000]
        [--rounds 2] [--output FILE.csv]

PYTHON is the interpreter of an environment with rl_zoo3, pandas and gymnasium[mujoco]. Both search
SAC on HalfCheetah-v5 with two evaluations of one episode per trial, one training seed, random
sampling and no pruner. Instead of its own sampler, the Zoo gets the hyper-parameters that Gallop
sampled, so that both train the same trials. Both run as they do by default: Gallop with one process
per core, the Zoo with one trial after another in one process with PyTorch's threads. The two take
turns. The result is the wall-clock time of the whole command divided by the number of trials. Every
measurement is added to the CSV. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measurements import Measurements

from gallop.experiments import search_results

COLUMNS = ["round", "trials", "timesteps", "gallop_seconds", "zoo_seconds", "ratio"]
SEARCH = """\
experiment:
  algo: sac
  env: HalfCheetah-v5
  total_timesteps: {timesteps}
  segment: {half}
  evaluation: {{interval: {half}, n_episodes: 1}}
first_trial: sampled
search_seed: {seed}
sampler: {{name: random}}
retraining: {{n_best: 0}}
rounds:
  - n_trials: {trials}
    space:
      learning_rate: {{low: 1.0e-4, high: 3.0e-3, log: true}}
      batch_size: [128, 160, 192, 224, 256]
      gamma: {{low: 0.99, high: 0.997}}
"""
# The program of the Zoo's process: its own command, with our trials instead of its sampler.
ZOO = """\
import json, sys
from rl_zoo3 import hyperparams_opt, train
trials = json.loads(sys.argv.pop(1))
def sample(trial, n_actions, n_envs, additional_args):
    for name, value in trials[trial.number].items():
        trial.set_user_attr(name, value)
    return dict(trials[trial.number])
hyperparams_opt.HYPERPARAMS_SAMPLER["sac"] = sample
train.train()
"""


def gallop_seconds(folder: Path, options: argparse.Namespace, seed: int) -> float:
    file = folder / "search.yaml"
    text = SEARCH.format(
        timesteps=options.timesteps, half=options.timesteps // 2, trials=options.trials, seed=seed
    )
    file.write_text(text)
    command = [sys.executable, "-m", "gallop", "tune", str(file), "--name", "x", "--quiet"]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    return time.perf_counter() - start


def zoo_seconds(folder: Path, options: argparse.Namespace) -> float:
    (found,) = folder.glob("optuna_results/plots/*/x")
    trials = search_results.read(found).trials
    settings = json.dumps([dict(trial["hyperparameters"]) for trial in trials])
    empty = folder / "sac.yml"
    empty.write_text(
        f"HalfCheetah-v5:\n  n_timesteps: !!float {options.timesteps}\n  policy: 'MlpPolicy'\n"
    )
    command = [
        *(str(options.zoo.absolute()), "-c", ZOO, settings),
        *("--algo", "sac", "--env", "HalfCheetah-v5"),
        *("-n", str(options.timesteps), "-optimize", "--n-trials", str(options.trials)),
        *("--sampler", "random", "--pruner", "none", "--n-evaluations", "2"),
        *("--eval-episodes", "1", "--conf-file", str(empty), "-f", str(folder / "logs")),
        *("--no-optim-plots", "--verbose", "0", "--device", "cpu"),
    ]
    log = folder / "zoo.log"
    start = time.perf_counter()
    with log.open("w") as file:
        done = subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    seconds = time.perf_counter() - start
    text = log.read_text()
    assert done.returncode == 0 and f"finished trials:  {options.trials}" in text, text[-2000:]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--timesteps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    measurements, ratios = Measurements(options.output, COLUMNS), []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as temporary:
            ours = gallop_seconds(Path(temporary), options, seed=number) / options.trials
            theirs = zoo_seconds(Path(temporary), options) / options.trials
        ratios.append(theirs / ours)
        print(f"per trial: gallop {ours:.1f} s, the Zoo {theirs:.1f} s, ratio {ratios[-1]:.2f}")
        measurements.add(number, options.trials, options.timesteps, ours, theirs, ratios[-1])
    print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})")


if __name__ == "__main__":
    main()
