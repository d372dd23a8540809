"""Pydantic's errors as one line: setting, value, what is allowed, nearest valid name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from gallop.errors import ExperimentError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails


def explain(
    model: type[BaseModel], detail: ErrorDetails, keys_and_indices: bool = False
) -> ExperimentError:
    """Convert one of pydantic's errors to an error of one line.

    Args:
        model: the model that was validated.
        detail: the error.
        keys_and_indices: also name the place inside lists and mappings, as in
            `rounds.0.space.gamma`; the message then does not show the value of a list.
    """
    kind, value, location = detail["type"], detail["input"], detail["loc"]
    if kind == "extra_forbidden":
        place = _place(model, location[:-1], keys_and_indices)
        name = ".".join([*place.names, str(location[-1])])
        if place.owner is None:
            return ExperimentError("unknown setting", name)
        last, allowed = str(location[-1]), list(place.owner.model_fields)
        # In other sections only the same name: a misspelt one is likelier to be of this section.
        elsewhere = did_you_mean(last, list(_dotted_names(model)), similarity=1)
        return ExperimentError(f"unknown setting; {elsewhere or nearest(last, allowed)}", name)
    place = _place(model, location, keys_and_indices)
    name = ".".join(place.names)
    if kind == "missing":
        return ExperimentError("is missing, and has no default", name)
    if kind == "literal_error":
        hint = nearest(str(value), _texts(place.annotation))
        return ExperimentError(f"{value!r} is unknown; {hint}", name)
    message = _MESSAGES.get(kind, detail["msg"].removeprefix("Value error, "))
    message = message.format_map(detail.get("ctx", {})) if kind in _MESSAGES else message
    if kind in _NO_LIST and isinstance(value, str | int | float):
        message += f": [{value}]"
    hidden = (dict, list, tuple) if keys_and_indices else (dict,)
    shown = "" if isinstance(value, hidden) else f"{value!r}: "
    return ExperimentError(f"{shown}{message[:1].lower()}{message[1:]}", name)


_NO_LIST = ("list_type", "tuple_type")
_MESSAGES = {  # pydantic's type of error -> our message
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be less than {lt:g}",
    "finite_number": "must be finite",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text",
    **dict.fromkeys(_NO_LIST, "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a mapping"),
    "too_long": "must have at most {max_length} items",
}


def section(owner: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field that is a section; None for other fields."""
    annotation = owner.model_fields[name].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _dotted_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The names of all settings, also of those in sections: `spare.size`."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        is_mapping = get_origin(field.annotation) is dict  # its keys are names of the user's
        if not is_mapping and (below := section(model, name)):
            yield from _dotted_names(below, f"{prefix}{name}.")


class _Place(NamedTuple):
    """Where in a model an error is."""

    names: list[str]
    owner: type[BaseModel] | None
    """The model at that place; None inside a plain value."""
    annotation: object
    """Type of the last setting on the path."""


def _place(
    model: type[BaseModel], location: tuple[int | str, ...], keys_and_indices: bool
) -> _Place:
    names: list[str] = []
    owner: type[BaseModel] | None = model
    annotation: object = None
    for part in location:
        if owner is not None and isinstance(part, str) and part in owner.model_fields:
            names.append(part)
            annotation = owner.model_fields[part].annotation
            owner = section(owner, part)
        elif keys_and_indices:
            names.append(str(part))
        elif isinstance(part, str):  # the name of a union's member that pydantic tried
            break
    return _Place(names, owner, annotation)


def _texts(annotation: object) -> list[str]:
    """The strings that a Literal allows, alone or in a union."""
    texts = [
        value
        for choice in (annotation, *get_args(annotation))
        for inner in (choice, *get_args(choice))
        for value in (get_args(inner) or [inner])
        if isinstance(value, str)
    ]
    return list(dict.fromkeys(texts))  # the nested loops find some twice
