#!/usr/bin/env bash
# optuna 5.0.0: the name of a study determines which trials Hyperband prunes.
#
# The bracket of a trial is a checksum of the study's name and the trial's number. Two studies with
# the same sampler, seed and objective but different names prune different trials, and so find
# different winners. The default name is random, so a script that does not name its study is not
# reproducible.
#
# Output:
#   same name: same trials pruned; other name: other trials pruned
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optuna==5.0.0 numpy==2.4.6 SQLAlchemy==2.1.9
cd "$folder"
cat > look.py <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 28):
        trial.report(x, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


def pruned(name):
    study = optuna.create_study(
        study_name=name,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=27),
    )
    study.optimize(objective, n_trials=40)
    return [t.number for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]


same, other = pruned("one") == pruned("one"), pruned("one") == pruned("two")
words = {True: "same", False: "other"}
print(f"same name: {words[same]} trials pruned; other name: {words[other]} trials pruned")
PY
seen=$("$folder/venv/bin/python" look.py)
echo "$seen"
[ "$seen" = "same name: same trials pruned; other name: other trials pruned" ]
