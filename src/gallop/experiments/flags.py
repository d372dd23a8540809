"""Name, type, default and documentation of every setting, for the command line and the docs.

All of it is derived from the declarations in settings.py and in the files of the algorithms.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gallop.algorithms.hyperparameters import NetArch
from gallop.algorithms.spec import AlgorithmSpec
from gallop.algorithms.table import ALGORITHMS
from gallop.experiments.explain import section
from gallop.experiments.settings import EXPERIMENTS
from gallop.fields import Shown

HYPERPARAMETERS = "hyperparameters."
COMMON = "common hyper-parameters"
NETWORKS = "networks"
_POLICY_KWARGS = f"{HYPERPARAMETERS}policy_kwargs."
_DEFAULT = "Default: "  # in a docstring: what follows describes a default that is not a constant


class Flag(NamedTuple):
    """One setting: a flag of `gallop run`, and a key of its YAML files."""

    name: str
    """Dotted name, such as `hyperparameters.gamma`."""
    doc: str
    """What it is, without its default."""
    default: str
    """Default in words; where algorithms differ, with the names of those that do. Empty: none."""
    defaults: Mapping[str, str]
    """Name of the algorithm -> its default."""
    kind: str
    """Type in words, such as `integer`."""
    choices: tuple[str, ...]
    """Values to choose from; empty where there are other values, too."""
    limits: str
    """Range of a number, such as `at least 1`; empty if there is none."""
    metavar: str
    """Stands for the value in help."""
    group: str
    """Heading under which it is listed."""
    rare: bool
    """Whether `gallop run --help` leaves it to `--help-all`."""
    algorithms: tuple[str, ...]
    """Names of the algorithms that have it."""

    @property
    def only_for(self) -> str:
        """Names of the algorithms that have it, if these are not all that the heading covers."""
        names = display_names(self.algorithms)
        is_covered = len(self.algorithms) == len(ALGORITHMS) or names in self.group
        return "" if is_covered else names

    def of(self, algo: str) -> Flag:
        """The setting as one algorithm has it."""
        (found,) = (flag for flag in flags([algo]) if flag.name == self.name)
        return found


def flags(algorithms: Iterable[str] = ALGORITHMS) -> list[Flag]:
    """Every setting, in the order of declaration.

    >>> [flag.default for flag in flags(["td3"]) if flag.name == "hyperparameters.learning_rate"]
    ['0.001']

    Args:
        algorithms: names of the algorithms whose settings to list.
    """
    declared: dict[str, dict[str, _Declared]] = {}
    for algo in algorithms:
        for setting in _settings(EXPERIMENTS[algo], ALGORITHMS[algo]):
            declared.setdefault(setting.name, {})[algo] = setting
    return [_flag(by_algorithm) for by_algorithm in declared.values()]


def display_names(algorithms: Iterable[str]) -> str:
    """Names of algorithms as in the literature.

    >>> display_names(["sac", "crossq"])
    'SAC, CrossQ'
    """
    return ", ".join(ALGORITHMS[algo].display_name for algo in algorithms)


class _Type(NamedTuple):
    """How a type is written."""

    kind: str
    metavar: str
    choices: tuple[str, ...] = ()


class _Declared(NamedTuple):
    """A setting of the experiments with one algorithm."""

    name: str
    doc: str
    default: str
    type: _Type
    limits: str
    shown: Shown


def _flag(by_algorithm: Mapping[str, _Declared]) -> Flag:
    """Merge the declarations of the algorithms."""
    algorithms = tuple(by_algorithm)
    first = next(iter(by_algorithm.values()))
    kinds = {algo: setting.type.kind for algo, setting in by_algorithm.items()}
    metavars = dict.fromkeys(setting.type.metavar for setting in by_algorithm.values())
    choices = dict.fromkeys(c for setting in by_algorithm.values() for c in setting.type.choices)
    docs = {algo: setting.doc for algo, setting in by_algorithm.items()}
    defaults = {algo: setting.default for algo, setting in by_algorithm.items()}
    limits = {algo: setting.limits for algo, setting in by_algorithm.items()}
    is_hyperparameter = first.name.startswith(HYPERPARAMETERS)
    return Flag(
        name=first.name,
        doc=_by_algorithm(docs, " "),
        default=_default_in_words(defaults),
        defaults=defaults,
        kind=_by_algorithm(kinds, "; "),
        choices=tuple(choices),
        limits=_by_algorithm(limits, "; "),
        metavar=first.shown.metavar or _braced(choices) or "|".join(metavars),
        group=_group(first.name, algorithms) if is_hyperparameter else first.shown.group,
        rare=is_hyperparameter if first.shown.rare is None else first.shown.rare,
        algorithms=algorithms,
    )


def _group(name: str, algorithms: tuple[str, ...]) -> str:
    """The heading of a hyper-parameter."""
    off_policy = [algo for algo, spec in ALGORITHMS.items() if not spec.on_policy]
    if len(algorithms) == 1:
        return f"{display_names(algorithms)} hyper-parameters"
    if name.startswith(_POLICY_KWARGS):
        return NETWORKS
    if set(algorithms) <= set(off_policy):
        return f"off-policy hyper-parameters ({display_names(off_policy)})"
    return COMMON


def _by_algorithm(texts: Mapping[str, str], between: str) -> str:
    """The text if all are the same; else each text after the names of its algorithms."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return between.join(
        f"{display_names([algo for algo in texts if texts[algo] == text])}: {text or 'none'}"
        for text in dict.fromkeys(texts.values())
    )


def _default_in_words(defaults: Mapping[str, str]) -> str:
    """The first algorithm's default, then those that differ from it.

    >>> _default_in_words({"sac": "0.0003", "td3": "0.001", "ppo": "0.0003", "crossq": "0.001"})
    '0.0003; TD3, CrossQ: 0.001'
    """
    first = next(iter(defaults.values()))
    others = {algo: text for algo, text in defaults.items() if text != first}
    if not others:
        return first
    named = [
        f"{display_names([algo for algo in others if others[algo] == text])}: {text or 'none'}"
        for text in dict.fromkeys(others.values())
    ]
    return "; ".join([first or "none", *named])


def _braced(choices: Iterable[str]) -> str:
    text = ",".join(choices)
    return f"{{{text}}}" if text else ""


# --- from declarations to words ------------------------------------------------------------------


def _settings(
    model: type[BaseModel], spec: AlgorithmSpec, prefix: str = "", above: Shown | None = None
) -> Iterator[_Declared]:
    """The settings of a section and of the sections inside it."""
    above = above or Shown()
    for name, field in model.model_fields.items():
        own = _merged(field.metadata)
        shown = replace(
            own,
            group=own.group or above.group,
            rare=above.rare if own.rare is None else own.rare,
        )
        dotted = f"{prefix}{name}"
        below = section(model, name)
        if below is not None and below is not NetArch:
            yield from _settings(below, spec, f"{dotted}.", shown)
            if not own.metavar:  # a section that cannot be set as a whole
                continue
        doc, _, default = " ".join((field.description or "").split()).partition(_DEFAULT)
        yield _Declared(
            name=dotted,
            doc=doc.strip(),
            default=default.removesuffix(".") or _constant(dotted, field, spec),
            type=_type(field.annotation, own),
            limits=_limits(field.annotation, field.metadata),
            shown=shown,
        )


def _merged(metadata: Iterable[object]) -> Shown:
    """Merge the marks of a type and of its setting; later ones override earlier ones."""
    found = Shown()
    for mark in metadata:
        if isinstance(mark, Shown):
            found = Shown(
                group=mark.group or found.group,
                metavar=mark.metavar or found.metavar,
                kind=mark.kind or found.kind,
                rare=found.rare if mark.rare is None else mark.rare,
            )
    return found


_PLAIN_TYPES = {
    bool: _Type("boolean", "{true,false}", ("true", "false")),
    str: _Type("text", "TEXT"),
}


def _type(annotation: Any, shown: Shown) -> _Type:
    """The words for a type, which its marks can override."""
    if shown.kind and shown.metavar:
        return _Type(shown.kind, shown.metavar)
    found = _unmarked(annotation)
    return found._replace(kind=shown.kind or found.kind, metavar=shown.metavar or found.metavar)


def _unmarked(annotation: Any) -> _Type:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], _merged(annotation.__metadata__))
    if origin is Literal:
        choices = tuple(map(str, arguments))
        return _Type("choice", _braced(choices), choices)
    if origin in (Union, types.UnionType):
        parts = [_unmarked(part) for part in arguments if part is not type(None)]
        kinds, metavars = ([*zip(*parts, strict=True)][i] for i in (0, 1))
        choices = parts[0].choices if len(parts) == 1 else ()
        return _Type(" or ".join(kinds), "|".join(metavars), choices)
    if origin in (tuple, list):
        inner = _unmarked(arguments[0])
        return _Type(f"list of {inner.kind}s", f"[{inner.metavar},...]", inner.choices)
    return _PLAIN_TYPES.get(annotation, _Type("mapping", "{KEY: VALUE}"))


def _limits(annotation: Any, metadata: Iterable[object]) -> str:
    """The range of a number in words."""
    bounds = {
        name: getattr(mark, name)
        for mark in _flattened(metadata)
        for name in ("ge", "gt", "le")
        if getattr(mark, name, None) is not None
    }
    if not bounds and get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            if get_origin(part) is Annotated and (found := _limits(None, part.__metadata__)):
                return found
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']:g} to {bounds['le']:g}"
    words = {"ge": "at least", "gt": "greater than", "le": "at most"}
    shown = [f"{word} {bounds[name]:g}" for name, word in words.items() if name in bounds]
    return ", ".join(shown)


def _flattened(metadata: Iterable[object]) -> Iterator[object]:
    for mark in metadata:
        yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)


def _constant(name: str, field: FieldInfo, spec: AlgorithmSpec) -> str:
    """A constant default; empty if there is none."""
    from_spec = {
        f"{_POLICY_KWARGS}net_arch": spec.default_net_arch,
        f"{_POLICY_KWARGS}activation_fn": spec.default_activation,
    }
    return _value(from_spec.get(name, None if field.is_required() else field.default))


def _value(value: Any) -> str:
    """A value as it can be written on the command line.

    >>> [_value(value) for value in (1_000_000, 0.0003, True, (25, 100), {"pi": [64]})]
    ['1_000_000', '0.0003', 'true', '[25,100]', '{pi: [64]}']
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and value:
        return f"{{{', '.join(f'{key}: {_value(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{','.join(map(_value, value))}]"
    return value if isinstance(value, str) else ""
