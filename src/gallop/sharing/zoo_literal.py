"""Python expressions in the Zoo's files, such as "dict(net_arch=[400, 300])".

The Zoo evaluates them. Here they are only parsed, and a short list of expressions is accepted; no
code in them is ever run.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, TypeAlias

MAX_TEXT = 2_000  # characters of one value
MAX_DEPTH = 8  # levels of nesting in one value

ACTIVATIONS = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "SiLU": "silu",
    "GELU": "gelu",
}
"""PyTorch's class of each activation function -> our name."""

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

_MODULES = ("nn", "th.nn", "torch.nn")  # the names under which the Zoo's strings know torch.nn
_ALLOWED = "allowed: numbers, strings, lists, dict(...) and activation functions such as nn.ReLU"


def read_literal(text: str) -> Value:
    """Return the value of a Python expression as the Zoo writes them: parsed, never run.

    >>> read_literal("dict(log_std_init=-2, activation_fn=nn.ReLU, net_arch=[400, 300])")
    {'log_std_init': -2, 'activation_fn': 'relu', 'net_arch': [400, 300]}

    Raises:
        ValueError: if it has anything but literals, dict(...) and names of activation functions.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"not a Python literal; {_ALLOWED}") from None
    return _value(tree.body, 1)


def _value(node: ast.expr, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested too deeply (more than {MAX_DEPTH} levels)")
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as constant):
            return constant
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
            not isinstance(number, bool)
        ):
            return -number
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, depth + 1) for part in parts]
        case ast.Dict(keys=keys, values=values):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            return _pairs(names, values, depth)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return _pairs([word.arg for word in keywords], [w.value for w in keywords], depth)
    return _refuse(node)


def _pairs(names: Sequence[object], values: list[ast.expr], depth: int) -> dict[str, Value]:
    """Return a dict's items; a name of None (from `**`) and duplicate names are refused."""
    keys = [name for name in names if isinstance(name, str)]
    if len(set(keys)) < len(names):
        raise ValueError(f"the keys of a dict must be unique strings; {_ALLOWED}")
    return {
        name: _activation(value) if name == "activation_fn" else _value(value, depth + 1)
        for name, value in zip(keys, values, strict=True)
    }


def _activation(node: ast.expr) -> str:
    module, _, name = ast.unparse(node).rpartition(".") if _is_path(node) else ("", "", "")
    if module not in _MODULES or name not in ACTIVATIONS:
        allowed = ", ".join(f"nn.{known}" for known in ACTIVATIONS)
        raise ValueError(f"activation_fn is not supported; allowed: {allowed}")
    return ACTIVATIONS[name]


def _is_path(node: ast.expr) -> bool:
    """Whether this consists only of names and dots."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _refuse(node: ast.expr) -> NoReturn:
    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
    raise ValueError(f"an expression is not allowed ({kind}); {_ALLOWED}")


def write_literal(value: object) -> str:
    """Return a value in the Zoo's notation: dict(net_arch=[400, 300]).

    >>> write_literal({"activation_fn": "relu", "net_arch": {"pi": [64]}, "kwargs": {"a b": 1}})
    "dict(activation_fn=nn.ReLU, net_arch=dict(pi=[64]), kwargs={'a b': 1})"
    """
    if isinstance(value, Mapping):
        if all(name.isidentifier() and not keyword.iskeyword(name) for name in value):
            return f"dict({', '.join(_items(value))})"
        items = (f"{name!r}: {write_literal(part)}" for name, part in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(write_literal(part) for part in value)}]"
    return repr(value)


def _items(mapping: Mapping[str, object]) -> Iterator[str]:
    classes = {ours: f"nn.{name}" for name, ours in ACTIVATIONS.items()}
    for name, value in mapping.items():
        is_class = name == "activation_fn" and isinstance(value, str) and value in classes
        yield f"{name}={classes[str(value)] if is_class else write_literal(value)}"
