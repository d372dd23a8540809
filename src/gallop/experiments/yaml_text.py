"""Reading and writing YAML text, with YAML 1.2's meaning of plain words.

PyYAML implements YAML 1.1, in which 1e-5 is text, 1:30 is ninety, 010 is eight, and `on` is true.
This module follows YAML 1.2 with three exceptions kept from 1.1: 400_000 is a number; yes, no, on
and off are booleans (as values, not as keys); `<<` merges mappings. Dates are text. The YAML that
it writes has the same meaning in both versions.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_NUMBER = "[-+]?[0-9]+(?:_[0-9]+)*"
_PLAIN_WORDS = {  # tag -> regular expression, possible first characters
    "bool": ("true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
             "tTfFyYnNoO"),
    "int": (f"{_NUMBER}|[-+]?0x[0-9a-fA-F_]+|0o[0-7_]+|[-+]?0b[01_]+", "-+0123456789"),
    "float": (rf"(?:{_NUMBER}(?:\.[0-9_]*)?|[-+]?\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
              r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+0123456789."),
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": ("<<", "<"),
}  # fmt: skip
AMBIGUOUS = ("yes", "no", "on", "off")  # booleans in YAML 1.1, text in YAML 1.2


class Loader(yaml.SafeLoader):
    """SafeLoader with the plain words of YAML 1.2. It runs no code for any tag."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Convert an integer; a leading 0 does not make it octal."""
        text = str(self.construct_scalar(node)).replace("_", "")
        digits = text.lstrip("+-")
        base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2].lower(), 10)
        return int(text, base)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Convert a float with Python's own parser, without base 60."""
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        return float(re.sub(r"\.(?=inf|nan)", "", text))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a mapping, in which keys such as `on` stay text."""
        for key, _ in node.value:
            if key.tag == f"{_TAG}bool" and key.value.lower() in AMBIGUOUS:
                key.tag = f"{_TAG}str"
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


class Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes text which YAML 1.2 alone would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write out a list twice if it occurs twice, which is easier to read than an alias."""
        return True

    def text(self, data: str) -> yaml.Node:
        """Double-quote text with unusual line ends, which would otherwise be read as \\n."""
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
    """Parse a YAML document into nodes, which know their lines; None for an empty document.

    Raises:
        yaml.YAMLError: if the text is not valid YAML.
    """
    node: yaml.Node | None = yaml.compose(text, Loader=Loader)
    return node


def read(text: str) -> Any:
    """Read the data of a YAML document.

    >>> read("{x: 1e-5, 2: .inf, on: 400_000, day: 2020-01-01}")
    {'x': 1e-05, 2: inf, 'on': 400000, 'day': '2020-01-01'}

    Raises:
        yaml.YAMLError, ValueError: if the text is not valid YAML, or a number is malformed.
    """
    return data_of(compose(text))


def data_of(node: yaml.Node | None) -> Any:
    """Convert the root node of a document to data; this may change nodes.

    Raises:
        yaml.YAMLError, ValueError: as `read`.
    """
    if node is None:
        return None
    return Loader("").construct_document(node)


def write(data: Any) -> str:
    """Write plain data as YAML, which `read` converts back.

    >>> print(write({"x": [float("inf"), 1e-5], "text": "1e-5"}), end="")
    x:
    - .inf
    - 1.0e-05
    text: '1e-5'

    Raises:
        yaml.YAMLError: if a part is not a number, text, a boolean, None, a list or a mapping.
    """
    return str(yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True))
