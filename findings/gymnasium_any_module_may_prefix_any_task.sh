#!/usr/bin/env bash
# gymnasium 1.4.0: the module before the colon of an id is imported, and then has no say.
#
# `gymnasium.make("package:Task-v0")` reads like "the Task-v0 of this package". It imports the
# package and looks the rest up in the one registry. A package that does not register the task, such
# as one that has its own `make`, silently yields Gymnasium's own task of that name.
#
# Output:
#   json:CartPole-v1 is gymnasium.envs.classic_control.cartpole
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 gymnasium==1.4.0
cat > "$folder/look.py" <<'PY'
import gymnasium

made = gymnasium.make("json:CartPole-v1")
print(f"json:CartPole-v1 is {type(made.unwrapped).__module__}")
PY
seen=$("$folder/venv/bin/python" -W ignore "$folder/look.py")
echo "$seen"
[ "$seen" = "json:CartPole-v1 is gymnasium.envs.classic_control.cartpole" ]
