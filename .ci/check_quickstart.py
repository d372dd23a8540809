"""Check what the quickstart wrote: a policy that beats the random one, films, audits, the page."""

import csv
import json
import sys
from pathlib import Path
from statistics import mean

(run,) = Path(sys.argv[1]).glob("SAC_HalfCheetah-v5/*")
with (run / "episodes.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
returns = {
    policy: mean(float(row["return"]) for row in rows if row["policy"] == policy)
    for policy in ("random", "025", "050", "100", "best", "final")
}
print({policy: round(value, 1) for policy, value in returns.items()})
assert returns["final"] > 2_000, f"the cheetah does not run: {returns}"
provenance = json.loads((run / "provenance.json").read_text())
assert provenance["learner"] == "native", provenance["learner_reason"]
assert returns["final"] == returns["100"]
for milestone in ("025", "050", "100"):
    here = run / "checkpoints" / milestone
    assert json.loads((here / "meta.json").read_text())["missing"] == {}
    assert (here / "rollout.mp4").stat().st_size > 50_000
    assert (here / "rollout.gif").stat().st_size > 100_000
for figure in ("learning_curve", "comparison", "checkpoint_means_barplot"):
    assert (run / f"{figure}.png").stat().st_size > 10_000
audit = json.loads((run / "checkpoints" / "100" / "audit.json").read_text())
assert [episode["return"] for episode in audit["episodes"]] == [
    float(row["return"]) for row in rows if row["policy"] == "100"
]
assert len(audit["sensitivity"]) >= 9
assert (run / "progress.mp4").stat().st_size > 50_000
assert 500_000 < (run / "report.html").stat().st_size < 15_000_000
