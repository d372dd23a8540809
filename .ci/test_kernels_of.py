"""Run tests with the kernels in $KERNELS_FOLDER instead of the installed ones.

KERNELS_FOLDER=build/x python .ci/test_kernels_of.py TEST ...
"""

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
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", *sys.argv[1:]]))
