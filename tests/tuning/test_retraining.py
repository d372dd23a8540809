"""The best trials trained again, beside SB3's defaults."""

from __future__ import annotations

import json

from small_search import folder, search_data, tune


def test_defaults_that_are_among_the_best_are_trained_again_once(tmp_path):
    data = search_data(retraining={"n_best": 2, "n_seeds": 2})
    space = {"batch_size": [8, 256], "learning_rate": [3e-4]}
    data["rounds"] = [{"n_trials": 4, "space": space}]  # two settings, one of them SB3's
    tune(tmp_path, data=data)
    results = json.loads((folder(tmp_path) / "results.json").read_text())
    again = {one["name"]: one for one in results["trained_again"]}
    (other,) = again.keys() - {"defaults"}
    assert again["defaults"]["trial"] == 0
    assert again["defaults"]["in_the_search"] == results["trials"][0]["value"]
    assert {path.name for path in (folder(tmp_path) / "again").iterdir()} == again.keys()
    better = max(again.values(), key=lambda one: one["trained_again"])
    assert results["best_trial"] == better["trial"]
    assert again[other]["hyperparameters"]["batch_size"] == 8
    # One of two was chosen on the fresh seeds, though only two rows are there.
    assert "biases its value upwards a little" in (folder(tmp_path) / "study.html").read_text()
