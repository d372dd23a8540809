r"""Compare the speed of environments alone: Gallop's, Gymnasium's, SB3's and EnvPool's.

    python benchmarks/environments.py [--rounds 9] [--timesteps 16000] [--n-envs 1 16]
        [--envpool PYTHON] [--output FILE.csv]

HalfCheetah-v5 with random actions that are drawn before. Every contestant runs in its own process
and works on request, so that contestants take turns (A B C A B C) within one run. The contestants:

    gallop     Gallop's training environments, the physics on one and on two threads
    itself     the same, but every environment steps itself (as do tasks that are not Gymnasium's)
    gymnasium  one environment of gymnasium.make, without any of the above
    sync       Gymnasium's SyncVectorEnv
    sb3        SB3's make_vec_env: DummyVecEnv and Monitor
    envpool    EnvPool on one and on two threads

PYTHON is the interpreter of an environment with envpool; without it EnvPool is left out. EnvPool
has its own MuJoCo of another version, and float32 rewards. Prints medians of timesteps per second
(of all environments together) with 95 % bootstrap intervals, and adds every measurement to the CSV
(next to this file by default) and the machine to FILE_machines.csv. Runs are added and never
replaced, even if one came out badly. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from native_against_peers import Book, Child, Contestant, compare, threads

TASK = {"work": "stepping", "env": "HalfCheetah-v5", "n_actions": 6}


def contestants(n_envs: int, envpool: str | None) -> list[Contestant]:
    """Those for this number of environments, Gallop's own two first."""

    def contestant(
        name: str, library: str, python: str = sys.executable, **spec: Any
    ) -> Contestant:
        n_threads = spec.get("n_threads", 1)
        spec = TASK | {"library": library, "n_envs": n_envs, "n_threads": 1} | spec
        return Contestant(name, threads(n_threads), spec, python)

    several = (1, 2) if n_envs > 1 else (1,)
    found = [contestant("gallop", "gallop", fast=True, n_threads=n) for n in reversed(several)]
    found.append(contestant("itself", "gallop", fast=False))
    if n_envs == 1:
        found.append(contestant("gymnasium", "gymnasium"))
    found += [contestant("sync", "sync"), contestant("sb3", "sb3")]
    if envpool:
        found += [contestant("envpool", "envpool", envpool, n_threads=n) for n in several]
    return found


def turns(
    book: Book, part: str, taking_part: Sequence[Contestant], n: int, rounds: int
) -> list[list[dict[str, float]]]:
    """Answers of each contestant in each round, written to the CSV."""
    found: list[list[dict[str, float]]] = [[] for _ in taking_part]
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(contestant)) for contestant in taking_part]
        for child in children:
            child.ask(n // 4)  # warms up
        for number in range(rounds):
            for contestant, child, answers in zip(taking_part, children, found, strict=True):
                answers.append(child.ask(n))
                book.add(part, contestant, number, {"SPS": answers[-1]["SPS"]})
    return found


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--timesteps", type=int, default=16_000, help="of a turn")
    parser.add_argument("--n-envs", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--envpool", help="the interpreter of an environment with EnvPool")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the contestants first
    book = Book(options.output)
    packages = ("gymnasium", "mujoco", "numpy", "stable-baselines3")
    book.add_machine(options.envpool, peers=("envpool",), own=packages)
    for n_envs in options.n_envs:
        taking_part = contestants(n_envs, options.envpool)
        part = f"{n_envs} environments" if n_envs > 1 else "1 environment"
        found = turns(book, part, taking_part, options.timesteps, options.rounds)
        compare(part, taking_part, found, "SPS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
