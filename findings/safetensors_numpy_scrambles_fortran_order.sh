#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy writes a Fortran-ordered array with its values in the wrong places.
#
# It stores the array's shape with the bytes as they lie in memory. A transposed array (a weight matrix
# turned to another library's layout, say) comes back with the right shape, type and sum, and is wrong,
# without a word. 0.7.0 wrote it rightly. np.ascontiguousarray before saving helps.
#
# Seen: "saved [[0, 3], [1, 4], [2, 5]]; 0.8.0 loads [[0, 1], [2, 3], [4, 5]], 0.7.0 [[0, 3], [1, 4], [2, 5]]"
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
