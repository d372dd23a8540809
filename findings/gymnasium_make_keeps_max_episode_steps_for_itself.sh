#!/usr/bin/env bash
# gymnasium 1.4.0: a task's own argument max_episode_steps cannot be given to gymnasium.make.
#
# Keyword arguments of `make` reach the constructor, except those that `make` has itself. A task
# whose constructor takes `max_episode_steps`, to scale a reward or a curriculum by it, is made with
# its default, without a word; the number becomes the limit of a TimeLimit wrapper instead. The same
# argument in a copy of the task's EnvSpec reaches it.
#
# Output:
#   make(max_episode_steps=7): the task has 100
#   spec.kwargs: the task has 7
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 gymnasium==1.4.0
cat > "$folder/look.py" <<'PY'
import copy

import gymnasium


class Task(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, max_episode_steps=100):
        self.limit = max_episode_steps


gymnasium.register("Task-v0", Task)
made = gymnasium.make("Task-v0", max_episode_steps=7)
print(f"make(max_episode_steps=7): the task has {made.unwrapped.limit}")
spec = copy.copy(gymnasium.spec("Task-v0"))
spec.kwargs = {"max_episode_steps": 7}
print(f"spec.kwargs: the task has {gymnasium.make(spec).unwrapped.limit}")
PY
seen=$("$folder/venv/bin/python" -W ignore "$folder/look.py")
echo "$seen"
[ "$seen" = "make(max_episode_steps=7): the task has 100
spec.kwargs: the task has 7" ]
