"""What the kernels' source guarantees before it runs: types that cannot be confused, and an
up-to-date stub file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gallop import _kernels
from gallop.policies import kernels

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
AVX512 = [f"-m{name}" for name in ("fma", "avx512f", "avx512dq", "avx512vl", "avx512bw")]
SETS = {
    "baseline": ["-DLANES=4"],
    "avx512bf16": ["-DLANES=16", *AVX512, "-mavx512bf16"],
}

PROGRAM = """
#include "layer.hpp"
using namespace gallop;
using namespace gallop::ISA;

void multiply(const float* floats, Word* words, float* out) {{
  {statement}
  rows_times_matrix(operands, 4, 32, 32, 0, 4, [&](int row, int column, Vec sums) {{
    store(out + row * PANEL + column, sums);
  }});
}}
"""


def refusal(isa, statement):
    """The compiler's errors; empty if it accepts the program."""
    if COMPILER is None:
        pytest.skip("there is no C++ compiler")
    options = ["-std=gnu++20", "-fsyntax-only", f"-DISA={isa}", *SETS[isa], f"-I{ROOT}/native"]
    done = subprocess.run(
        [COMPILER, *options, "-x", "c++", "-"],
        input=PROGRAM.format(statement=statement),
        capture_output=True,
        text=True,
        check=False,
    )
    errors = "\n".join(line for line in done.stderr.splitlines() if "error:" in line)
    assert (done.returncode != 0) == bool(errors), done.stderr
    return errors


@pytest.mark.parametrize("isa", SETS)
def test_a_product_of_floats_compiles(isa):
    assert refusal(isa, "const Operands<Floats> operands = one(floats, floats);") == ""


def test_a_product_of_words_compiles_where_there_is_bfloat16():
    statement = "const Operands<Halves> operands = parts_of(1, &words, &words);"
    assert refusal("avx512bf16", statement) == ""
    assert "add_product" in refusal("baseline", statement)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("const auto operands = one(words, floats);", "Word"),
        ("const Operands<Floats> operands = parts_of(1, &words, &words);", "Operands<"),
        ("const Operands<Halves> operands = one(floats, floats);", "Operands<"),
        ("const auto operands = parts_of(1, &floats, &words);", "float"),
        ("const auto operands = one(floats, floats); const Vec x = load(words);", "Vec"),
    ],
)
def test_floats_and_words_of_two_halves_cannot_be_confused(isa, statement, error):
    """Also where there is no bfloat16: both have 32 bits there as well."""
    assert error in refusal(isa, statement)


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
