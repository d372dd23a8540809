"""Run a policy that `gallop export --onnx` has written, as a robot's control loop would.

    python examples/onnx_in_a_robots_loop.py policy.onnx Pendulum-v1

Only onnxruntime and NumPy are needed, besides whatever reads the sensors: here a Gymnasium task.
"""

from __future__ import annotations

import sys
import time

import gymnasium
import numpy as np
import onnxruntime


def main(path: str, task: str, hertz: float = 50.0) -> None:
    """Act at a fixed rate until the episode ends, and print how long a decision takes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a small network is slower on several
    policy = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    robot = gymnasium.make(task)
    observation, _ = robot.reset(seed=0)
    total, decisions, ended, due = 0.0, [], False, time.perf_counter()
    while not ended:
        began = time.perf_counter()
        batch = np.asarray(observation, np.float32)[None]  # [1, …]
        (action,) = policy.run(None, {"observation": batch})
        decisions.append(time.perf_counter() - began)

        observation, reward, terminated, truncated, _ = robot.step(action[0])
        total, ended = total + float(reward), terminated or truncated
        due += 1 / hertz
        time.sleep(max(0.0, due - time.perf_counter()))
    print(f"return {total:,.1f}")
    print(f"a decision took {1e6 * np.median(decisions):.0f} µs")


if __name__ == "__main__":
    main(*sys.argv[1:3])
