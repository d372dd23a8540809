r"""Compare the native learner with its peers: stock SB3 and, if it is installed, SBX (JAX).

    python benchmarks/native_against_peers.py [--parts sac128,ppo,...] [--rounds 5]
        [--timesteps 2000] [--trained FOLDER] [--sbx PYTHON] [--output FILE.csv]

Every contestant runs in its own process and works on request, so that contestants take turns
(A B C A B C) within one run and share neither threads nor libraries. HalfCheetah-v5, CPU, float32.
The parts:

    sac128       the reference experiment: SAC, batch 128; whole loop, UTD ratio 1
    sac256       SAC with SB3's defaults, batch 256
    td3256       TD3 with SB3's defaults and normal noise of 0.1, batch 256
    ppo          PPO with SB3's defaults, whole rollouts; each side with the number and kind of
                 environments (in one process or in workers) that were fastest in a first turn
    evaluation   ten episodes: gallop.evaluation and SB3's evaluate_policy, same weights
    memory       peak resident memory of training with a full replay buffer of 1,000,000
    peak         gradient steps alone, as a share of the peak FLOP/s of the same threads
    timestep     how the time of one timestep of the native SAC and TD3 is spent
    contrib      TQC and CrossQ of SB3-Contrib, which the product runs on SB3's learner, beside the
                 native SAC of the same batch; estimates what native kernels for them would gain

The time of the native learner includes the costs of a segment in a run (new simulators, seeded
streams); SB3 and SBX do one long `learn`. SB3 runs with one and with two threads of torch; the
better median counts. PYTHON is the interpreter of an environment with sbx-rl and gymnasium[mujoco];
without it SBX is left out. Prints medians with 95 % bootstrap intervals of the median, and adds
every measurement to the CSV (next to this file by default) and the machine to FILE_machines.csv.
Runs are added and never replaced, even if one came out badly. Measure on an idle machine.

With --trained, sac128, sac256, td3256, peak, timestep and contrib start from the states at 100,000
timesteps that trained.py has written to FOLDER, policy and replay buffer, and the CSV calls these
parts PART_trained. SBX and SB3-Contrib get the same replay buffer but new weights: they cannot read
the policy, and as they skip no zeros, their speed does not depend on it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from contestant import gradient_step_flop
from trained import experiments

from gallop import machine
from gallop.evaluation.statistics import bootstrap_interval
from gallop.experiments.seeding import initialisation_seed
from gallop.policies import kernels

CONTESTANT = Path(__file__).with_name("contestant.py")
COLUMNS = ["run", "part", "contestant", "setting", "round", "value", "unit"]
N_EPISODES = 10
PARTS = "sac128,sac256,td3256,ppo,evaluation,memory,peak,timestep,contrib"


class ContestantError(RuntimeError):
    """A contestant ended before it answered; it has printed the reason."""


class Contestant(NamedTuple):
    name: str
    setting: str
    spec: dict[str, Any]  # the argument of contestant.py
    python: str = sys.executable


class Child:
    """A contestant's process; it ends with the `with` block."""

    def __init__(self, contestant: Contestant) -> None:
        self._name = f"{contestant.name} ({contestant.setting})"
        command = [contestant.python, CONTESTANT, json.dumps(contestant.spec)]
        pipe = subprocess.PIPE
        self._process: Any = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )

    def __enter__(self) -> Child:
        try:
            self._answer()  # waits until it is ready
        except BaseException as error:
            self.__exit__(error)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # asks it to end
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.1 if any(error) else 10)
        with contextlib.suppress(ProcessLookupError):  # ends its workers too
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def ask(self, n: int) -> dict[str, float]:
        with contextlib.suppress(BrokenPipeError):
            print(n, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        if line := self._process.stdout.readline():
            answer: dict[str, float] = json.loads(line)
            return answer
        raise ContestantError(f"{self._name} ended early; its message is above")


class Book:
    """The two CSV files, and the number of this run in them."""

    def __init__(self, path: Path) -> None:
        self._path, self._machines = path, path.with_name(f"{path.stem}_machines.csv")
        lines = self._machines.read_text().splitlines()[1:] if self._machines.exists() else []
        self._run = 1 + max((int(line.split(",")[0]) for line in lines), default=0)

    def add(self, part: str, which: Contestant, number: int, values: Mapping[str, float]) -> None:
        for unit, value in values.items():
            row = [part, which.name, which.setting, number, f"{value:.6g}", unit]
            self._append(self._path, COLUMNS, row)

    def add_machine(
        self,
        python: str | None,
        peers: Sequence[str] = ("sbx-rl", "jax"),
        own: Sequence[str] = ("torch", "stable-baselines3"),
    ) -> None:
        """Write down the machine, and versions: of `own` here, of `peers` in that interpreter."""
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
        command = [python or "", "-c", code, *peers]
        found = subprocess.check_output(command, text=True).split() if python else [""] * len(peers)
        here = {
            "cpu": names[0] if names else platform.processor(),
            "processors": machine.available_processors(),
            "load": f"{os.getloadavg()[0]:.2f}",
            "instruction_set": machine.instruction_set(),
            "python": platform.python_version(),
            **{name: version(name) for name in own},
            **dict(zip(peers, found, strict=True)),
        }
        self._append(self._machines, ["run", *here], list(here.values()))
        print(f"run {self._run}: " + ", ".join(f"{k} {v}" for k, v in here.items() if v))

    def _append(self, path: Path, columns: Sequence[str], row: Sequence[Any]) -> None:
        rows = [[self._run, *row]] if path.exists() else [columns, [self._run, *row]]
        with path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


class Benchmark:
    """The parts, and what they share: options, turns, tables."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.book = options, Book(options.output)
        self.n_threads = kernels.n_threads(None)
        self.reference, self.sac, self.td3 = experiments().values()
        self.task = {name: value for name, value in self.sac.items() if name != "algo"}
        names = ("learning_rate", "batch_size", "gamma", "buffer_size")
        self.kwargs = {name: self.reference["hyperparameters"][name] for name in names}

    def native(self, experiment: Mapping[str, Any], what: str = "", **spec: Any) -> Contestant:
        spec = {"work": "native", "task": "learn", "experiment": experiment} | spec
        return Contestant("native", what + threads(self.n_threads), spec)

    def sb3(self, algo: str, kwargs: Mapping[str, Any], n_threads: int, **spec: Any) -> Contestant:
        what = f"{spec['n_envs']} {spec['vec_env']}, " if "n_envs" in spec else ""
        spec = {"work": "peer", "task": "learn", "n_envs": 1, "vec_env": "dummy"} | spec
        spec |= {"library": "sb3", "algo": algo, "hyperparameters": kwargs, "n_threads": n_threads}
        spec |= {name: self.task[name] for name in ("env", "env_kwargs")}
        spec["eval_env_kwargs"] = self.task["env_kwargs"] | self.task["eval_env_kwargs"]
        spec["seed"] = initialisation_seed(0)  # gives the native learner's initial weights
        return Contestant("sb3", what + threads(n_threads), spec)

    def sbx(self, like: Contestant) -> list[Contestant]:
        if not self.options.sbx:
            return []
        return [Contestant("sbx", "default", like.spec | {"library": "sbx"}, self.options.sbx)]

    def trained(self, part: str) -> dict[str, str]:
        """What to add to a contestant's spec so that it starts from the trained state of a part."""
        return {"state": str(self.options.trained / part)} if self.options.trained else {}

    def named(self, part: str) -> str:
        return f"{part}_trained" if self.options.trained else part

    def turns(
        self,
        part: str,
        contestants: Sequence[Contestant],
        n: int,
        units: Sequence[str],
        *,
        rounds: int,
        warm_up: int = 0,
    ) -> list[list[dict[str, float]]]:
        """Answers of each contestant in each round; writes the named units to the CSV."""
        found: list[list[dict[str, float]]] = [[] for _ in contestants]
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(Child(contestant)) for contestant in contestants]
            for child in children if warm_up else []:
                child.ask(warm_up)
            for number in range(rounds):
                for contestant, child, answers in zip(contestants, children, found, strict=True):
                    answers.append(child.ask(n))
                    values = {unit: answers[-1][unit] for unit in units}
                    self.book.add(part, contestant, number, values)
        return found

    # --- the parts ---

    def off_policy(self, part: str, experiment: Mapping[str, Any], kwargs: Any, sbx: bool) -> None:
        n, options, algo = self.options.timesteps, self.options, experiment["algo"]
        state, part = self.trained(part), self.named(part)
        stock = [self.sb3(algo, kwargs, n_threads, **state) for n_threads in (1, 2)]
        native = self.native(experiment, **state)
        contestants = [native, *stock, *(self.sbx(stock[0]) if sbx else [])]
        found = self.turns(
            part, contestants, n, ["SPS"], rounds=options.rounds, warm_up=options.warm_up
        )
        for answer in itertools.chain(*found):
            assert answer["gradient steps"] == n, f"{answer}: the UTD ratio is not 1"
        compare(f"{part}: whole loop of {algo.upper()}", contestants, found, "SPS")

    def sac128(self) -> None:
        self.off_policy("sac128", self.reference, self.kwargs, sbx=True)

    def sac256(self) -> None:
        self.off_policy("sac256", self.sac, {"batch_size": 256}, sbx=True)

    def td3256(self) -> None:
        kwargs = {"batch_size": 256, "action_noise": 0.1, "train_freq": 1, "gradient_steps": 1}
        self.off_policy("td3256", self.td3, kwargs, sbx=False)

    def ppo(self) -> None:
        n_steps = self.options.n_steps
        kwargs = {"n_steps": n_steps, "batch_size": 64, "n_epochs": 10}

        def ours(n_envs: int, vec_env: str) -> Contestant:
            experiment = {"algo": "ppo", "hyperparameters": kwargs}
            experiment |= self.task | {"n_envs": n_envs, "vec_env": vec_env}
            return self.native(experiment, f"{n_envs} {vec_env}, ")

        def theirs(n_envs: int, vec_env: str, n_threads: int = 1) -> Contestant:
            return self.sb3("ppo", kwargs, n_threads, n_envs=n_envs, vec_env=vec_env)

        def fastest(make: Callable[..., Contestant], settings: Any) -> list[tuple[float, Any]]:
            """Settings with their SPS, fastest first."""
            found = []
            for setting in settings:
                # One rollout, or enough to make the extra cost of the first call negligible.
                n, candidate = n_steps * max(4, setting[0]), make(*setting)
                [[answer]] = self.turns("ppo_choice", [candidate], n, ["SPS"], rounds=1)
                found.append((answer["SPS"], setting))
                print(
                    f"  {candidate.name:8}{candidate.setting:26}{answer['SPS']:8,.0f} SPS",
                    flush=True,
                )
            return sorted(found, reverse=True)

        print("\nppo: one turn of each, to choose the settings", flush=True)
        grid = list(itertools.product(self.options.n_envs, ("dummy", "subproc")))
        [(_, our_best), *_] = fastest(ours, grid)
        found = fastest(theirs, grid)
        found += fastest(theirs, [(*setting, 2) for _, setting in found[:2]])
        their_best = max(found)[1]
        contestants = [ours(*our_best), theirs(*their_best)]
        n = n_steps * max(4, our_best[0], their_best[0])  # whole rollouts of both, in powers of two
        rounds = self.options.rounds
        answers = self.turns("ppo", contestants, n, ["SPS"], rounds=rounds, warm_up=n_steps)
        compare("ppo: the fastest setting of each", contestants, answers, "SPS")

    def evaluation(self) -> None:
        stock = self.sb3("sac", self.kwargs, 1, task="play")
        contestants = [self.native(self.reference, task="play"), stock]
        units, rounds = ["seconds", "mean return"], min(3, self.options.rounds)
        found = self.turns("evaluation", contestants, N_EPISODES, units, rounds=rounds)
        compare(f"evaluation: {N_EPISODES} episodes", contestants, found, "seconds", -1)

    def memory(self) -> None:
        how = {"task": "remember", "full": True}
        stock = self.sb3("sac", self.kwargs, 1, **how)
        contestants = [self.native(self.reference, **how), stock, *self.sbx(stock)]
        n, found = self.options.timesteps, []
        for contestant in contestants:  # a peak is of the whole process, so there is one round
            found += self.turns("memory", [contestant], n, ["MiB"], rounds=1)
        compare("memory: peak resident, full replay buffer", contestants, found, "MiB", -1)

    def peak(self) -> None:
        contestants = []
        sac128 = self.sac | {"hyperparameters": {"batch_size": 128}}
        kinds = [
            ("batch 128", "sac128", sac128),
            ("batch 256", "sac256", self.sac),
            ("td3, batch 256", "td3256", self.td3),
        ]
        for (name, part, experiment), n in itertools.product(kinds, (1, 2)):
            spec = {"work": "peak", "experiment": experiment | {"n_threads": n}}
            spec |= self.trained(part) or {"full": True}
            contestants.append(Contestant("native", f"{name}, {threads(n)}", spec))
        units = ["gradient steps/s", "GFLOP/s", "GFLOP/s of peak", "share of peak"]
        n, rounds = self.options.timesteps // 10, self.options.rounds
        found = self.turns(self.named("peak"), contestants, n, units, rounds=rounds, warm_up=1)
        print(f"\n{self.named('peak')}: gradient steps of the kernels alone; {rounds} rounds")
        for contestant, answers in zip(contestants, found, strict=True):
            for unit in units:
                print(f"  {contestant.setting:27}{unit:18}{median([a[unit] for a in answers])}")

    def timestep(self) -> None:
        pieces = ["act", "env.step", "store", "sample + noise", "gradient step", "rest", "whole"]
        n, rounds, warm_up = self.options.timesteps, self.options.rounds, self.options.warm_up
        kinds = [("timestep", "sac128", self.reference), ("timestep_td3", "td3256", self.td3)]
        for own_name, state, experiment in kinds:
            part, start = self.named(own_name), self.trained(state) or {"full": True}
            contestant = self.native(experiment, work="timestep", **start)
            [answers] = self.turns(part, [contestant], n, [], rounds=rounds, warm_up=warm_up)
            print(f"\n{part}: {contestant.setting}; µs, {rounds} rounds")
            whole = statistics.median(answer["whole"] for answer in answers)
            for piece in pieces:
                own = [answer[piece] for answer in answers]
                for number, value in enumerate(own):
                    named = contestant._replace(setting=piece)
                    self.book.add(part, named, number, {"µs": value})
                print(f"  {piece:16}{median(own):30}{statistics.median(own) / whole:6.1%}")

    def contrib(self) -> None:
        part, n, batch = self.named("contrib"), self.options.timesteps // 4, 256
        state, both = self.trained("sac256"), ["SPS", "gradient steps/s"]
        alone = self.native(self.sac, "gradient steps, ", work="peak", **state)
        kinds = [(self.native(self.sac, **state), both[:1]), (alone, both[1:])]
        for algo in ("tqc", "crossq"):
            stock = self.sb3(algo, {"batch_size": batch}, 1, task="parts", **state)
            spec = stock.spec | {"library": "contrib"}
            kinds.append((Contestant("contrib", f"{algo}, {stock.setting}", spec), both))
        rounds, warm_up = self.options.rounds, self.options.warm_up
        contestants = [contestant for contestant, _ in kinds]
        found = self.turns(part, contestants, n, [], rounds=rounds, warm_up=warm_up)
        print(f"\n{part}: batch {batch}; {rounds} rounds")
        middles = []
        for (contestant, units), answers in zip(kinds, found, strict=True):
            for number, answer in enumerate(answers):
                assert answer.get("gradient steps", n) == n, f"{answer}: the UTD ratio is not 1"
                self.book.add(part, contestant, number, {unit: answer[unit] for unit in units})
            for unit in units:
                own = [answer[unit] for answer in answers]
                middles.append(statistics.median(own))
                print(f"  {contestant.name:10}{contestant.setting:26}{unit:18}{median(own)}")
        ours, our_steps, tqc, _, crossq, _ = middles
        ratios = flop_of_sac(batch)
        for name, theirs, ratio in zip(("TQC", "CrossQ"), (tqc, crossq), ratios, strict=True):
            native = 1 / (1 / ours + (ratio - 1) / our_steps)
            print(
                f"  {name}: {ratio:.2f} times the FLOP of SAC. At the FLOP/s of the native SAC, a"
            )
            print(f"    native {name} makes {native:,.0f} SPS, {native / theirs:.1f} times as many")


def flop_of_sac(batch: int) -> tuple[float, float]:
    """FLOP of a gradient step of TQC and of CrossQ, as a multiple of SAC's.

    With SB3-Contrib's default networks on HalfCheetah: 17 numbers observed, 6 actions.
    """

    def network(inputs: int, width: int, outputs: int) -> list[tuple[int, int, int, int]]:
        return [(inputs, width, 0, 0), (width, width, 0, 0), (width, outputs, 0, 0)]

    def forward(layers: Sequence[tuple[int, int, int, int]], rows: int) -> int:
        return sum(2 * layer[0] * layer[1] * rows for layer in layers)

    def learn(layers: Sequence[tuple[int, int, int, int]], rows: int) -> int:
        return 3 * forward(layers, rows) - forward(layers[:1], rows)

    actor, critic = network(17, 256, 12), network(23, 256, 1)
    quantiles, wide = network(23, 256, 25), network(23, 1024, 1)
    sac = gradient_step_flop("sac", [actor, critic, critic], batch)
    # TQC's actor learns through both critics, not only through the one with the smaller value.
    tqc = gradient_step_flop("sac", [actor, quantiles, quantiles], batch)
    tqc += forward(quantiles, batch)
    # CrossQ's critics learn on both observations at once, its actor at every third step.
    crossq = forward(actor, batch) + 2 * learn(wide, 2 * batch)
    crossq += (learn(actor, batch) + 2 * 2 * forward(wide, batch)) / 3
    return tqc / sac, crossq / sac


def compare(
    title: str,
    contestants: Sequence[Contestant],
    found: Sequence[Sequence[Mapping[str, float]]],
    unit: str,
    sign: int = 1,
) -> None:
    """Print medians and, for each peer, the ratio in favour of the first contestant."""
    values = [[answer[unit] for answer in answers] for answers in found]
    print(f"\n{title}; {unit}, {len(values[0])} rounds")
    print(f"  {contestants[0].name:10}{contestants[0].setting:26}{median(values[0])}")
    best: dict[str, tuple[float, str]] = {}
    for contestant, own in zip(contestants[1:], values[1:], strict=True):
        pairs = zip(values[0], own, strict=True)
        ratio = median([(ours / theirs) ** sign for ours, theirs in pairs])
        print(f"  {contestant.name:10}{contestant.setting:26}{median(own):30} ratio {ratio}")
        rank = (sign * statistics.median(own), f"{contestant.setting}: {ratio}")
        best[contestant.name] = max(best.get(contestant.name, rank), rank)
    for name, (_, text) in best.items():
        print(f"  {contestants[0].name} against the best setting of {name}, {text}", flush=True)


def median(values: Sequence[float]) -> str:
    """The median with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    interval = bootstrap_interval(values, rng, lambda resamples: np.median(resamples, axis=-1))
    numbers = [statistics.median(values), *interval]
    shown = [f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.4g}" for v in numbers]
    return f"{shown[0]:>8} ({shown[1]} … {shown[2]})"


def threads(n: int) -> str:
    return f"{n} thread" + "s" * (n > 1)


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--parts", default=PARTS, help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="evaluation: at most 3; memory: 1")
    parser.add_argument("--timesteps", type=int, default=2_000, help="per turn; ppo: rollouts")
    parser.add_argument("--warm-up", type=int, default=500, help="timesteps before the first turn")
    parser.add_argument(
        "--n-steps", type=int, default=2_048, help="of ppo; smaller only for trials"
    )
    parser.add_argument("--n-envs", type=int, nargs="+", default=[1, 4, 8, 16], help="of ppo")
    parser.add_argument("--trained", type=Path, help="the folder that trained.py has written")
    parser.add_argument("--sbx", help="the interpreter of an environment with SBX")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - set(PARTS.split(",")):
        parser.error(f"unknown part: {', '.join(unknown)}; expected some of {PARTS}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the contestants first
    benchmark = Benchmark(options)
    benchmark.book.add_machine(options.sbx)
    failed = False
    for part in options.parts.split(","):
        try:
            getattr(benchmark, part)()
        except ContestantError as error:
            failed = True
            print(f"\n{part}: {error}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
