#!/usr/bin/env bash
# MuJoCo 3.15.0: mj_setTotalmass changes the masses, and not what MuJoCo has derived from them.
#
# The function scales body_mass and body_inertia. The mass of subtrees and the inverse inertias
# (invweight0), which decide how stiff contacts and limits are, stay those of the old masses until
# mj_setConst is called. A Hopper of doubled mass moves differently with and without that call; the
# compiler's settotalmass has no such gap.
#
# Output:
#   Hopper: 31.6 kg, its tree 15.8 kg; after mj_setConst 31.6 kg; paths differ: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mujoco==3.15.0 gymnasium==1.4.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

file = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "hopper.xml"


def doubled():
    model = mujoco.MjModel.from_xml_path(str(file))
    mujoco.mj_setTotalmass(model, 2 * model.body_mass.sum())
    return model


def tree(model):
    return f"{model.body_subtreemass[0]:.1f} kg"


def path(model):
    data, places = mujoco.MjData(model), []
    for _ in range(200):
        mujoco.mj_step(model, data)
        places.append(data.qpos.copy())
    return np.array(places)


as_is, again = doubled(), doubled()
mujoco.mj_setConst(again, mujoco.MjData(again))
differ = np.abs(path(as_is) - path(again)).max() > 1e-4
print(
    f"Hopper: {as_is.body_mass.sum():.1f} kg, its tree {tree(as_is)}; "
    f"after mj_setConst {tree(again)}; paths differ: {differ}"
)
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "Hopper: 31.6 kg, its tree 15.8 kg; after mj_setConst 31.6 kg; paths differ: True" ]
