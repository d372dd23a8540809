#!/usr/bin/env bash
# Ray 2.60.0: `ray start --head` uses the token in ~/.ray/auth_token unasked, but the command that
# it prints for other nodes does not, even where the same file is there: it fails after 21 s.
#
# With RAY_AUTH_MODE unset, the head looks for a token (ray.init() writes one when it starts a local
# Ray); `ray start --address=...` and ray.init(address="host:port") never look for one. So whoever
# once ran ray.init() gets a cluster that nothing can join as printed. The driver's ConnectionError
# does not mention the token; only lines on standard error do. RAY_AUTH_MODE=token is needed in
# every shell. Reviews of pull requests 64755 and 66248 of ray-project/ray pointed this out.
#
# Output (all on one machine, as one user):
#   as printed: AuthenticationError; driver: ConnectionError without the word token
#   with RAY_AUTH_MODE=token: node started; driver: connected
set -euo pipefail
folder=$(mktemp -d)
pids=()
finish() {
  kill "${pids[@]}" 2> "$folder/kill" || true
  wait
  rm -rf "$folder"
}
trap finish EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0 click==8.5.1 protobuf==7.36.2
cd "$folder"
export HOME="$folder" RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0 PATH="$folder/venv/bin:$PATH"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_ADDRESS
cat > driver.py <<'PY'
import sys

import ray

try:
    ray.init(address=sys.argv[1])
except ConnectionError as error:
    print("ConnectionError", "with" if "token" in str(error) else "without", "the word token")
else:
    print("connected")
PY
until_printed() { # FILE TEXT PID: wait until the text is in the file
  while ! grep -q "$2" "$1"; do
    kill -0 "$3" || { cat "$1"; exit 1; }
    sleep 0.2
  done
}
# Ray replaces 127.0.0.1, not 127.0.0.2, by the machine's address.
small=(--num-cpus 1 --object-store-memory 80000000 --node-ip-address 127.0.0.2 --block)

ray get-auth-token --generate > token 2> errors  # ray.init() writes the same file
port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
ray start --head --port "$port" --include-dashboard false "${small[@]}" > head 2>&1 &
pids+=($!)
until_printed head "ray start --address=" $!
printed=$(grep -o "ray start --address='[^']*'" head)

python driver.py "127.0.0.2:$port" > driver 2>> errors &
driver=$!
timeout 90 bash -c "exec $printed ${small[*]}" > node 2>&1 || true
wait $driver
seen="as printed: $(grep -o AuthenticationError node | tail -1); driver: $(cat driver)"

export RAY_AUTH_MODE=token
bash -c "exec $printed ${small[*]}" > node 2>&1 &
pids+=($!)
until_printed node "Ray runtime started" $!
seen="$seen
with RAY_AUTH_MODE=token: node started; driver: $(python driver.py "127.0.0.2:$port" 2>> errors)"
echo "$seen"
[ "$seen" = "as printed: AuthenticationError; driver: ConnectionError without the word token
with RAY_AUTH_MODE=token: node started; driver: connected" ]
