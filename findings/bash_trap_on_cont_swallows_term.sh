#!/usr/bin/env bash
# bash 5.2.15: with a trap on CONT, a TERM that comes with a CONT is forgotten.
#
# To end a job that is suspended, one sends it TERM, and CONT to wake it up; Slurm sends both. A job
# script with a trap on TERM, which waits for its child with `wait`, runs that trap. With a trap on
# CONT beside it, for example to note when the job goes on, only that one runs, and nothing is left
# of the TERM: the script goes on until it is killed. A script that is not suspended loses TERM,
# too, where both signals arrive before `wait` returns.
#
# Needs Debian 12 on x86-64; the shell is unpacked into a temporary folder.
#
# Output:
#   bash 5.2.15: of 10 jobs, 10 are told of TERM without a trap on CONT, 0 with one
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq -o APT::Sandbox::User=root bash=5.2.15-2+b13
dpkg-deb --extract bash_*.deb tree
cat > job.sh <<'SH'
trap 'told=yes' TERM
if [ "$1" = trap ]; then trap : CONT; fi
sleep 60 &
echo waiting
wait $!  # a trapped signal ends the wait
kill $!
[ "${told:-no}" = yes ]
SH

# Of 10 jobs, how many run their trap on TERM.
n_told() {
  local told=0
  for _ in $(seq 10); do
    exec {from_job}< <(exec tree/bin/bash job.sh "$1" 2>/dev/null)
    local job=$!
    read -r -u "$from_job" _
    sleep 0.1  # from "waiting" to the wait itself
    kill -STOP "$job"
    kill -TERM "$job"
    kill -CONT "$job"
    if wait "$job"; then told=$((told + 1)); fi
    exec {from_job}<&-
  done
  echo "$told"
}
version=$(tree/bin/bash -c 'echo "${BASH_VERSION%%(*}"')
seen="bash $version: of 10 jobs, $(n_told none) are told of TERM without a trap on CONT"
seen+=", $(n_told trap) with one"
echo "$seen"
[ "$seen" = "bash 5.2.15: of 10 jobs, 10 are told of TERM without a trap on CONT, 0 with one" ]
