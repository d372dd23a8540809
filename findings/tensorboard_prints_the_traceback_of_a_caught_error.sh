#!/usr/bin/env bash
# tensorboard 2.21.0: an event file whose folder was renamed makes EventFileWriter print a traceback
# on stderr from a thread of its own, even if the caller catches the error.
#
# The writer's thread reopens the file for every write. Its exception goes uncaught there, and is
# raised in the caller's flush() as well. A program that handles the error still shows a traceback,
# and a test runner blames whatever test is running.
#
# Output:
#   the caller caught FileNotFoundError; the thread printed FileNotFoundError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorboard==2.21.0 protobuf==7.36.2 numpy==2.4.6 \
  setuptools==80.9.0
cd "$folder"
cat > look.py <<'PY'
import pathlib
import threading
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("events")
writer.flush()
pathlib.Path("events").rename("moved")
try:
    for step in range(100):  # the thread may not have written yet
        summary = Summary(value=[Summary.Value(tag="x", simple_value=step)])
        writer.add_event(Event(wall_time=step, step=step, summary=summary))
        writer.flush()
        time.sleep(0.05)
except FileNotFoundError as error:
    print(f"the caller caught {type(error).__name__}")
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()
PY
caught=$("$folder/venv/bin/python" -W ignore look.py 2>stderr)
printed=$(grep -A100 "Exception in thread" stderr | grep -o "^[A-Za-z]*Error" | tail -1)
seen="$caught; the thread printed $printed"
echo "$seen"
[ "$seen" = "the caller caught FileNotFoundError; the thread printed FileNotFoundError" ]
