#!/usr/bin/env bash
# Ray 2.60.0: ray.init(log_to_driver=False) does not keep Ray's own messages off the driver's
# standard output: deaths of workers and nodes are still printed there.
#
# log_to_driver is about the output of worker processes. A second thread of the driver
# (listen_error_messages in ray/_private/worker.py) prints what raylets report, always, to
# sys.stdout, and with colour codes even if that is a file. So a program whose standard output is
# data (JSON, CSV) gets other lines in it as soon as a node of the cluster dies. Neither
# log_to_driver nor logging_level changes this.
#
# Output (the driver itself prints nothing):
#   (raylet) A worker died or was killed
#   (raylet) The node with node id ... has been marked dead
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0 click==8.5.1 protobuf==7.36.2
cd "$folder"
export HOME="$folder" RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
"$folder/venv/bin/ray" get-auth-token --generate > token 2> errors
cat > driver.py <<'PY'
import os
import pathlib
import signal
import sys
import time

import ray

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")


@ray.remote(max_retries=0)
def dies():
    os.kill(os.getpid(), signal.SIGKILL)


try:
    ray.get(dies.remote())
except ray.exceptions.WorkerCrashedError:
    pathlib.Path("ready").touch()
while all(node["Alive"] for node in ray.nodes()):
    time.sleep(0.1)
time.sleep(3)  # the message comes from another thread
PY
cat > look.py <<'PY'
import pathlib
import re
import subprocess
import sys
import time

from ray.cluster_utils import Cluster

# Ray replaces 127.0.0.1, not 127.0.0.2, by the machine's address.
small = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.2"}
cluster = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
node = cluster.add_node(**small)
command = [sys.executable, "driver.py", cluster.address]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not pathlib.Path("ready").exists():
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)
        output, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
cluster.shutdown()
plain = re.sub(r"\x1b\[\d+m", "", output)
for pattern in (r"\(raylet\) A worker died or was killed",
                r"\(raylet\) The node with node id: \w+.* has been marked dead"):
    for found in re.findall(pattern, plain):
        print(re.sub(r"id: .* has", "id ... has", found))
PY
seen=$("$folder/venv/bin/python" look.py 2> errors) || { cat errors; exit 1; }
echo "$seen"
[ "$seen" = "(raylet) A worker died or was killed
(raylet) The node with node id ... has been marked dead" ]
