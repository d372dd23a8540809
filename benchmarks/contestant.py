r"""A contestant of native_against_peers.py or environments.py: a process that works on request.

    python benchmarks/contestant.py SPEC     # JSON; the benchmark writes it

Each line on stdin is a number of timesteps (or episodes, or gradient steps) to do; each line on
stdout is the result: JSON with the seconds and other values. The first line means that the process
is ready. This file also runs in an environment that has SBX but not Gallop, so everything is
imported where it is used.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PEAK_SECONDS = 0.2
CALL = 16  # gradient steps per call when the kernels are measured alone

Work = Callable[[int], dict[str, float]]
"""Does n timesteps (episodes, gradient steps); returns what it measured except the seconds."""


def contest(spec: dict[str, Any]) -> None:
    """Answer each number on stdin with a line of JSON, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps output of libraries apart from the answers
    work: Work = globals()[spec["work"]](spec)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        n, started = int(line), time.perf_counter()
        measured = work(n)
        seconds = time.perf_counter() - started
        answer = {"seconds": seconds, "SPS": n / seconds} | measured
        print(json.dumps(answer), file=answers, flush=True)


def native_learner(spec: dict[str, Any]) -> tuple[Any, Any, Any]:
    from gallop.environments.vectorised import training_environments
    from gallop.experiments.seeding import initialisation_seed
    from gallop.experiments.yaml_file import from_dict
    from gallop.learners.choose import choose_learner, make_learner
    from gallop.policies import kernels

    experiment = from_dict(spec["experiment"])
    environments = training_environments(experiment, kernels.n_threads(experiment.n_threads))
    spaces = environments.observation_space, environments.action_space
    choice = choose_learner(experiment, *spaces)
    learner: Any = make_learner(experiment, choice, environments, initialisation_seed(0))
    if n := spec.get("full"):  # transitions, or True for all
        fill_native(learner.replay, learner.replay.capacity if n is True else n)
    if state := spec.get("state"):
        resume_native(learner, state)
    return experiment, environments, learner


def resume_native(learner: Any, state: str) -> None:
    """Take the policy and the replay buffer that trained.py made."""
    import numpy as np

    learner.read_policy(Path(f"{state}.zip"))
    with np.load(f"{state}.npz") as transitions:
        learner.replay.write(0, dict(transitions))
        learner.replay.n_added = learner.timestep = len(transitions["rewards"])


def resume_peer(model: Any, state: str) -> None:
    """Take only the replay buffer that trained.py made; SB3 loads the policy itself."""
    import numpy as np

    buffer, model.learning_starts = model.replay_buffer, 0
    with np.load(f"{state}.npz") as transitions:
        n = buffer.pos = len(transitions["rewards"])
        for name in ("observations", "next_observations", "actions", "rewards"):
            getattr(buffer, name)[:n] = transitions[name]
        buffer.dones[:n] = transitions["ends"]


def native(spec: dict[str, Any]) -> Work:
    from gallop.environments.make import evaluation_env
    from gallop.environments.vectorised import rebuild
    from gallop.evaluation.episodes import evaluate
    from gallop.experiments.seeding import EVALUATION_SEEDS, segment_seed

    experiment, environments, learner = native_learner(spec)
    segments = itertools.count()

    def learn(n: int) -> dict[str, float]:  # as gallop.runs.training.train does
        before, seed = learner.n_gradient_steps, segment_seed(0, next(segments))
        rebuild(environments)
        learner.learn(environments, seed, n, experiment.total_timesteps, lambda timestep: None)
        return {"gradient steps": learner.n_gradient_steps - before}

    def play(n: int) -> dict[str, float]:
        seeds = EVALUATION_SEEDS[:n]
        episodes = evaluate(learner.policy, lambda: evaluation_env(experiment), seeds)
        return {"mean return": float(episodes.returns.mean())}

    return {"learn": learn, "play": play, "remember": remember(learn, learner.save_policy)}[
        spec["task"]
    ]


def peer(spec: dict[str, Any]) -> Work:
    """Stock SB3; SB3-Contrib or SBX, which have SB3's interface."""
    import gymnasium

    library: Any
    if spec["library"] == "sbx":
        import sbx as library
    else:
        import torch

        if spec["library"] == "contrib":
            import sb3_contrib as library
        else:
            import stable_baselines3 as library

        torch.set_num_threads(spec["n_threads"])
    environments: Any = gymnasium.make(spec["env"], **spec["env_kwargs"])
    if (spec["n_envs"], spec["vec_env"]) != (1, "dummy"):
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

        environments = make_vec_env(
            spec["env"],
            spec["n_envs"],
            env_kwargs=spec["env_kwargs"],
            vec_env_cls=SubprocVecEnv if spec["vec_env"] == "subproc" else DummyVecEnv,
        )
    kwargs = dict(spec["hyperparameters"])
    if noise := kwargs.pop("action_noise", None):
        import numpy as np
        from stable_baselines3.common.noise import NormalActionNoise

        n = environments.action_space.shape
        kwargs["action_noise"] = NormalActionNoise(np.zeros(n), np.full(n, noise))
    algorithm = getattr(library, {"crossq": "CrossQ"}.get(spec["algo"], spec["algo"].upper()))
    state = spec.get("state")
    if state and spec["library"] == "sb3":
        model = algorithm.load(f"{state}.zip", environments, device="cpu")
    else:  # SBX cannot read the zip; dense arithmetic takes as long with new weights
        model = algorithm("MlpPolicy", environments, seed=spec["seed"], device="cpu", **kwargs)
    if state:
        resume_peer(model, state)
    if spec.get("full"):
        names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
        fill({name: getattr(model.replay_buffer, name) for name in names})
        model.replay_buffer.full = True

    def learn(n: int) -> dict[str, float]:
        before = model._n_updates
        model.learn(n, reset_num_timesteps=False)
        return {"gradient steps": model._n_updates - before}

    def play(n: int) -> dict[str, float]:
        from stable_baselines3.common.evaluation import evaluate_policy
        from stable_baselines3.common.monitor import Monitor

        environment = Monitor(gymnasium.make(spec["env"], **spec["eval_env_kwargs"]))
        return {"mean return": float(evaluate_policy(model, environment, n_eval_episodes=n)[0])}

    def parts(n: int) -> dict[str, float]:
        started = time.perf_counter()
        measured = learn(n)
        learned = time.perf_counter()
        model.train(n, model.batch_size)
        rate = n / (time.perf_counter() - learned)
        return measured | {"SPS": n / (learned - started), "gradient steps/s": rate}

    tasks = {"learn": learn, "play": play, "parts": parts}
    return (tasks | {"remember": remember(learn, model.save)})[spec["task"]]


def stepping(spec: dict[str, Any]) -> Work:
    """Environments alone, with random actions."""
    import numpy as np

    step = {
        "gallop": step_of_gallop,
        "gymnasium": step_of_gymnasium,
        "sync": step_of_sync,
        "sb3": step_of_sb3,
        "envpool": step_of_envpool,
    }[spec["library"]](spec)
    n_envs, n_actions = spec["n_envs"], spec["n_actions"]
    actions = np.random.default_rng(0).uniform(-1, 1, (64, n_envs, n_actions)).astype(np.float32)

    def work(n: int) -> dict[str, float]:
        for i in range(n // n_envs):
            step(actions[i % 64])
        return {}

    return work


def step_of_gallop(spec: dict[str, Any]) -> Callable[[Any], object]:
    from stable_baselines3.common.vec_env import DummyVecEnv

    from gallop.environments.vectorised import environment_makers, training_environments
    from gallop.experiments.yaml_file import from_dict

    settings = {"env": spec["env"], "n_envs": spec["n_envs"], "total_timesteps": 1_000_000}
    experiment = from_dict({"algo": "ppo"} | settings)
    environments: DummyVecEnv
    if spec["fast"]:
        environments = training_environments(experiment, spec["n_threads"])
    else:
        environments = DummyVecEnv(environment_makers(experiment))
    environments.seed(0)
    environments.reset()
    assert getattr(environments, "is_fast", False) == spec["fast"]
    return environments.step


def step_of_gymnasium(spec: dict[str, Any]) -> Callable[[Any], object]:
    import gymnasium

    environment: Any = gymnasium.make(spec["env"])
    environment.reset(seed=0)

    def step(actions: Any) -> None:
        _, _, terminated, truncated, _ = environment.step(actions[0])
        if terminated or truncated:
            environment.reset()

    return step


def step_of_sync(spec: dict[str, Any]) -> Callable[[Any], object]:
    import gymnasium

    environments: Any = gymnasium.make_vec(
        spec["env"], num_envs=spec["n_envs"], vectorization_mode="sync"
    )
    environments.reset(seed=0)
    return environments.step


def step_of_sb3(spec: dict[str, Any]) -> Callable[[Any], object]:
    from stable_baselines3.common.env_util import make_vec_env

    environments = make_vec_env(spec["env"], spec["n_envs"], seed=0)
    environments.reset()
    return environments.step


def step_of_envpool(spec: dict[str, Any]) -> Callable[[Any], object]:
    import envpool

    environments: Any = envpool.make(
        spec["env"],
        env_type="gymnasium",
        num_envs=spec["n_envs"],
        num_threads=spec["n_threads"],
        seed=0,
    )
    environments.reset()
    return environments.step


def remember(learn: Work, save: Callable[[Path], None]) -> Work:
    def work(n: int) -> dict[str, float]:
        learn(n)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder) / "policy.zip")
        return {"MiB": peak_memory(os.getpid())}

    return work


def fill_native(replay: Any, n_transitions: int, episode: int = 1000) -> None:
    """Write random transitions to the native replay buffer, including last observations."""
    import numpy as np

    rng = np.random.default_rng(0)
    for start in range(0, n_transitions, episode):
        n = min(episode, n_transitions - start)
        rows = {
            name: rng.uniform(-1, 1, (n, *array.shape[1:])).astype(np.float32)[:, None]
            for name, array in replay.arrays.items()
            if name != "following"
        }
        rows["next_observations"] = np.roll(rows["observations"], -1, axis=0)
        rows["next_observations"][-1] = 0
        rows["ends"][:] = 0
        replay.write(start, rows)
    replay.n_added = n_transitions


def fill(arrays: Mapping[str, Any], rows_at_once: int = 1_000) -> None:
    """Write random transitions that end no episode, and so touch every page of the arrays."""
    import numpy as np

    rng = np.random.default_rng(0)
    for name, array in arrays.items():
        for start in range(0, len(array), rows_at_once):
            part = array[start : start + rows_at_once]
            part[:] = 0 if name in ("ends", "dones", "timeouts") else rng.uniform(-1, 1, part.shape)


def peak_memory(process: int | str) -> float:
    """Peak resident memory of a process and of its living children, in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    own = next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    files = Path(f"/proc/{process}/task").glob("*/children")
    return own + sum(peak_memory(child) for file in files for child in file.read_text().split())


def peak(spec: dict[str, Any]) -> Work:
    """Gradient steps of the kernels alone, and the peak FLOP per second of the same threads."""
    import numpy as np

    from gallop import _kernels

    experiment, _, learner = native_learner(spec)
    batch, rng = experiment.hyperparameters.batch_size, np.random.default_rng(0)
    layouts = [network.kernel.layout for network in learner.networks.values()]
    flop = gradient_step_flop(experiment.algo, layouts, batch)

    def work(n: int) -> dict[str, float]:
        size = (max(1, n // CALL), CALL)
        indices = rng.integers(0, learner.replay.n_filled, (*size, batch))
        noise = rng.standard_normal((*size, *learner._noise_shape()), np.float32)
        started = time.perf_counter()
        for call in range(size[0]):
            losses = learner._kernel.step(
                indices=indices[call],
                noise=noise[call],
                learning_rate=3e-4,
                n_done=learner.n_gradient_steps,
            )
            learner.n_gradient_steps += CALL
        rate = size[0] * CALL / (time.perf_counter() - started)
        assert np.isfinite(losses[:, 1]).all()  # of the critics
        possible = _kernels.peak(engine=learner._engine, seconds=PEAK_SECONDS)
        told = {"gradient steps/s": rate, "GFLOP/s": rate * flop / 1e9}
        return told | {"GFLOP/s of peak": possible / 1e9, "share of peak": rate * flop / possible}

    return work


def gradient_step_flop(
    algo: str, networks: Sequence[Sequence[tuple[int, int, int, int]]], batch: int
) -> float:
    """FLOP of the matrix products of a gradient step, 2·m·n per row; nothing else is counted.

    Args:
        networks: the actor's layers, then each critic's, starting with inputs and outputs.
    """
    actor, *critics = ([2 * layer[0] * layer[1] * batch for layer in each] for each in networks)

    def learn(layers: list[int]) -> int:
        """Forward pass, gradients of the weights and of all inputs except the first layer's."""
        return 3 * sum(layers) - layers[0]

    total = sum(actor) + sum(sum(critic) + learn(critic) for critic in critics)  # targets first
    # The policy's actions through the critics, and back to the actions through the smallest one.
    if algo == "sac":
        return total + learn(actor) + sum(map(sum, critics)) + sum(critics[0])
    return total + (learn(actor) + 2 * sum(critics[0])) / 2  # TD3: every other step, one critic


def timestep(spec: dict[str, Any]) -> Work:
    """The parts of a timestep, each measured alone, and the whole loop."""
    import numpy as np

    from gallop.learners.native_off_policy import _Noise
    from gallop.policies.mlp_policy import as_rows, bounds, unscale

    experiment, environments, learner = native_learner(spec)
    batch, replay, rng = (
        experiment.hyperparameters.batch_size,
        learner.replay,
        np.random.default_rng(0),
    )
    low, high = bounds(environments.action_space)
    stream = _Noise(rng, learner._noise_shape())

    def sample() -> tuple[Any, Any]:
        return rng.integers(0, replay.n_filled, (1, batch)), stream.take(1)

    def work(n: int) -> dict[str, float]:
        started = time.perf_counter()
        learner.learn(environments, 1, n, experiment.total_timesteps, lambda timestep: None)
        whole = 1e6 * (time.perf_counter() - started) / n
        seen: Any = environments.reset()
        scaled = rng.uniform(-1, 1, (n, 1, len(low))).astype(np.float32)
        actions, batches = unscale(scaled, low, high), [sample() for _ in range(n)]

        def learn(i: int) -> None:
            learner._train(*batches[i])

        row = {
            "next_observations": as_rows(seen),
            "rewards": np.zeros(1),
            "ends": np.zeros(1, bool),
        }

        def store(i: int) -> None:
            replay.begin(as_rows(seen))
            replay.add(actions=scaled[i], **row)

        pieces: dict[str, Callable[[int], Any]] = {
            "act": lambda i: unscale(learner._explore(as_rows(seen), rng), low, high),
            "env.step": lambda i: environments.step(actions[i]),
            "store": store,
            "sample + noise": lambda i: sample(),
            "gradient step": learn,
        }
        took = {}
        for name, piece in pieces.items():
            started = time.perf_counter()
            for i in range(n):
                piece(i)
            took[name] = 1e6 * (time.perf_counter() - started) / n
        return took | {"rest": whole - sum(took.values()), "whole": whole}

    return work


if __name__ == "__main__":
    contest(json.loads(sys.argv[1]))
