"""The examples in docstrings (`>>> …`) show what the functions return."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import gallop

PACKAGE = Path(gallop.__file__).parent
# Only modules with examples are imported: importing every one would take seconds, and
# environments/fork_server.py acts when it is imported.
MODULES = sorted(
    ".".join(("gallop", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0, "an example that doctest does not find"
    assert found.failed == 0, "see the captured output"


def test_modules_with_examples_are_found():
    assert {"gallop.errors", "gallop.experiments.presets", "gallop.policies.normalizer"} <= {
        *MODULES
    }
