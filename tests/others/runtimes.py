"""Compare exported ONNX files with their policies, in two runtimes. Outside CI.

    pip install openvino==2026.4.1
    PYTHONPATH=tests python tests/others/runtimes.py differences.csv

Every kind of policy of tests/test_onnx.py, with and without normalised observations, on the task's
own bounds and on actions from -3 to 7: the largest difference of an action over 1,000 observations,
as a share of its range, and the mean return of ten episodes.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from gymnasium import spaces
from test_onnx import KINDS, WIDE, zip_of

from gallop.evaluation.episodes import evaluate
from gallop.experiments import seeding
from gallop.policies import sb3_zip
from gallop.policies.acting import acting
from gallop.policies.onnx_policy import OnnxPolicy
from gallop.run_folder.find_policy import Named
from gallop.sharing.onnx_file import _visited, export_onnx

RESCALED = [{"gymnasium.wrappers:RescaleAction": WIDE}]
COLUMNS = ["policy", "observations", "bounds", "onnxruntime", "openvino", "return", "return_onnx"]


def cases() -> Iterator[tuple[str, bool, list[dict[str, Any]]]]:
    """Yield kind, whether observations are normalised, and wrappers."""
    for kind, (_, env, _) in KINDS.items():
        for normalised in (False, True):
            yield kind, normalised, []
            if env != "CartPole-v1":
                yield kind, normalised, RESCALED


def compared(kind: str, normalised: bool, wrappers: list[dict[str, Any]]) -> dict[str, object]:
    """Return a row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = replace(zip_of(kind, folder, normalised, wrappers), max_episode_timesteps=200)
        named, file = Named(folder / "a.zip", task), folder / "a.onnx"
        export_onnx(named, file)
        env = task.make()
        both = env.observation_space, env.action_space
        policy = acting(*sb3_zip.read_sb3(named.path, *both, sb3_zip.Options()))
        observations = _visited(env, policy)
        parts = observations if isinstance(observations, Mapping) else {"observation": observations}
        feed = {key: np.asarray(part, np.float32) for key, part in parts.items()}
        ours = policy.act(observations)

        def difference(theirs: Any) -> str:
            if not isinstance(both[1], spaces.Box):
                return f"{(theirs != ours).mean():.1e}"
            return f"{(np.abs(theirs - ours) / (both[1].high - both[1].low)).max():.1e}"

        returns = {}
        for key, each in (("return", policy), ("return_onnx", OnnxPolicy(file, *both))):
            episodes = evaluate(each, task.make, list(seeding.EVALUATION_SEEDS))
            returns[key] = f"{episodes.returns.mean():.4f}"
        return {
            "policy": kind,
            "observations": "normalised" if normalised else "raw",
            "bounds": "-3 to 7" if wrappers else "the task's",
            "onnxruntime": difference(onnxruntime.InferenceSession(file).run(None, feed)[0]),
            "openvino": difference(_with_openvino(file, feed)),
            **returns,
        }


def _with_openvino(file: Path, feed: dict[str, Any]) -> Any:
    import openvino

    core = openvino.Core()
    # On processors with bfloat16 it computes with that, unless asked for float32.
    compiled = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(feed)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", type=Path, help="CSV to write")
    table = parser.parse_args().table
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for case in cases():
            row = compared(*case)
            writer.writerow(row)
            print(*row.values(), sep=", ")


if __name__ == "__main__":
    main()
