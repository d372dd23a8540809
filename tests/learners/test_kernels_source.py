"""The kernels' bindings: an up-to-date stub file, and arguments by name only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gallop import _kernels
from gallop.policies import kernels

ROOT = Path(__file__).parents[2]


def test_the_stub_file_is_what_nanobind_writes(tmp_path):
    written = str(tmp_path / "_kernels.pyi")
    stubgen = ["nanobind.stubgen", "-q", "-m", "gallop._kernels", "-o", written]
    ruff = ["ruff", "format", "-q", "--config", str(ROOT / "pyproject.toml"), written]
    for module in (stubgen, ruff):
        subprocess.run([sys.executable, "-m", *module], check=True)
    committed = (ROOT / "src" / "gallop" / "_kernels.pyi").read_text()
    assert Path(written).read_text() == committed, "run `make stubs`"


def test_positions_are_refused():
    engine = kernels.engine(1)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _kernels.AdamSettings(0.9, 0.999, 1e-8, 0.0)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _kernels.Mlp(engine, [3, 1], "relu", "none")
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _kernels.AdamSettings(beta1=0.9, beta2=0.999, epsilon=1e-8)
