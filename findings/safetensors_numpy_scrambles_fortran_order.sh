#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy writes a Fortran-ordered array with its values in the wrong places.
#
# It stores the array's shape with the bytes as they lie in memory. A transposed array (a weight matrix
# turned to another library's layout, say) comes back with the right shape, type and sum, and is wrong.
# safetensors.torch refuses such tensors; the NumPy side says nothing. np.ascontiguousarray helps.
#
# Seen: "saved [[0, 3], [1, 4], [2, 5]], loaded [[0, 1], [2, 3], [4, 5]]"
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
save_file({"array": array}, "file.safetensors")
loaded = load_file("file.safetensors")["array"]
print(f"saved {array.tolist()}, loaded {loaded.tolist()}")
save_file({"array": np.ascontiguousarray(array)}, "file.safetensors")
assert np.array_equal(load_file("file.safetensors")["array"], array)
PY
seen=$("$folder/venv/bin/python" -W error look.py)
echo "$seen"
[ "$seen" = "saved [[0, 3], [1, 4], [2, 5]], loaded [[0, 1], [2, 3], [4, 5]]" ]
