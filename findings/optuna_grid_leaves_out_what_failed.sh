#!/usr/bin/env bash
# optuna 5.0.0: GridSampler treats the point of a failed trial as done, and the point of an enqueued
# trial as open.
#
# A point whose trial failed, even for a temporary reason, is never tried again: the search stops by
# itself, one point short. A point that ran because it was enqueued is not marked as part of the
# grid, and runs a second time.
#
# Output:
#   grid 1 2 3: after a failure 1 2 evaluated, 3 never; with 1 enqueued 1 1 2 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optuna==5.0.0 numpy==2.4.6 SQLAlchemy==2.1.9
cd "$folder"
cat > look.py <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study():
    return optuna.create_study(sampler=optuna.samplers.GridSampler({"x": [1, 2, 3]}, seed=0))


def evaluated(study):
    done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    return " ".join(str(trial.params["x"]) for trial in sorted(done, key=lambda t: t.params["x"]))


def fails_at_first(trial):
    x = trial.suggest_int("x", 1, 3)
    if x == 3 and not any(t.state.is_finished() and t.params["x"] == 3 for t in trial.study.trials):
        raise RuntimeError("passing trouble")
    return x


failing = study()
failing.optimize(fails_at_first, n_trials=20, catch=RuntimeError)
enqueued = study()
enqueued.enqueue_trial({"x": 1})
enqueued.optimize(lambda trial: trial.suggest_int("x", 1, 3), n_trials=20)
print(
    f"grid 1 2 3: after a failure {evaluated(failing)} evaluated, 3 never; "
    f"with 1 enqueued {evaluated(enqueued)}"
)
PY
seen=$("$folder/venv/bin/python" -W ignore look.py)
echo "$seen"
[ "$seen" = "grid 1 2 3: after a failure 1 2 evaluated, 3 never; with 1 enqueued 1 1 2 3" ]
