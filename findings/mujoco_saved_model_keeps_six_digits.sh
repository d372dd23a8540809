#!/usr/bin/env bash
# MuJoCo 3.15.0: a model saved as XML is rounded to six digits, and does not move like the original.
#
# mj_saveLastXML and MjSpec.to_xml write each number with six significant digits, whatever the file
# read had, and angles in radians, so that even 30 degrees come back as another number. A loaded
# copy of Gymnasium's Ant has masses and ranges of joints that differ in the seventh digit. That is
# enough for another gallop: with the same initial state and actions the two are more than 0.1 m
# apart after 1,000 timesteps. A copy kept to repeat results must be the original file, or
# mj_saveModel's binary one, which is exact.
#
# Output:
#   saved as XML: ranges equal False, more than 0.1 m apart; binary: ranges equal True, 0 m apart
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mujoco==3.15.0 gymnasium==1.4.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import sys
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

ant = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
original = mujoco.MjModel.from_xml_path(str(ant))
xml, binary = (str(Path(sys.argv[1]) / name) for name in ("saved.xml", "saved.mjb"))
mujoco.mj_saveLastXML(xml, original)
mujoco.mj_saveModel(original, binary)


def end(model):
    """Position of the torso after 1,000 timesteps of five physics steps with fixed actions."""
    data, random = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(1_000):
        data.ctrl[:] = random.uniform(-1, 1, model.nu)
        mujoco.mj_step(model, data, 5)
    return data.qpos[:3]


def against(model):
    """What a copy has in common with the original."""
    apart = np.linalg.norm(end(model) - end(original))
    distance = "0 m" if apart == 0 else "more than 0.1 m" if apart > 0.1 else f"{apart} m"
    return f"ranges equal {np.array_equal(model.jnt_range, original.jnt_range)}, {distance} apart"


copies = mujoco.MjModel.from_xml_path(xml), mujoco.MjModel.from_binary_path(binary)
print(f"saved as XML: {against(copies[0])}; binary: {against(copies[1])}")
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" "$folder" | tail -1)
echo "$seen"
[ "$seen" = "saved as XML: ranges equal False, more than 0.1 m apart; binary: ranges equal True, \
0 m apart" ]
