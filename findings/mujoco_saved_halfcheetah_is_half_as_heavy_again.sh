#!/usr/bin/env bash
# MuJoCo 3.15.0: a HalfCheetah that is saved to XML, or attached to a scene, gains 7 kg.
#
# Gymnasium's half_cheetah.xml states densities, and settotalmass="14" scales all masses to 14 kg.
# Neither mj_saveLastXML nor MjSpec.to_xml writes that setting, or the scaled masses, and
# MjSpec.attach does not take it over. What is loaded again has the masses of the densities, and
# other dynamics, without a warning about it. The other models of Gymnasium keep their mass.
#
# Output:
#   kg: file 14.0, mj_saveLastXML 21.2, to_xml 21.2, attach 21.2; other models change by 0.0
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

assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
file, saved = str(assets / "half_cheetah.xml"), str(Path(sys.argv[1], "saved.xml"))


def mass(model):
    return f"{model.body_mass.sum():.1f}"


def saved_again(path):
    mujoco.mj_saveLastXML(saved, mujoco.MjModel.from_xml_path(path))
    return mujoco.MjModel.from_xml_path(saved)


def gain(path):
    before = mujoco.MjModel.from_xml_path(path).body_mass.sum()
    return abs(saved_again(path).body_mass.sum() - before)


others = max(gain(str(each)) for each in assets.glob("*.xml") if each.name != "half_cheetah.xml")
model = mujoco.MjModel.from_xml_path(file)
spec = mujoco.MjSpec.from_file(file)
spec.compile()
scene = mujoco.MjSpec()
scene.option.timestep = spec.option.timestep
scene.attach(mujoco.MjSpec.from_file(file), frame=scene.worldbody.add_frame(), prefix="a-")
print(
    f"kg: file {mass(model)}, mj_saveLastXML {mass(saved_again(file))}, "
    f"to_xml {mass(mujoco.MjModel.from_xml_string(spec.to_xml()))}, "
    f"attach {mass(scene.compile())}; other models change by {others:.1f}"
)
PY
seen=$("$folder/venv/bin/python" -W ignore "$folder/look.py" "$folder" 2>/dev/null | tail -1)
echo "$seen"
expected="kg: file 14.0, mj_saveLastXML 21.2, to_xml 21.2, attach 21.2; other models change by 0.0"
[ "$seen" = "$expected" ]
