#!/usr/bin/env bash
# tensorboard 2.21.0: event files that one process writes within one second are read in a different
# order than they were written, if there are more than ten.
#
# A file's name ends with the second, the host, the process and a counter without leading zeros, and
# readers sort the names. "…10" and "…11" come before "…2", so the values of a curve are out of
# order.
#
# Output:
#   written 0 1 2 3 4 5 6 7 8 9 10 11, read 0 1 10 11 2 3 4 5 6 7 8 9
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorboard==2.21.0 protobuf==7.36.2 numpy==2.4.6 \
  setuptools==80.9.0
cd "$folder"
cat > look.py <<'PY'
import time
from unittest import mock

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

second = time.time()
for number in range(12):
    with mock.patch("time.time", return_value=second):  # the same second, however slow the machine
        writer = EventFileWriter("events")
    summary = Summary(value=[Summary.Value(tag="x", simple_value=number)])
    writer.add_event(Event(wall_time=second + number, step=number, summary=summary))
    writer.close()
read = EventAccumulator("events", purge_orphaned_data=False).Reload()
written = " ".join(map(str, range(12)))
print(f"written {written}, read {' '.join(str(event.step) for event in read.Scalars('x'))}")
PY
seen=$("$folder/venv/bin/python" -W ignore look.py 2>/dev/null)
echo "$seen"
[ "$seen" = "written 0 1 2 3 4 5 6 7 8 9 10 11, read 0 1 10 11 2 3 4 5 6 7 8 9" ]
