"""Run an exported policy with NumPy alone, for a machine without an ONNX runtime.

    python examples/onnx_in_numpy.py policy.onnx

`onnx` reads the file, once. The operators below are all that MLP policies of Gallop consist of. The
answers are compared with onnxruntime's, if it is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def gemm(a: Any, b: Any, c: Any = 0.0, transB: int = 0) -> Any:  # noqa: N803  (ONNX's name)
    """A matrix product with a bias."""
    return a @ (b.T if transB else b) + c


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Tanh": np.tanh,
    "Clip": np.clip,
    "Gemm": gemm,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "LeakyRelu": lambda x, alpha=0.01: np.where(x > 0, x, alpha * x),
    "Flatten": lambda x, axis=1: x.reshape(len(x), -1),
    "ArgMax": lambda x, axis=1, keepdims=0: x.argmax(axis=axis, keepdims=bool(keepdims)),
    "Identity": lambda x: x,
    "Reshape": lambda x, shape: x.reshape(shape),
}


class Policy:
    """A policy as a list of operators and their constants."""

    def __init__(self, path: str) -> None:
        graph = onnx.load(path).graph
        self.inputs = [each.name for each in graph.input]
        self.constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.nodes = [
            (OPERATORS[node.op_type], list(node.input), node.output[0],
             {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute})
            for node in graph.node
        ]  # fmt: skip

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions for a batch of observations, both [n, …]."""
        values = self.constants | {self.inputs[0]: np.asarray(observations, np.float32)}
        for operator, inputs, output, attributes in self.nodes:
            values[output] = operator(*(values[name] for name in inputs), **attributes)
        return values["action"]


def main(path: str) -> None:
    """Act on a few random observations."""
    policy = Policy(path)
    size = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    observations = np.random.default_rng(0).normal(size=(100, size)).astype(np.float32)
    actions = policy(observations)
    print("first action", np.round(actions[0], 4).tolist())
    try:
        import onnxruntime
    except ImportError:
        return
    (theirs,) = onnxruntime.InferenceSession(path).run(None, {policy.inputs[0]: observations})
    print(f"largest difference to onnxruntime {np.abs(actions - theirs).max():.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
