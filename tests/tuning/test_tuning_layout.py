"""One file of `tuning` knows the algorithms."""

from __future__ import annotations

import ast
from pathlib import Path

from gallop.tuning import algorithm

PACKAGE = Path(__file__).parents[2] / "src" / "gallop"


def texts(tree):
    """Every string of a module that is no docstring."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield node.value


def test_one_file_alone_names_an_algorithm():
    naming = {
        path.name
        for path in (PACKAGE / "tuning").glob("*.py")
        if set(algorithm.names()) & set(texts(ast.parse(path.read_text())))
    }
    assert naming <= {"algorithm.py"}
