#!/usr/bin/env bash
# scikit-build-core 1.1.2: an `if.failed` override makes pip compile everything before it downloads
# anything.
#
# With such an override (to install without the extension if it does not compile) the backend does
# not provide prepare_metadata_for_build_wheel. pip then builds the whole wheel to read its
# dependencies, so it compiles first and downloads afterwards, one after the other.
#
# Output:
#   without override: True; with if.failed: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-build-core==1.1.2
cd "$folder"
mkdir plain failed
cat > plain/pyproject.toml <<'TOML'
[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"

[project]
name = "example"
version = "1"
TOML
cp plain/pyproject.toml failed/
cat >> failed/pyproject.toml <<'TOML'

[[tool.scikit-build.overrides]]
if.failed = true
wheel.cmake = false
TOML
look() {
  (cd "$1" && "$folder/venv/bin/python" -c \
    'import scikit_build_core.build as b; print(hasattr(b, "prepare_metadata_for_build_wheel"))')
}
seen="without override: $(look plain); with if.failed: $(look failed)"
echo "$seen"
[ "$seen" = "without override: True; with if.failed: False" ]
