"""Draws docs/architecture.svg: how many modules of each package import from each other package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "gallop"


def order() -> list[str]:
    """Packages in the order of the code tour."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line for line in text.split("## Code tour")[1].split("\n") if line.startswith("| `")]
    return [row.split("`")[1].removesuffix("/").removesuffix(".py") for row in rows]


def imports(path: Path) -> Iterator[str]:
    """Packages below `gallop.` that a module imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "gallop":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gallop."):
            yield str(node.module).split(".")[1]


def main() -> None:
    """Count, draw, write."""
    names = order()
    counts = np.zeros((len(names), len(names)), int)
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for other in {name for name in imports(path) if name in names and name != own}:
            if own in names:
                counts[names.index(own), names.index(other)] += 1
    figure = Figure(figsize=(8.5, 6.5), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.where(counts, np.sqrt(counts), np.nan), cmap="GnBu", vmin=0, vmax=6)
    for (row, column), n in np.ndenumerate(counts):
        if n:
            axes.text(column, row, str(n), ha="center", va="center", fontsize=9)
    axes.plot([-0.5, len(names) - 0.5], [-0.5, len(names) - 0.5], color="#c8553d", linewidth=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("is imported")
    axes.set_ylabel("imports")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    # No date and a fixed salt: the same code gives the same file.
    figure.savefig(ROOT / "docs" / "architecture.svg", metadata={"Date": None})


if __name__ == "__main__":
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "gallop"
    matplotlib.rcParams["svg.fonttype"] = "none"
    main()
