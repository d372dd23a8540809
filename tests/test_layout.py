"""Import order = reading order; heavy imports only where used; every size and name as agreed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "gallop"

# The reading order of the README's code tour. A module imports only from those above it.
ORDER = [
    "settings",
    "search_results",
    "experiment_file",
    "presets",
    "zoo_file",
    "plan",
    "seeding",
    "statistics",
    "environments",
    "learners.learner",
    "learners.kernels",
    "learners.mlp_policy",
    "learners.safe_archive",
    "learners.pickled_arrays",
    "learners.policy_file",
    "learners.normalization",
    "learners.stable_baselines",
    "learners.native",
    "learners.native_replay",
    "learners.native_off_policy",
    "learners.native_on_policy",
    "learners.choose",
    "evaluation",
    "run_directory",
    "trackers",
    "provenance",
    "checkpoint",
    "listing",
    "stopping",
    "training",
    "figures",
    "video",
    "film_queue",
    "display",
    "policies",
    "player",
    "judge",
    "workflow",
    "extension",
    "export",
    "execution.work",
    "execution.worker",
    "execution.processes",
    "seed_group",
    "tuning.space",
    "tuning.search",
    "tuning.search_directory",
    "tuning.study",
    "tuning.trial",
    "tuning.coordinator",
    "tuning.retraining",
    "tuning.study_figures",
    "tuning.study_page",
    "tuning.artefacts",
    "tuning.live_table",
    "tuning.rounds",
    "doctor",
    "cli",
    "__main__",
]


def modules():
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def gallop_imports(path):
    """Names below `gallop.` that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gallop":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gallop."):
            name = node.module.removeprefix("gallop.")
            known = modules()
            yield from [name] if name in known else [f"{name}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("gallop.") for a in node.names if "gallop" in a.name)


def test_the_order_names_every_module_once():
    assert sorted(ORDER) == sorted(modules())


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_those_above_it(name):
    above = {*ORDER[: ORDER.index(name)], "__version__"}
    if name.startswith("learners."):
        above.add("_kernels")  # compiled from native/
    assert set(gallop_imports(modules()[name])) <= above


def test_the_readme_tours_the_modules_in_this_order():
    readme = (PACKAGE.parents[1] / "README.md").read_text()
    tour = readme[readme.index("## Code tour") :]
    files = [f"{name.replace('.', '/')}.py" for name in ORDER if name != "__main__"]
    places = [tour.find(f"`{file}`") for file in files]
    assert -1 not in places, f"not in the tour: {files[places.index(-1)]}"
    assert places == sorted(places)


def test_nothing_is_called_utils():
    banned = {"utils", "common", "helpers", "manager", "misc"}
    assert not banned & {part for name in modules() for part in name.split(".")}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["watch", "--help"], ["tune", "--help"]]
)
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\n"
        "from gallop.cli import main\n"
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
