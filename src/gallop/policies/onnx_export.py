"""A policy as one ONNX file: everything from raw observation to the task's action.

The graph is written operator by operator with `onnx.helper`. PyTorch's own exporter stops inside
`torch.distributions`, and writes paths of the machine into the file. The same policy gives the same
bytes. Opset 17 and IR 8 are read by runtimes of the last years.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gallop import __version__
from gallop.environments.spaces import Space
from gallop.errors import ExperimentError
from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array

if TYPE_CHECKING:
    import onnx
    import torch
    from stable_baselines3.common.policies import BasePolicy

OPSET, IR_VERSION = 17, 8
BATCH = "batch"
OBSERVATION, ACTION = "observation", "action"
"""Names of the input (Dict spaces: their keys) and the output."""
PREFIX = "gallop."
"""Of the keys of the metadata."""


class UnsupportedError(ExperimentError):
    """A part of a policy that has no counterpart in the file."""


def to_onnx(
    policy: BasePolicy,
    normalizer: Normalizer | None,
    task: Mapping[str, Any],
    observation_space: Space | None = None,
    first_action: int = 0,
) -> onnx.ModelProto:
    """Convert an SB3 policy to an ONNX model of its deterministic actions.

    Args:
        policy: an SB3 policy.
        normalizer: normalises its observations, if there is one.
        task: what its task is, for the metadata; see `gallop.environments.identity`.
        observation_space: the task's; None: the policy's. They differ in images whose channel the
            task has last.
        first_action: the task's number of the policy's Discrete action 0.

    Returns:
        A model whose inputs are observations [batch, ...] in float32, and whose output is the
        action [batch, ...] as the task takes it.

    Raises:
        UnsupportedError: for a part that cannot be converted.
    """
    from onnx import helper

    graph = _Graph(policy, normalizer, observation_space or policy.observation_space)
    graph.run(first_action)
    made = helper.make_graph(
        graph.nodes, "policy", graph.inputs, graph.outputs, initializer=graph.constants
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gallop",
        producer_version=__version__,
    )
    helper.set_model_props(model, _metadata(policy, normalizer, task))
    return model


class _Graph:
    """The nodes of a graph, added from the observations to the action."""

    def __init__(
        self, policy: BasePolicy, normalizer: Normalizer | None, observation_space: Space
    ) -> None:
        self.policy: Any = policy
        self.given: Any = observation_space
        self.normalizer = normalizer
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    # --- the parts of a graph ---

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Array) -> str:
        """Add a constant; returns its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float | Array) -> str:
        """Add a constant of float32."""
        return self.constant(np.asarray(value, np.float32))

    # --- from the observations to the action ---

    def run(self, first_action: int) -> None:
        """Add everything.

        Args:
            first_action: the task's number of the policy's Discrete action 0.
        """
        observations = self._observations()
        kind = type(self.policy).__name__
        if hasattr(self.policy, "actor"):
            self._continuous(self._off_policy_actor(observations))
        elif hasattr(self.policy, "q_net"):
            net = self.policy.q_net
            values = self.module(net.q_net, self._features(net.features_extractor, observations))
            self._choice(values, first_action)
        elif hasattr(self.policy, "action_net") and hasattr(self.policy, "mlp_extractor"):
            self._on_policy_actor(observations, first_action)
        else:
            raise UnsupportedError(f"{kind} cannot be written as ONNX")

    def _observations(self) -> dict[str, str]:
        """Add the inputs and their normalisation; returns key -> name."""
        from gymnasium import spaces
        from onnx import TensorProto, helper

        space = self.policy.observation_space
        parts = dict(space.items()) if isinstance(space, spaces.Dict) else {"": space}
        found = {}
        for key, part in parts.items():
            if not isinstance(part, spaces.Box):
                raise UnsupportedError(
                    f"{type(part).__name__} observations cannot be written as ONNX"
                )
            name = given = key or OBSERVATION
            shape = (self.given[key] if key else self.given).shape
            described = helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
            self.inputs.append(described)
            if shape != part.shape:  # an image with the channel last
                given = self.add("Transpose", name, perm=[0, 3, 1, 2])
            found[key] = self._normalised(key, given, part)
        return found

    def _normalised(self, key: str, name: str, space: Any) -> str:
        from stable_baselines3.common.preprocessing import is_image_space

        normalizer = self.normalizer
        if normalizer is not None and key in normalizer.mean:
            # Divided in float64, as VecNormalize does; the file computes in float32.
            deviation = np.sqrt(normalizer.variance[key] + normalizer.epsilon)
            name = self.add("Sub", name, self.number(normalizer.mean[key]))
            name = self.add("Div", name, self.number(deviation))
            return self.add(
                "Clip", name, self.number(-normalizer.clip), self.number(normalizer.clip)
            )
        if self.policy.normalize_images and is_image_space(space, normalized_image=False):
            return self.add("Div", name, self.number(255.0))
        return name

    def _features(self, extractor: torch.nn.Module, observations: Mapping[str, str]) -> str:
        """Add a features extractor; returns the name of the features."""
        kind = type(extractor).__name__
        if kind == "CombinedExtractor":
            each = [
                self._features(part, {"": observations[key]})
                for key, part in extractor.extractors.items()  # type: ignore[union-attr,operator]
            ]
            return self.add("Concat", *each, axis=1)
        if kind in ("FlattenExtractor", "Flatten"):
            return self.add("Flatten", observations[""], axis=1)
        if kind == "NatureCNN":
            cnn: Any = extractor
            return self.module(cnn.linear, self.module(cnn.cnn, observations[""]))
        raise UnsupportedError(f"the features extractor {kind} cannot be written as ONNX")

    def _off_policy_actor(self, observations: Mapping[str, str]) -> str:
        """Add the actor of SAC, TQC, CrossQ or TD3; returns actions from -1 to 1."""
        actor = self.policy.actor
        features = self._features(actor.features_extractor, observations)
        if not hasattr(actor, "latent_pi"):  # TD3's network ends with tanh
            return self.module(actor.mu, features)
        return self.add("Tanh", self.module(actor.mu, self.module(actor.latent_pi, features)))

    def _on_policy_actor(self, observations: Mapping[str, str], first_action: int) -> None:
        """Add the actor of PPO or A2C, and the output."""
        from gymnasium import spaces

        policy, space = self.policy, self.policy.action_space
        extractor = getattr(policy, "pi_features_extractor", policy.features_extractor)
        latent = self.module(
            policy.mlp_extractor.policy_net, self._features(extractor, observations)
        )
        outputs = self.module(policy.action_net, latent)
        if isinstance(space, spaces.Box):
            if policy.squash_output:
                self._continuous(self.add("Tanh", outputs))
            else:
                low, high = self._bounds()
                self._output(self.add("Max", self.add("Min", outputs, high), low))
        elif isinstance(space, spaces.Discrete):
            self._choice(outputs, first_action)
        elif isinstance(space, spaces.MultiDiscrete):
            sizes = self.constant(np.asarray(space.nvec, np.int64))
            names = [f"logits_{i}" for i in range(len(space.nvec))]
            self._split(outputs, sizes, names)
            each = [self.add("ArgMax", name, axis=1, keepdims=1) for name in names]
            self._output(self.add("Concat", *each, axis=1), integers=True)
        else:  # MultiBinary: the likelier of two values
            likelier = self.add("Greater", outputs, self.number(0.0))
            self._output(self.add("Cast", likelier, to=7), integers=True)

    def _split(self, name: str, sizes: str, names: Sequence[str]) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node("Split", [name, sizes], list(names), axis=1))

    def _bounds(self) -> tuple[str, str]:
        """Add the bounds of the actions, flattened."""
        space = self.policy.action_space
        low, high = (self.number(bound.reshape(1, -1)) for bound in (space.low, space.high))
        return low, high

    def _continuous(self, scaled: str) -> None:
        """Add the output: actions from -1 to 1, scaled to the bounds as SB3 does."""
        space = self.policy.action_space
        low, width = (
            bound.reshape(1, -1).astype(np.float32) for bound in (space.low, space.high - space.low)
        )
        half = self.add("Mul", self.number(0.5), self.add("Add", scaled, self.number(1.0)))
        self._output(self.add("Add", self.add("Mul", half, self.number(width)), self.number(low)))

    def _choice(self, values: str, first_action: int) -> None:
        """Add the output: the number of the largest value."""
        chosen = self.add("ArgMax", values, axis=1, keepdims=0)
        if first_action:
            chosen = self.add("Add", chosen, self.constant(np.asarray(first_action, np.int64)))
        self._output(chosen, integers=True)

    def _output(self, name: str, integers: bool = False) -> None:
        """Declare the output, in the shape of the action space."""
        from gymnasium import spaces
        from onnx import TensorProto, helper

        space = self.policy.action_space
        shape = [] if isinstance(space, spaces.Discrete) else list(space.shape)
        if len(shape) != 1 and not isinstance(space, spaces.Discrete):
            name = self.add("Reshape", name, self.constant(np.asarray([-1, *shape], np.int64)))
        self.add("Identity", name, output=ACTION)
        kind = TensorProto.INT64 if integers else TensorProto.FLOAT
        self.outputs.append(helper.make_tensor_value_info(ACTION, kind, [BATCH, *shape]))

    # --- PyTorch's modules ---

    def module(self, module: torch.nn.Module, name: str) -> str:
        """Add a module of layers that are applied one after another."""
        import torch
        from torch import nn

        def values(tensor: torch.Tensor) -> str:
            return self.number(tensor.detach().cpu().numpy())

        kind, own = type(module).__name__, module
        if isinstance(module, nn.Sequential):
            for part in module:
                name = self.module(part, name)
            return name
        if isinstance(module, nn.Linear):
            bias = [values(module.bias)] if module.bias is not None else []
            return self.add("Gemm", name, values(module.weight), *bias, transB=1)
        if isinstance(module, nn.Conv2d):
            bias = [values(module.bias)] if module.bias is not None else []
            return self.add(
                "Conv", name, values(module.weight), *bias,
                strides=list(module.stride), pads=[*_pair(module.padding), *_pair(module.padding)],
            )  # fmt: skip
        if kind == "BatchRenorm1d":  # CrossQ
            any_module: Any = own
            scale = torch.sqrt(any_module.ra_var + any_module.eps)
            name = self.add("Div", self.add("Sub", name, values(any_module.ra_mean)), values(scale))
            if any_module.affine:
                name = self.add("Mul", name, values(any_module.scale))
                name = self.add("Add", name, values(any_module.bias))
            return name
        return self._activation(module, name)

    def _activation(self, module: torch.nn.Module, name: str) -> str:
        kind: str = type(module).__name__
        own: Any = module
        if kind in ("ReLU", "Tanh", "Flatten", "Identity"):
            return self.add({"ReLU": "Relu"}.get(kind, kind), name)
        if kind == "ELU":
            return self.add("Elu", name, alpha=float(own.alpha))
        if kind == "LeakyReLU":
            return self.add("LeakyRelu", name, alpha=float(own.negative_slope))
        if kind == "SiLU":
            return self.add("Mul", name, self.add("Sigmoid", name))
        if kind == "GELU" and own.approximate == "none":  # x/2 · (1 + erf(x/√2))
            erf = self.add("Erf", self.add("Mul", name, self.number(np.sqrt(0.5))))
            half = self.add("Mul", name, self.number(0.5))
            return self.add("Mul", half, self.add("Add", erf, self.number(1.0)))
        if kind == "Hardtanh":
            return self.add("Clip", name, self.number(own.min_val), self.number(own.max_val))
        raise UnsupportedError(f"the layer {kind} cannot be written as ONNX")


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _metadata(
    policy: Any, normalizer: Normalizer | None, task: Mapping[str, Any]
) -> dict[str, str]:
    """What the file tells of itself, as text."""
    from gymnasium import spaces

    action = policy.action_space
    told: dict[str, Any] = {
        "version": __version__,
        "policy": type(policy).__name__,
        "task": dict(task),
        "normalised": normalizer is not None,
    }
    if isinstance(action, spaces.Box):
        told["action_low"] = action.low.reshape(-1).tolist()
        told["action_high"] = action.high.reshape(-1).tolist()
    return {f"{PREFIX}{name}": json.dumps(value, sort_keys=True) for name, value in told.items()}
