"""Run the kernels' tests on the module in $KERNELS_FOLDER instead of the installed one."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import gallop

(path,) = Path(os.environ["KERNELS_FOLDER"]).glob("_kernels*.so")
spec = importlib.util.spec_from_file_location("gallop._kernels", path)
module = importlib.util.module_from_spec(spec)
sys.modules["gallop._kernels"] = gallop._kernels = module
spec.loader.exec_module(module)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/learners/test_kernels.py"]))
