"""A study records the versions of Optuna that drew its trials; another one is not silent."""

from __future__ import annotations

import json

import optuna
import pytest
from small_search import folder, one_round, run, search_data, trials, write

from gallop.errors import ExperimentError
from gallop.tuning import rounds, study
from gallop.tuning.search import from_data


def own_storage(of_round):
    return f"sqlite:///{of_round}/study.db"


def record(url, versions, name=None):
    """Make a study one that other versions have drawn."""
    name = name or optuna.get_all_study_names(url)[0]
    optuna.load_study(study_name=name, storage=url).set_user_attr(study.OPTUNA_VERSIONS, versions)


def test_a_new_study_records_the_version_and_one_without_a_record_is_of_5_0_0(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    opened = study.open_study(url, "x", {"algo": "sac"})
    assert opened.user_attrs[study.OPTUNA_VERSIONS] == [optuna.__version__]
    assert study.optuna_versions(opened) == [optuna.__version__]
    assert study.check_optuna_version(opened, reproducible=True) == ""
    old = optuna.create_study(storage=url, study_name="old")
    assert study.optuna_versions(old) == ["5.0.0"]


def test_a_reproducible_search_is_refused_before_its_folder_is_made(tmp_path):
    url, search = f"sqlite:///{tmp_path}/mine.db", from_data(search_data())
    identity = study.identity(search, 0, search.rounds[0].space)
    study.open_study(url, "mine", identity)
    record(url, ["5.0.99"])
    with pytest.raises(ExperimentError) as caught:
        rounds.tune(
            search, root=tmp_path / "o", storage=url, study_name="mine", reproducible=True
        )  # fmt: skip
    message = str(caught.value)
    assert message.isprintable() and 'pip install "optuna==5.0.99"' in message
    assert "Optuna 5.0.99" in message and f"{optuna.__version__} is installed" in message
    assert not (tmp_path / "o").exists()


def test_another_version_goes_on_where_nothing_was_promised_and_is_recorded(tmp_path):
    data = one_round(2)
    write(tmp_path, data)
    code, text = run(tmp_path, "search.yaml", "--name", "x", "--n-trials", 1)
    assert code == 0, text
    first = folder(tmp_path)
    record(own_storage(first), ["5.0.99"])
    code, text = run(tmp_path, "--resume", first, "--n-trials", 2)
    assert code == 0, text
    (line,) = [line for line in text.splitlines() if "5.0.99" in line]
    assert f"resumes with {optuna.__version__}" in line and '"optuna==5.0.99"' in line
    both = f"5.0.99, {optuna.__version__}"
    assert json.loads((first / "results.json").read_text())["versions"]["optuna"] == both
    assert f"Optuna {both}" in (first / "study.html").read_text()
    # Once is enough.
    code, text = run(tmp_path, "--resume", first)
    assert code == 0 and "5.0.99" not in text, text
    assert len(trials(first)) == 2


def test_resuming_a_reproducible_search_with_another_version_is_one_line(tmp_path):
    write(tmp_path, one_round(2))
    code, text = run(
        tmp_path, "search.yaml", "--name", "x", "--n-trials", 1, "--reproducible"
    )  # fmt: skip
    assert code == 0, text
    first = folder(tmp_path)
    record(own_storage(first), ["5.0.99"])
    code, text = run(tmp_path, "--resume", first, "--quiet")
    assert code == 2, text
    assert text.count("\n") == 1 and 'pip install "optuna==5.0.99"' in text
    assert len(trials(first)) == 1
