"""Pydantic's errors in one line: the place, the value, what is allowed."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from gallop.experiments.explain import explain
from gallop.fields import PositiveInt, Settings


class Wheel(Settings):
    size: PositiveInt = 1
    tyre: Literal["slick", "wet"] | None = None


class Car(Settings):
    wheels: dict[str, Wheel] = Field(default={})
    weights: list[int] = Field(default=[])
    spare: Wheel = Wheel()


@pytest.mark.parametrize(
    ("data", "short", "long"),
    [
        ({"spare": {"tyre": "ice"}}, "spare.tyre: 'ice' is unknown; allowed: slick, wet", None),
        ({"spare": {"syze": 2}}, "spare.syze: unknown setting; did you mean size?", None),
        ({"size": 2}, "size: unknown setting; did you mean spare.size?", None),
        ({"spare": {"weights": [2]}},
         "spare.weights: unknown setting; did you mean weights?", None),
        ({"spare": {"size": 0}},
         "spare.size: 0: must be at least 1", None),
        ({"wheels": {"left": {"size": 0}}},
         "wheels: 0: must be at least 1",
         "wheels.left.size: 0: must be at least 1"),
        ({"weights": [[2]]}, "weights: [2]: must be a whole number",
         "weights.0: must be a whole number"),
    ],
)  # fmt: skip
def test_the_error_names_the_place_at_the_requested_precision(data, short, long):
    with pytest.raises(ValidationError) as caught:
        Car.model_validate(data)
    (detail,) = caught.value.errors(include_url=False)
    for keys_and_indices, expected in ((False, short), (True, long or short)):
        error = explain(Car, detail, keys_and_indices)
        assert f"{error.field}: {error.message}" == expected
