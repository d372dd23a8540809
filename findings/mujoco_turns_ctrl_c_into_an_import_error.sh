#!/usr/bin/env bash
# mujoco 3.15.0: Ctrl-C while MuJoCo is being imported raises ImportError, not KeyboardInterrupt.
#
# Its compiled modules import others as they load. A KeyboardInterrupt there becomes "ImportError:
# initialization failed", with the KeyboardInterrupt as its cause. So `except ImportError`, as
# around an optional dependency, swallows Ctrl-C, and the program goes on as if MuJoCo were not
# installed. The interrupt is raised here at a fixed place: when a compiled module of MuJoCo imports
# another one.
#
# Output:
#   ImportError: initialization failed; at its root KeyboardInterrupt
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 mujoco==3.15.0
cat > "$folder/look.py" <<'PY'
import sys


class Finder:
    """Raises what Ctrl-C raises, when a compiled module imports another one."""

    def find_spec(self, name, path=None, target=None):
        if name == "mujoco._structs":
            raise KeyboardInterrupt
        return None


sys.meta_path.insert(0, Finder())
try:
    import mujoco
except BaseException as error:
    root = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__
    print(f"{type(error).__name__}: {error}; at its root {type(root).__name__}")
PY
seen=$("$folder/venv/bin/python" -W ignore "$folder/look.py")
echo "$seen"
[ "$seen" = "ImportError: initialization failed; at its root KeyboardInterrupt" ]
