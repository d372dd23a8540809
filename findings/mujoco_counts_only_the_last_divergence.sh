#!/usr/bin/env bash
# mujoco 3.15.0: a simulation that diverges repeatedly never counts more than one such warning.
#
# At a divergence MuJoCo resets the simulation together with every warning counter, then counts this
# one divergence. Code that looks for a counter above the last one it saw notices the first
# divergence and none of the later ones. Code that looks for a counter above zero must reset it to
# zero itself each time.
#
# Output:
#   10 divergences, counter after each: 1 1 1 1 1 1 1 1 1 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mujoco==3.15.0 numpy==2.4.6
cd "$folder"
cat > look.py <<'PY'
import mujoco

# A spring too stiff for the time step.
model = mujoco.MjModel.from_xml_string(
    """
    <mujoco>
      <option timestep="0.1"/>
      <worldbody>
        <body>
          <joint type="slide" stiffness="1e6" springref="1"/>
          <geom size="0.1" mass="1"/>
        </body>
      </worldbody>
    </mujoco>
    """
)
data = mujoco.MjData(model)
counters, time = [], 0.0
while len(counters) < 10:
    mujoco.mj_step(model, data)
    if data.time < time:  # reset by MuJoCo itself
        counters.append(sum(int(warning.number) for warning in data.warning))
    time = data.time
print(f"{len(counters)} divergences, counter after each: {' '.join(map(str, counters))}")
PY
seen=$("$folder/venv/bin/python" look.py 2>/dev/null)
echo "$seen"
[ "$seen" = "10 divergences, counter after each: 1 1 1 1 1 1 1 1 1 1" ]
