#!/usr/bin/env bash
# Ray 2.60.0: ray.cancel(future) does not interrupt time.sleep: the task ends when its sleep ends.
#
# The documentation says that a KeyboardInterrupt is raised in the task (force=False). Ray asks for
# it with Python's _thread.interrupt_main, which Python sees only between two bytecodes; a signal
# would end the sleep at once, as Ctrl-C does. So a call that blocks (a sleep, a long computation in
# C) holds its CPU and delays TaskCancelledError until it returns. A task that sleeps in short
# pieces ends in time. Known as issue 32954 of ray-project/ray, open since March 2023.
#
# Output (seconds from ray.cancel, 3 s after the task began, to TaskCancelledError):
#   time.sleep(15): 12.0 s; 15 times time.sleep(1): 1.0 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0 click==8.5.1 protobuf==7.36.2
cd "$folder"
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0
cat > look.py <<'PY'
import pathlib
import sys
import time

import ray

ray.init(
    address="local",
    num_cpus=1,
    object_store_memory=80_000_000,
    include_dashboard=False,
    _node_ip_address="127.0.0.1",
    _temp_dir=sys.argv[1] + "/ray",
)


@ray.remote
def sleeps(started, times, seconds):
    pathlib.Path(started).touch()
    for _ in range(times):
        time.sleep(seconds)


def delay(times, seconds):
    """Seconds from ray.cancel to TaskCancelledError."""
    started = pathlib.Path(sys.argv[1]) / f"started {times}"
    future = sleeps.remote(str(started), times, seconds)
    while not started.exists():
        time.sleep(0.01)
    time.sleep(3)
    cancelled = time.monotonic()
    ray.cancel(future)
    try:
        ray.get(future)
    except ray.exceptions.TaskCancelledError:
        return time.monotonic() - cancelled
    sys.exit("the task was not cancelled")


long, short = delay(1, 15), delay(15, 1)
print(f"time.sleep(15): {long:.1f} s; 15 times time.sleep(1): {short:.1f} s")
sys.exit(not (long > 11 and short < 5))
PY
"$folder/venv/bin/python" look.py "$folder" 2> errors || { cat errors; exit 1; }
