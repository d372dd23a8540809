"""The order of imports is the reading order, and heavy imports happen only where they are used."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from gallop.algorithms.table import ALGORITHMS

PACKAGE = Path(__file__).parents[1] / "src" / "gallop"

# The reading order of the code tour. A package imports only from those above it.
ORDER = [
    "errors",
    "strict_json",
    "plain_output",
    "reading",
    "answers",
    "machine",
    "ending",
    "fields",
    "algorithms",
    "experiments",
    "environments",
    "policies",
    "learners",
    "evaluation",
    "run_folder",
    "report",
    "execution",
    "runs",
    "tuning",
    "sharing",
    "commands",
    "__main__",
]


def modules():
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def gallop_imports(path):
    """Names below `gallop.` that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gallop":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gallop."):
            name = node.module.removeprefix("gallop.")
            known = modules()
            yield from [name] if name in known else [f"{name}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("gallop.") for a in node.names if "gallop" in a.name)


def package_of(name):
    return name.split(".")[0]


def imports_of_packages():
    """(package, package that it imports from) -> the modules that do."""
    found = {}
    for name, path in modules().items():
        for imported in gallop_imports(path):
            found.setdefault((package_of(name), package_of(imported)), []).append(name)
    return found


def test_the_order_names_every_package_once():
    assert sorted(ORDER) == sorted({package_of(name) for name in modules()})


def test_a_package_imports_only_from_those_above_it():
    everywhere = dict.fromkeys(("_kernels", "__version__", "DISTRIBUTION"), -1)
    known = {**everywhere, **{name: i for i, name in enumerate(ORDER)}}
    upward = {
        arrow: names
        for arrow, names in imports_of_packages().items()
        if known[arrow[0]] < known[arrow[1]]
    }
    assert not upward


def test_there_are_no_import_cycles():
    graph = {name: set(gallop_imports(path)) & set(modules()) for name, path in modules().items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_code_tour_names_every_package_in_this_order():
    tour = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    tour = tour[tour.index("## Code tour") :]
    places = [max(tour.find(f"`{name}/`"), tour.find(f"`{name}.py`")) for name in ORDER[:-1]]
    assert -1 not in places, f"not in the tour: {ORDER[places.index(-1)]}"
    assert places == sorted(places)


def test_no_algorithm_is_named_outside_its_file():
    naming = {}
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if package_of(name) != "algorithms" and texts & ALGORITHMS.keys():
            naming[name] = texts & ALGORITHMS.keys()
    assert not naming


def test_nothing_is_called_utils():
    banned = {"utils", "common", "helpers", "manager", "misc"}
    assert not banned & {part for name in modules() for part in name.split(".")}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["watch", "--help"], ["tune", "--help"]]
)
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\n"
        "from gallop.commands.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'gymnasium', 'mujoco', 'matplotlib', 'stable_baselines3', 'numpy'}\n"
        "heavy |= {'optuna', 'pandas', 'plotly', 'scipy', 'sqlalchemy'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert "usage: gallop" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"
