"""The settings of experiment and search files as Markdown, from their declarations.

Those of experiments are what `gallop run --help-all` lists. Types and bounds of a search's settings
are those of the JSON schema that pydantic makes of the declarations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from markdown import code, escaped, listed

from gallop.algorithms.table import ALGORITHMS
from gallop.experiments.flags import Flag, display_names, flags
from gallop.tuning.parameter import Parameter
from gallop.tuning.search_settings import Search

Schema = Mapping[str, Any]


def anchor(name: str, prefix: str = "") -> str:
    """Where the page has a setting.

    >>> anchor("hyperparameters.learning_rate")
    'hyperparameters-learning-rate'
    """
    return (prefix + name).replace(".", "-").replace("_", "-").lower()


def _entry(name: str, facts: list[str], doc: str, prefix: str = "") -> str:
    """One setting: its facts in one line, then what it means."""
    line = " · ".join(filter(None, facts))
    return (
        f"({anchor(name, prefix)})=\n"
        f"````{{{prefix}setting}} {name}\n{line}\n\n{escaped(doc)}\n````\n"
    )


# --- experiments ---------------------------------------------------------------------------------


def _kind(flag: Flag) -> str:
    """Type and range of one algorithm's setting."""
    choices = [code(choice) for choice in flag.choices]
    if flag.kind in ("choice", "boolean"):
        return listed(choices)
    if flag.kind == "list of choices":
        return f"list of {listed(choices)}"
    if "choice" in flag.kind:
        return code(flag.metavar)
    return escaped(", ".join(filter(None, [flag.kind, flag.limits])))


def _facts(flag: Flag, own: Mapping[str, Flag]) -> list[str]:
    """Type, default and algorithms.

    Args:
        flag: as all algorithms have it.
        own: name of an algorithm -> the same setting as it has it.
    """
    algorithms: dict[str, list[str]] = {}
    for algorithm, found in own.items():
        algorithms.setdefault(_kind(found), []).append(algorithm)
    kinds = [
        f"{display_names(names)}: {kind}" if len(algorithms) > 1 else kind
        for kind, names in algorithms.items()
    ]
    default = escaped(flag.default) if " " in flag.default else code(flag.default)
    return [
        "; ".join(kinds),
        f"default: {default}" if flag.default else "",
        f"only {flag.only_for}" if flag.only_for else "",
    ]


def _experiment() -> Iterator[str]:
    yield "## Experiment files\n"
    own = {algorithm: {flag.name: flag for flag in flags([algorithm])} for algorithm in ALGORITHMS}
    groups: dict[str, list[Flag]] = {}
    for flag in flags():
        groups.setdefault(flag.group, []).append(flag)
    for title, found in groups.items():
        yield f"### {title[:1].upper()}{title[1:]}\n"
        for flag in found:
            each = {algorithm: own[algorithm][flag.name] for algorithm in flag.algorithms}
            yield _entry(flag.name, _facts(flag, each), flag.doc)


# --- searches ------------------------------------------------------------------------------------


def _resolved(schema: Schema, root: Schema) -> Schema:
    """A schema with what it refers to filled in."""
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].rpartition("/")[2]]
        return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def _sections(root: Schema, name: str = "", schema: Schema | None = None) -> Iterator[Any]:
    """Dotted name, doc and own settings of each section, outer ones first."""
    schema = root if schema is None else schema
    own, below = {}, []
    for key, part in schema["properties"].items():
        # A list of sections, such as rounds, is one, too.
        is_list = part.get("type") == "array" and "$ref" in part["items"]
        inner = _resolved(part["items"] if is_list else part, root)
        if "properties" in inner:
            section = {**inner, "description": part.get("description", "")}
            below.append((f"{name}.{key}".lstrip("."), section))
        else:
            own[key] = part
    yield name, schema, own
    for inner_name, inner in below:
        yield from _sections(root, inner_name, inner)


def type_in_words(schema: Schema) -> str:
    """What a value may be.

    >>> type_in_words({"type": "integer", "minimum": 1, "maximum": 9})
    'integer, 1 to 9'
    >>> type_in_words({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]})
    '`a` or `b`'
    """
    if "enum" in schema:
        return listed([code(value) for value in schema["enum"]])
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(map(type_in_words, parts)))
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} numbers"
    names = {"boolean": "true or false", "string": "text", "object": "mapping", "array": "list"}
    kind = schema.get("type", "any value")
    return names.get(kind, kind) + _bounds(schema)


def _bounds(schema: Schema) -> str:
    low = schema.get("minimum", schema.get("ge"))
    high = schema.get("maximum", schema.get("le"))
    above = schema.get("exclusiveMinimum", schema.get("gt"))
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    words = {"greater than": above, "at least": low, "at most": high}
    return "".join(f", {word} {bound:g}" for word, bound in words.items() if bound is not None)


def _default(schema: Schema) -> str:
    """A default as YAML, in one line."""
    if schema.get("default") in (None, "", {}):
        return ""
    text = yaml.safe_dump(schema["default"], default_flow_style=True, width=1_000)
    return f"default: {code(text.strip().removesuffix('...').strip())}"


def _search() -> Iterator[str]:
    yield "## Search files\n"
    root = Search.model_json_schema()
    parameter = {**Parameter.model_json_schema(), "description": Parameter.__doc__}
    for name, schema, own in [*_sections(root), *_sections(parameter, "rounds.space.NAME")]:
        yield f"### Search: {code(name)}\n" if name else "### The search\n"
        yield escaped(schema["description"]) + "\n"
        for key, part in own.items():
            doc = " ".join(part.get("description", "").split())
            dotted = f"{name}.{key}".lstrip(".")
            yield _entry(dotted, [type_in_words(part), _default(part)], doc, "search-")


def page() -> str:
    """Everything below the introduction of docs/reference/settings.md."""
    return "\n".join([*_experiment(), *_search()])
