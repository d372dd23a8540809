#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy writes the values of a Fortran-ordered array in the wrong
# order.
#
# It stores the array's shape with the bytes in the order of memory. A transposed array (for example
# a weight matrix converted to another library's layout) is loaded with the right shape, type and
# sum but wrong values, without an error. 0.7.0 wrote it correctly. Workaround: np.ascontiguousarray
# before saving.
#
# Output:
#   saved [[0, 3], [1, 4], [2, 5]]; 0.8.0 loads [[0, 1], [2, 3], [4, 5]], 0.7.0 [[0, 3], [1, 4], [2, 5]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
cat > look.py <<'PY'
import numpy as np
from safetensors.numpy import load_file, save_file

array = np.arange(6).reshape(2, 3).T
assert array.tolist() == [[0, 3], [1, 4], [2, 5]]
save_file({"array": np.ascontiguousarray(array)}, "file.safetensors")
assert np.array_equal(load_file("file.safetensors")["array"], array)
save_file({"array": array}, "file.safetensors")
print(load_file("file.safetensors")["array"].tolist())
PY
new=$("$folder/venv/bin/python" -W error look.py)
"$folder/venv/bin/pip" install --quiet safetensors==0.7.0
old=$("$folder/venv/bin/python" -W error look.py)
seen="saved [[0, 3], [1, 4], [2, 5]]; 0.8.0 loads $new, 0.7.0 $old"
echo "$seen"
[ "$seen" = "saved [[0, 3], [1, 4], [2, 5]]; 0.8.0 loads [[0, 1], [2, 3], [4, 5]], 0.7.0 [[0, 3], [1, 4], [2, 5]]" ]
