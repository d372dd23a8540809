"""The settings of experiment and search files as Markdown, from their declarations.

Types, bounds and choices are those of the JSON schemas that pydantic makes of the declarations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from markdown import code, escaped, listed
from pydantic import BaseModel

from gallop.algorithms.table import ALGORITHMS
from gallop.experiments.settings import EXPERIMENTS
from gallop.tuning.parameter import Parameter
from gallop.tuning.search_settings import Search

Schema = Mapping[str, Any]
WHOLE = ("NetArch", "Parameter")  # values with keys of their own that a flag or setting takes whole


class Meaning(NamedTuple):
    """What a setting means to one algorithm, or several."""

    doc: str
    type: str


class Setting(NamedTuple):
    """One setting, as all algorithms that have it see it."""

    name: str
    """Dotted, as on the command line."""
    meanings: dict[str, Meaning]
    """Algorithm -> what it means there; for those that have it."""
    defaults: dict[str, str]
    """Algorithm -> default as YAML; for those that have one."""


class Section(NamedTuple):
    """The settings below one key of a file."""

    name: str
    """Dotted; empty for the file itself."""
    doc: str
    settings: list[Setting]


# --- reading the declarations --------------------------------------------------------------------


def _resolved(schema: Schema, root: Schema) -> Schema:
    """A schema with what it refers to filled in."""
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].rpartition("/")[2]]
        return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def _is_section(schema: Schema, root: Schema) -> bool:
    found = _resolved(schema, root)
    return "properties" in found and found.get("title") not in WHOLE


def _sections(root: Schema, name: str = "", schema: Schema | None = None) -> Iterator[tuple]:
    """Dotted name, schema and own settings of each section, outer ones first."""
    schema = root if schema is None else schema
    below, own = [], {}
    for key, part in schema["properties"].items():
        # A list of sections, such as rounds, is one, too.
        inner = part["items"] if part.get("type") == "array" and "$ref" in part["items"] else part
        if _is_section(inner, root):
            below.append((f"{name}.{key}".lstrip("."), {**_resolved(inner, root), "in": part}))
        else:
            own[key] = part
    yield name, schema, own
    for inner_name, inner in below:
        yield from _sections(root, inner_name, inner)


def type_in_words(schema: Schema, root: Schema) -> str:
    """What a value may be.

    >>> type_in_words({"type": "integer", "minimum": 1, "maximum": 9}, {})
    'integer from 1 to 9'
    >>> type_in_words({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, {})
    '`a` or `b`'
    """
    schema = _resolved(schema, root)
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return listed([code(value) for value in schema["enum"]])
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(type_in_words(part, root) for part in parts))
    kind = schema.get("type", "any value")
    if kind == "array":
        if "prefixItems" in schema:
            return listed([type_in_words(part, root) for part in schema["prefixItems"]], "and")
        items = type_in_words(schema.get("items", {}), root)
        return "list" if items == "any value" else f"list of {_plural(items)}"
    if kind == "object":
        return "mapping"
    words = {"boolean": "true or false", "string": "text"}.get(kind, kind)
    return words + _bounds(schema)


def _plural(words: str) -> str:
    noun, space, rest = words.partition(" ")
    plain = {"integer", "number", "mapping"}
    return (f"{noun}s" if noun in plain else noun) + space + rest


def _bounds(schema: Schema) -> str:
    low = schema.get("minimum", schema.get("ge"))
    high = schema.get("maximum", schema.get("le"))
    above = schema.get("exclusiveMinimum", schema.get("gt"))
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if above is not None and high is not None:
        return f" above {above:g}, at most {high:g}"
    if low is not None:
        return f", at least {low:g}"
    return f" above {above:g}" if above is not None else ""


def _default(schema: Schema, is_required: bool) -> str | None:
    """A default as YAML, in one line; None where there is none."""
    if is_required or schema.get("default") in (None, ""):
        return None
    text = yaml.safe_dump(schema["default"], default_flow_style=True, width=1_000)
    return text.strip().removesuffix("\n...")


def _merged(roots: Mapping[str, Schema]) -> list[Section]:
    """The sections of one kind of file, over all algorithms."""
    docs: dict[str, str] = {}
    found: dict[str, dict[str, Setting]] = {}
    for algorithm, root in roots.items():
        for section, schema, own in _sections(root):
            docs.setdefault(section, schema.get("in", schema).get("description", ""))
            for key, part in own.items():
                name = f"{section}.{key}".lstrip(".")
                setting = found.setdefault(section, {}).setdefault(name, Setting(name, {}, {}))
                doc = " ".join(part.get("description", "").split())
                setting.meanings[algorithm] = Meaning(doc, type_in_words(part, root))
                default = _default(part, key in schema.get("required", ()))
                if default is not None:
                    setting.defaults[algorithm] = default
    return [Section(name, docs[name], list(found[name].values())) for name in found]


def experiment_sections() -> list[Section]:
    """The settings of an experiment file."""
    return _merged(
        {ALGORITHMS[name].title: model.model_json_schema() for name, model in EXPERIMENTS.items()}
    )


def search_sections() -> list[Section]:
    """The settings of a search file."""
    space = Section(
        "rounds.space.NAME", Parameter.__doc__ or "", _merged(_one(Parameter))[0].settings
    )
    return [*_merged(_one(Search)), space]


def _one(model: type[BaseModel]) -> dict[str, Schema]:
    return {"": model.model_json_schema()}


# --- writing Markdown ----------------------------------------------------------------------------


def _by_value(each: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Value -> the algorithms that have it."""
    found: dict[Any, list[str]] = {}
    for algorithm, value in each.items():
        found.setdefault(value, []).append(algorithm)
    return found


def _defaults(setting: Setting) -> str:
    defaults = _by_value(setting.defaults)
    if len(defaults) == 1:
        return f"default: {code(next(iter(defaults)))}"
    each = [f"{code(value)} ({', '.join(names)})" for value, names in defaults.items()]
    return f"default: {', '.join(each)}" if each else ""


def _body(setting: Setting, n_algorithms: int) -> str:
    """Type, default and algorithms in one line, and the setting's own text."""
    meanings = _by_value(setting.meanings)
    if len(meanings) == 1:
        (meaning,) = meanings
        few = len(setting.meanings) < n_algorithms
        only = f"only {listed(list(setting.meanings), 'and')}" if few else ""
        facts = filter(None, [meaning.type, _defaults(setting), only])
        return f"{' · '.join(facts)}\n\n{escaped(meaning.doc)}\n"
    parts = [
        f"{listed(names, 'and')}: {meaning.type}. {escaped(meaning.doc)}\n"
        for meaning, names in meanings.items()
    ]
    return "\n".join([f"{_defaults(setting)}\n", *parts])


def anchor(name: str, prefix: str = "") -> str:
    """Where the page has a setting.

    >>> anchor("hyperparameters.learning_rate")
    'hyperparameters-learning-rate'
    """
    return (prefix + name).replace(".", "-").replace("_", "-").lower()


def _setting(setting: Setting, n_algorithms: int, prefix: str) -> str:
    return (
        f"({anchor(setting.name, prefix)})=\n"
        f"````{{{prefix}setting}} {setting.name}\n{_body(setting, n_algorithms)}````\n"
    )


def _page_section(section: Section, title: str, n_algorithms: int, prefix: str) -> str:
    parts = [f"### {title}\n", escaped(section.doc) + "\n" if section.name else ""]
    parts += [_setting(setting, n_algorithms, prefix) for setting in section.settings]
    return "\n".join(filter(None, parts))


def page() -> str:
    """Everything below the introduction of docs/reference/settings.md."""
    parts = ["## Experiment files\n"]
    for section in experiment_sections():
        title = code(section.name) if section.name else "The run"
        parts.append(_page_section(section, title, len(EXPERIMENTS), ""))
    parts.append("## Search files\n")
    for section in search_sections():
        title = f"Search: {code(section.name)}" if section.name else "The search"
        parts.append(_page_section(section, title, 1, "search-"))
    return "\n".join(parts)
