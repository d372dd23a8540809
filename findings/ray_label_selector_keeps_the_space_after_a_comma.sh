#!/usr/bin/env bash
# Ray 2.60.0: in a label selector with several values, a space after a comma becomes part of the
# value that follows: "!in(a, b)" excludes only a, and "in(a, b)" selects only a.
#
# Ray accepts the space without a warning; the comment above its pattern for valid selectors
# (LABEL_SELECTOR_REGEX in ray/_private/label_utils.py) even lists "!in(spot, on-demand)". The
# scheduler then looks for the label " on-demand", which no node can have. So a task runs on a node
# that it should avoid, or waits forever for a node that is there. `", ".join(...)` is enough to
# get this; `",".join(...)` is right.
#
# Output (the only node has the label market=on-demand; each task had 15 s):
#   in(spot,on-demand) ran | in(spot, on-demand) waits
#   !in(spot,on-demand) waits | !in(spot, on-demand) ran
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0 click==8.5.1 protobuf==7.36.2
cd "$folder"
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0
cat > look.py <<'PY'
import sys

import ray

ray.init(
    address="local",
    num_cpus=1,
    object_store_memory=80_000_000,
    include_dashboard=False,
    labels={"market": "on-demand"},
    _node_ip_address="127.0.0.1",
    _temp_dir=sys.argv[1] + "/ray",
)


@ray.remote
def task():
    return None


ray.get(task.remote())  # a worker process is there
selectors = [
    f"{operator}(spot,{space}on-demand)" for operator in ("in", "!in") for space in ("", " ")
]
futures = [task.options(label_selector={"market": selector}).remote() for selector in selectors]
ran, _ = ray.wait(futures, num_returns=len(futures), timeout=15)
seen = [f"{selector} {'ran' if future in ran else 'waits'}"
        for selector, future in zip(selectors, futures)]
print(" | ".join(seen[:2]))
print(" | ".join(seen[2:]))
PY
seen=$("$folder/venv/bin/python" look.py "$folder" 2> errors) || { cat errors; exit 1; }
echo "$seen"
[ "$seen" = "in(spot,on-demand) ran | in(spot, on-demand) waits
!in(spot,on-demand) waits | !in(spot, on-demand) ran" ]
