#!/usr/bin/env bash
# Ray 2.60.0: ray.init(address=...) takes 41 s to try an address where nothing listens, and tries 20
# times: its ConnectionError comes after more than 13 minutes.
#
# The connection is refused at once, but each try waits 40 s in Ray's C++ code and a second more. A
# comment in ray/_private/node.py (_init_gcs_client) counts a second for a try and calls the 20
# tries "~20s". ray.init has no argument for a timeout; RAY_NUM_REDIS_GET_RETRIES, read when ray is
# imported, sets the number of tries. A program can try socket.create_connection(address, timeout=5)
# first.
#
# Output:
#   1 try: ConnectionError after 41 s; 2 tries: ConnectionError after 82 s; tries by default: 20
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0 click==8.5.1 protobuf==7.36.2
cd "$folder"
export HOME="$folder" RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0
unset RAY_NUM_REDIS_GET_RETRIES RAY_gcs_server_port_wait_time_s
cat > look.py <<'PY'
import socket
import time

import ray

with socket.socket() as closed:
    # Nobody listens, and nobody else can take the port. Ray replaces 127.0.0.1, not 127.0.0.2, by
    # the machine's address.
    closed.bind(("127.0.0.2", 0))
    start = time.monotonic()
    try:
        ray.init(address=f"127.0.0.2:{closed.getsockname()[1]}")
    except ConnectionError:
        print(f"{time.monotonic() - start:.0f}")
PY
python="$folder/venv/bin/python"
RAY_NUM_REDIS_GET_RETRIES=1 "$python" look.py > one 2> errors_one &
one=$!
RAY_NUM_REDIS_GET_RETRIES=2 "$python" look.py > two 2> errors_two &
two=$!
default=$("$python" -c 'import ray._private.ray_constants as c; print(c.NUM_REDIS_GET_RETRIES)')
wait $one || { cat errors_one; exit 1; }
wait $two || { cat errors_two; exit 1; }
echo "1 try: ConnectionError after $(cat one) s; 2 tries: ConnectionError after $(cat two) s;" \
  "tries by default: $default"
[ "$(cat one)" -ge 38 ] && [ "$(cat two)" -ge 76 ] && [ "$default" = 20 ]
