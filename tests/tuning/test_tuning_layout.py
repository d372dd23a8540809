"""One file alone touches Optuna's internals."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "gallop"
ADAPTER = PACKAGE / "tuning" / "optuna_adapter.py"
OF_NAMED_TUPLES = {"_asdict", "_replace", "_make", "_fields"}  # public in spite of their names
OURS = {"self", "cls"}


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


def optunas_names(tree):
    """Names that a module imports from Optuna."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            yield from (alias.asname or alias.name for alias in node.names)
        if isinstance(node, ast.Import):
            yield from (a.asname or a.name for a in node.names if a.name.startswith("optuna"))


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def internals(tree):
    """What of Optuna's internals a module touches: attributes, private modules, overridden classes,
    and the names under which its pruners keep notes."""
    ours = set(optunas_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner not in OURS and node.attr not in OF_NAMED_TUPLES:
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            yield from filter(is_private, parts)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("optuna._"))
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).split(".")[0] for base in node.bases}
            yield from sorted(bases & ours)
    for text in texts(tree):
        if isinstance(text, str) and text.startswith("completed_rung"):
            yield text


def test_one_file_alone_touches_optunas_internals():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path != ADAPTER and (path.parent.name == "tuning" or [*optunas_names(tree)]):
            touched = list(internals(tree))
            found |= {path.name: touched} if touched else {}
    assert not found


def test_what_the_adapter_touches_is_seen():
    expected = {"_storage", "_trial_id", "_get_bracket_id", "HyperbandPruner", "completed_rung_"}
    assert set(internals(ast.parse(ADAPTER.read_text()))) == expected
    program = (
        "from optuna.samplers._tpe import probability_distributions\nimport optuna._hypervolume"
    )
    assert set(internals(ast.parse(program))) == {"_tpe", "optuna._hypervolume"}
