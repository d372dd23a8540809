#!/bin/bash
# A small Ray cluster of real `ray start` processes on one machine.
#
# Every node has namespaces of its own: network (10.77.0.1 is the head, 10.77.0.2 the first
# worker, ...), processes, mounts (own /tmp/ray and /dev/shm), host name. A last node, "desk",
# has an address but no Ray: a driver can be tried from there. Needs root, iproute2, util-linux.
#
#   ray_netns.sh start [WORKERS]     bridge, head, WORKERS (default 2) workers, desk
#   ray_netns.sh exec NODE CMD...    run a command inside a node (head, w1, w2, desk)
#   ray_netns.sh cut NODE            take the node's link down; nothing gets in or out
#   ray_netns.sh heal NODE           bring it up again
#   ray_netns.sh kill NODE           SIGKILL every process of the node (its kernel still answers; a
#                                    power failure looks like cut)
#   ray_netns.sh rejoin NODE         start Ray again on a node that was killed or whose Ray ended
#   ray_netns.sh stop                kill all nodes (by their own ids), remove links and folders
#
# RAY      the ray command                          (ray)
# DIR      folder for homes, logs and ids
# AUTH     token (default), disabled, or empty: RAY_AUTH_MODE is left unset
# NO_TOKEN if set: the token is neither made on the head nor copied to the workers
# TAG, NET  prefix of the links' names, first three bytes of addresses (rn, 10.77.0)
# HEAD_ARGS, WORKER_ARGS, NODE_ENV  extra arguments of `ray start`, extra environment
set -euo pipefail
RAY=${RAY:-ray}
DIR=${DIR:?}
PORT=${PORT:-6379}
SMALL="--num-cpus 1 --object-store-memory 100000000 --disable-usage-stats"
AUTH=${AUTH-token}
TAG=${TAG:-rn}
NET=${NET:-10.77.0}
BRIDGE=${TAG}br

number() { case $1 in head) echo 1 ;; desk) echo 99 ;; w*) echo $((${1#w} + 1)) ;; esac; }
address() { echo "$NET.$(number "$1")"; }
init_id() { cat "$DIR/$1/pid"; }
alive() { [ -s "$DIR/$1/pid" ] && kill -0 "$(init_id "$1")" 2>/dev/null; }

make_link() {  # NODE: a namespace TAG-NODE with eth0 on the bridge
  ip netns add "$TAG-$1"
  ip link add "$TAG-$1" type veth peer name eth0 netns "$TAG-$1"
  ip link set "$TAG-$1" master $BRIDGE up
  ip -n "$TAG-$1" link set lo up
  ip -n "$TAG-$1" addr add "$(address "$1")/24" dev eth0
  ip -n "$TAG-$1" link set eth0 up
}

boot() {  # NODE: an init process (bash) in namespaces of its own; its id is the node's id
  local home=$DIR/$1/home
  mkdir -p "$home"
  # The quoted lines run inside the node as its process 1: killing it ends the whole node at once.
  # `wait` also reaps what other processes leave behind.
  ip netns exec "$TAG-$1" unshare --fork --pid --mount --uts --ipc --mount-proc bash -c '
    hostname "$1"
    mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && mount -t tmpfs -o size=1g tmpfs /dev/shm
    while :; do sleep 3600 & wait; done' boot "$1" </dev/null >"$DIR/$1/init.log" 2>&1 &
  local outer=$!
  for _ in $(seq 50); do
    pgrep -P "$outer" >"$DIR/$1/pid" && break
    sleep 0.1
  done
  sleep 0.3
}

inside() {  # NODE CMD...
  local node=$1
  shift
  nsenter -t "$(init_id "$node")" --net --pid --mount --uts --ipc --wdns="$PWD" \
    env HOME="$DIR/$node/home" ${AUTH:+RAY_AUTH_MODE=$AUTH} ${NODE_ENV:-} "$@"
}

give_token() {  # NODE: the head makes the cluster's token, the others get a copy
  local secret=$DIR/head/home/.ray/auth_token
  [ "$AUTH" = token ] && [ -z "${NO_TOKEN:-}" ] || return 0
  if [ "$1" = head ]; then
    inside head "$RAY" get-auth-token --generate >/dev/null 2>&1
  else
    install -D -m 600 "$secret" "$DIR/$1/home/.ray/auth_token"
  fi
}

start_ray() {  # NODE
  if [ "$1" = head ]; then
    inside head "$RAY" start --head --node-ip-address "$(address head)" --port "$PORT" $SMALL \
      --include-dashboard false ${HEAD_ARGS:-} >"$DIR/$1/start.log" 2>&1 </dev/null
  else
    inside "$1" "$RAY" start --address "$(address head):$PORT" \
      --node-ip-address "$(address "$1")" $SMALL ${WORKER_ARGS:-} >"$DIR/$1/start.log" 2>&1 </dev/null
  fi
}

case ${1:-} in
start)
  mkdir -p "$DIR"
  ip link add $BRIDGE type bridge
  ip addr add $NET.254/24 dev $BRIDGE
  ip link set $BRIDGE up
  nodes="head $(seq -f w%g 1 "${2:-2}" | tr '\n' ' ')desk"
  echo "$nodes" >"$DIR/nodes"
  for node in $nodes; do
    make_link "$node"
    boot "$node"
    [ -z "${NO_RAY:-}" ] || continue
    give_token "$node"
    [ "$node" = desk ] || start_ray "$node"
  done
  ;;
exec) shift && inside "$@" ;;
cut) ip link set "$TAG-$2" down ;;
heal) ip link set "$TAG-$2" up ;;
kill)
  kill -KILL "$(init_id "$2")"
  while alive "$2"; do sleep 0.1; done
  ;;
rejoin)
  alive "$2" || boot "$2"
  start_ray "$2"
  ;;
stop)
  for node in $(cat "$DIR/nodes"); do
    ! alive "$node" || kill -KILL "$(init_id "$node")"
    ip netns del "$TAG-$node" 2>/dev/null || true
    ip link del "$TAG-$node" 2>/dev/null || true
  done
  ip link del $BRIDGE 2>/dev/null || true
  rm -rf "$DIR"
  ;;
*) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3- ;;
esac
