"""YAML as text: what plain words stand for, reading, and writing.

PyYAML reads YAML 1.1, in which 1e-5 is text, 1:30 is ninety, 010 is eight, and `on` is true. Here
plain words mean what YAML 1.2 says, with three things kept from 1.1: 400_000 is a number, yes, no,
on and off are true or false (as values, never as keys), and `<<` merges. There are no dates: they
are text. What is written here has the same meaning in both versions.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_NUMBER = "[-+]?[0-9]+(?:_[0-9]+)*"
_PLAIN_WORDS = {  # tag -> what matches it, the characters that it begins with
    "bool": ("true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
             "tTfFyYnNoO"),
    "int": (f"{_NUMBER}|[-+]?0x[0-9a-fA-F_]+|0o[0-7_]+|[-+]?0b[01_]+", "-+0123456789"),
    "float": (rf"(?:{_NUMBER}(?:\.[0-9_]*)?|[-+]?\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
              r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+0123456789."),
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": ("<<", "<"),
}  # fmt: skip
AMBIGUOUS = ("yes", "no", "on", "off")  # truth values in YAML 1.1, words in YAML 1.2


class Loader(yaml.SafeLoader):
    """SafeLoader with the plain words of YAML 1.2. No tag makes it run code."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Decimal also where it begins with 0."""
        text = str(self.construct_scalar(node)).replace("_", "")
        digits = text.lstrip("+-")
        base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2].lower(), 10)
        return int(text, base)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """With Python's own arithmetic, and not by parts of sixty."""
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        return float(re.sub(r"\.(?=inf|nan)", "", text))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A key is never a truth value for being called `on`."""
        for key, _ in node.value:
            if key.tag == f"{_TAG}bool" and key.value.lower() in AMBIGUOUS:
                key.tag = f"{_TAG}str"
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


class Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes what only YAML 1.2 takes for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        """People read these files: a list that stands in two places is written out twice."""
        return True

    def text(self, data: str) -> yaml.Node:
        """In a plain or single-quoted text, these line ends would be read as \\n."""
        style = '"' if re.search("[\\x85\\u2028\\u2029\\ufeff]", data) else None
        return self.represent_scalar(f"{_TAG}str", data, style=style)


Dumper.add_representer(str, Dumper.text)
Loader.yaml_implicit_resolvers = {}
Dumper.yaml_implicit_resolvers = {
    first: list(kinds) for first, kinds in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _kind, (_words, _firsts) in _PLAIN_WORDS.items():
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_words})$"), list(_firsts))
Loader.add_constructor(f"{_TAG}int", Loader.construct_yaml_int)
Loader.add_constructor(f"{_TAG}float", Loader.construct_yaml_float)


def compose(text: str) -> yaml.Node | None:
    """The nodes of one YAML document, which know their lines; None for an empty one.

    Raises:
        yaml.YAMLError: if it is no YAML.
    """
    node: yaml.Node | None = yaml.compose(text, Loader=Loader)
    return node


def read(text: str) -> Any:
    """What one YAML document holds.

    >>> read("{x: 1e-5, 2: .inf, on: 400_000, day: 2020-01-01}")
    {'x': 1e-05, 2: inf, 'on': 400000, 'day': '2020-01-01'}

    Raises:
        yaml.YAMLError, ValueError: if it is no YAML, or a number is none.
    """
    return yaml.load(text, Loader=Loader)


def write(data: Any) -> str:
    """Plain data as YAML that `read` gives back.

    >>> print(write({"x": [float("inf"), 1e-5], "text": "1e-5"}), end="")
    x:
    - .inf
    - 1.0e-05
    text: '1e-5'

    Raises:
        yaml.YAMLError: if it holds anything but numbers, text, None, lists and mappings.
    """
    return str(yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True))
