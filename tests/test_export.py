"""Exports of finished runs, opened with the Zoo's and the Hugging Face hub's own programs."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import yaml
from conftest import tiny

from gallop.environments.make import evaluation_env
from gallop.errors import ExperimentError, RunError
from gallop.evaluation.episodes import evaluate
from gallop.experiments import seeding
from gallop.experiments.yaml_file import load
from gallop.policies import normalizer_file, sb3_zip
from gallop.policies.normalizer import Normalizer
from gallop.report.display import Display
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.manifest import write_result
from gallop.runs import workflow
from gallop.sharing.hub import export_hub, push
from gallop.sharing.zoo_folder import export_zoo

EXPERIMENTS = {
    "sac": tiny("sac", films=True, source="``` and ~~~"),
    "ppo": tiny(
        "ppo",
        normalize={"observations": True, "rewards": True, "clip_observations": 3.0},
        wrappers=[{"gymnasium.wrappers:TimeLimit": {"max_episode_steps": 40}}],
    ),
    "td3": tiny("td3", normalize={"rewards": True}),
    "dict": tiny("ppo", env="gallop_dict_task:DictPendulum-v0", normalize={"observations": True}),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a finished run of a tiny experiment, made once."""
    made = {}

    def run(name):
        if name not in made:
            results = tmp_path_factory.mktemp(name)
            made[name] = workflow.run(EXPERIMENTS[name], results, "a", Display(quiet=True))
        return made[name]

    return run


def python(program, *arguments, cwd, **environment):
    """Run a program in a fresh interpreter and return what it prints."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, *([program] if program == "-m" else ["-c", program]), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def programs(folder):
    """The two programs of a card: with SB3, with ONNX Runtime."""
    return re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- the Zoo -------------------------------------------------------------------------------------


def test_the_zoos_layout_is_written_and_numbered(run, tmp_path):
    assert export_zoo(run("sac"), tmp_path) == tmp_path / "sac" / "Pendulum-v1_1"
    second = export_zoo(run("sac"), tmp_path)
    assert second == tmp_path / "sac" / "Pendulum-v1_2"
    assert files(second) == {
        "Pendulum-v1.zip",
        "Pendulum-v1.onnx",
        "best_model.zip",
        "evaluations.npz",
        "Pendulum-v1/args.yml",
        "Pendulum-v1/config.yml",
    }
    assert (second / "Pendulum-v1.zip").read_bytes() == run("sac").final_model.read_bytes()
    assert sorted(path.name for path in second.parent.iterdir()) == [
        "Pendulum-v1_1",
        "Pendulum-v1_2",
    ]
    assert export_zoo(run("dict"), tmp_path).name == "DictPendulum-v0_1"


def test_the_pickle_contains_the_normalisation_of_the_final_policy(run, tmp_path):
    folder = run("ppo")
    exported = export_zoo(folder, tmp_path) / "Pendulum-v1" / "vecnormalize.pkl"
    ours = normalizer_file.read_normalizer(normalizer_file.normalizer_path(folder.final_model))
    read = normalizer_file.read_normalizer(exported)  # Gallop's own reader, which runs no code
    np.testing.assert_array_equal(read.mean[""], ours.mean[""])
    np.testing.assert_array_equal(read.variance[""], ours.variance[""])
    theirs = pickle.loads(exported.read_bytes())  # noqa: S301  (as the Zoo does; we wrote it)
    observations = np.random.default_rng(0).normal(size=(100, 3)) * 9
    np.testing.assert_allclose(theirs.normalize_obs(observations), ours(observations), rtol=1e-6)
    assert (theirs.clip_obs, theirs.norm_obs, theirs.norm_reward) == (3.0, True, True)
    assert not theirs.training


def test_the_pickle_is_written_if_only_rewards_are_normalised(run, tmp_path):
    exported = export_zoo(run("td3"), tmp_path) / "Pendulum-v1" / "vecnormalize.pkl"
    theirs = pickle.loads(exported.read_bytes())  # noqa: S301  (as the Zoo does; we wrote it)
    assert (theirs.norm_obs, theirs.norm_reward) == (False, True)


@pytest.mark.parametrize("name", ["sac", "ppo", "td3"])
def test_the_zoo_reproduces_the_returns_of_an_exported_run(name, run, tmp_path):
    pytest.importorskip("rl_zoo3", reason="rl_zoo3, the Zoo itself, is not installed")
    folder = run(name)
    experiment = folder.read_experiment()
    export_zoo(folder, tmp_path)
    arguments = f"--algo {name} --env Pendulum-v1 -f {tmp_path} --exp-id 1 --no-render -n 500"
    output = python("-m", "rl_zoo3.enjoy", *arguments.split(), cwd=tmp_path)
    played = [float(value) for value in re.findall(r"Episode Reward: (\S+)", output)]
    assert len(played) == 500 // (40 if name == "ppo" else 50)
    # The Zoo seeds its first episode with 0, as we can; later episodes are not reseeded.
    env = evaluation_env(experiment)
    policy = sb3_zip.read(folder.final_model, env.observation_space, env.action_space)
    env.close()
    ours = evaluate(policy, lambda: evaluation_env(experiment), [0])
    assert played[0] == pytest.approx(ours.returns[0], abs=0.5)


# --- the hub -------------------------------------------------------------------------------------


def test_the_hub_folder_contains_policy_results_film_and_card(run, tmp_path):
    folder = export_hub(run("sac"), tmp_path / "hub")
    assert files(folder) == {
        *("README.md", "results.json", "sac-Pendulum-v1.zip", "experiment.yaml", "replay.mp4"),
        "sac-Pendulum-v1.onnx",
    }
    assert (folder / "sac-Pendulum-v1.zip").read_bytes() == run("sac").final_model.read_bytes()
    assert (folder / "replay.mp4").read_bytes() == run("sac").milestone(100).film.read_bytes()
    assert load(folder / "experiment.yaml") == run("sac").read_experiment()
    episodes = run("sac").numbers.read_episodes("final")
    results = json.loads((folder / "results.json").read_text())
    assert list(results)[:5] == [
        *("mean_reward", "std_reward", "is_deterministic", "n_eval_episodes", "eval_datetime"),
    ]
    assert results["mean_reward"] == pytest.approx(episodes.returns.mean())
    assert [each["seed"] for each in results["episodes"]] == list(seeding.EVALUATION_SEEDS)
    assert [each["return"] for each in results["episodes"]] == episodes.returns.tolist()
    assert [each["length"] for each in results["episodes"]] == [50] * 10


def front_matter(folder):
    text = (folder / "README.md").read_text()
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("\n---\n")[0][4:]), text


def test_metadata_and_text_of_the_card_have_the_same_numbers(run, tmp_path):
    folder = export_hub(run("ppo"), tmp_path / "hub")
    data, text = front_matter(folder)
    results = json.loads((folder / "results.json").read_text())
    assert data["library_name"] == "stable-baselines3"
    assert data["tags"][0] == "Pendulum-v1"
    (entry,) = data["model-index"]
    assert entry["name"] == "PPO"
    assert entry["results"][0]["dataset"]["name"] == "Pendulum-v1"
    mean, std = results["mean_reward"], results["std_reward"]
    assert entry["results"][0]["metrics"][0]["value"] == f"{mean:.2f} +/- {std:.2f}"
    assert f"| this policy | 10 | {mean:,.2f} ± {std:,.2f} |" in text
    assert "| random actions | 10 |" in text
    for words in (
        "10000, 10001",
        "The intervals cover the initial states of one policy",
        "n_epochs: 2",
    ):
        assert words in text
    assert "There is no film: films: false." in text


@pytest.mark.parametrize("name", ["sac", "ppo", "dict"])
def test_the_cards_program_for_plain_sb3_reproduces_the_cards_numbers(name, run, tmp_path):
    folder = export_hub(run(name), tmp_path / "hub")
    program, _ = programs(folder)
    assert "gallop." not in program
    mean, std = map(float, python(program, cwd=folder).split(" +/- "))
    results = json.loads((folder / "results.json").read_text())
    assert mean == pytest.approx(results["mean_reward"], abs=0.5)
    assert std == pytest.approx(results["std_reward"], abs=0.5)


@pytest.mark.parametrize("name", ["sac", "dict"])
def test_the_cards_program_for_onnx_acts_as_the_policy(name, run, tmp_path):
    folder = export_hub(run(name), tmp_path / "hub")
    _, program = programs(folder)
    experiment = run(name).read_experiment()
    play = f"""
import gymnasium
env = gymnasium.make({experiment.env!r}, **{experiment.evaluation_env_kwargs!r})
total = 0.0
for seed in {list(seeding.EVALUATION_SEEDS)}:
    observation, _ = env.reset(seed=seed)
    ended = False
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        total, ended = total + float(reward), terminated or truncated
print(total / 10)
"""
    results = json.loads((folder / "results.json").read_text())
    played = float(python(program + play, cwd=folder))
    assert played == pytest.approx(results["mean_reward"], abs=0.5)
    assert "torch" not in program and "gallop" not in program


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["start", "multi 2d", "binary 2d", "uint8", "scalar"])
def test_the_cards_program_uses_the_tasks_own_actions_and_rewards(kind, tmp_path):
    wrappers = ["gallop_wrappers:Halved", "gymnasium.wrappers:FlattenObservation"]
    kwargs = {"kind": kind, "max_episode_steps": 30}
    experiment = tiny("ppo", env="gallop_action_task:Acts-v0", env_kwargs=kwargs, wrappers=wrappers)
    folder = export_hub(workflow.run(experiment, tmp_path, "a"), tmp_path / "hub")
    program, _ = programs(folder)
    mean, std = map(float, python(program, cwd=folder).split(" +/- "))
    results = json.loads((folder / "results.json").read_text())
    assert mean == pytest.approx(results["mean_reward"], abs=0.02)
    assert std == pytest.approx(results["std_reward"], abs=0.02)


def test_the_normaliser_is_next_to_the_zip_where_gallop_looks_for_it(run, tmp_path):
    folder = export_hub(run("ppo"), tmp_path / "hub")
    experiment = load(folder / "experiment.yaml")
    assert Normalizer.load(folder / "ppo-Pendulum-v1.normalizer.npz").clip == 3.0
    env = evaluation_env(experiment)
    path = folder / "ppo-Pendulum-v1.zip"
    policy = sb3_zip.read(path, env.observation_space, env.action_space)
    env.close()
    episodes = evaluate(policy, lambda: evaluation_env(experiment), seeding.EVALUATION_SEEDS)
    results = json.loads((folder / "results.json").read_text())
    assert [e["return"] for e in results["episodes"]] == episodes.returns.tolist()


def test_user_input_is_escaped_in_the_card(run, tmp_path):
    evil = "```\n---\n# <script>alert(1)</script> | [x](http://x) $`"
    folder = RunDirectory(tmp_path / "run")
    shutil.copytree(run("sac").path, folder.path)
    settings = yaml.safe_load(folder.experiment_file.read_text())
    settings["source"] = evil
    write_result(folder.experiment_file, yaml.safe_dump(settings).encode())
    record = folder.read_json("provenance.json")
    folder.write_json("provenance.json", record | {"learner": evil, "versions": {evil: evil}})
    data, text = front_matter(export_hub(folder, tmp_path / "hub"))
    assert data["model-index"][0]["name"] == "SAC"
    outside, fence = [], ""
    for line in text.splitlines():
        opened = re.match(r"`{3,}", line)
        if fence:
            fence = "" if line == fence else fence
        elif opened:
            fence = opened[0]
        else:
            outside.append(line)
    assert not fence, "every block is closed"
    assert not [line for line in outside if "<script" in line.replace("\\<", "")]
    headings = [line for line in outside if line.startswith("#")]
    assert headings == [
        "# SAC on Pendulum-v1",
        "## Results",
        "## With Stable-Baselines3 alone",
        "## With ONNX Runtime, without PyTorch",
        "## With Gallop",
        "## Hyper-parameters",
        "## Versions",
    ]


def test_only_the_name_of_an_initial_policy_is_shared_not_its_path(run, tmp_path):
    folder = RunDirectory(tmp_path / "run")
    shutil.copytree(run("td3").path, folder.path)
    settings = yaml.safe_load(folder.experiment_file.read_text())
    settings["init_from"] = "/home/me/a.zip"
    write_result(folder.experiment_file, yaml.safe_dump(settings).encode())
    exported = export_hub(folder, tmp_path / "hub") / "experiment.yaml"
    assert yaml.safe_load(exported.read_text())["init_from"] == "a.zip"


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [export_zoo, export_hub])
def test_unfinished_runs_are_refused_and_nothing_is_left(export, run, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(RunError, match=r"no experiment\.yaml"):
        export(RunDirectory(tmp_path / "nothing"), output)
    with run("sac").locked(), pytest.raises(RunError, match="being run by another process"):
        export(run("sac"), output)
    unfinished = RunDirectory(tmp_path / "run")
    shutil.copytree(run("sac").path, unfinished.path)
    unfinished.final_model.unlink()
    manifest.begin(unfinished.path)
    words = r"not finished \(timestep 360 of 360\); finish it first: gallop run --resume .*run"
    with pytest.raises(RunError, match=words):
        export(unfinished, output)
    assert not output.exists()


def test_a_non_empty_folder_is_never_written_to(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(RunError, match=f"{name} already exists and is not an empty folder"):
            export_hub(run("td3"), tmp_path / name)
    assert files(tmp_path) == {"full/mine", "file"}
    (tmp_path / "empty").mkdir()
    assert "README.md" in files(export_hub(run("td3"), tmp_path / "empty"))
    with pytest.raises(RunError, match="file cannot be written"):
        export_zoo(run("td3"), tmp_path / "file")


def test_a_failed_export_leaves_nothing(run, tmp_path):
    folder = RunDirectory(tmp_path / "run")
    shutil.copytree(run("ppo").path, folder.path)
    normalizer_file.normalizer_path(folder.final_model).write_bytes(b"damaged")
    manifest.begin(folder.path)
    for export in (export_zoo, export_hub):
        with pytest.raises(ExperimentError, match="not a zip, or damaged"):
            export(folder, tmp_path / "out")
    folder.final_model.unlink()
    folder.final_model.mkdir()  # cannot be copied
    shutil.copyfile(
        normalizer_file.normalizer_path(run("ppo").final_model),
        normalizer_file.normalizer_path(folder.final_model),
    )
    manifest.begin(folder.path)
    for export in (export_zoo, export_hub):
        with pytest.raises(RunError, match="cannot be written"):
            export(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --- pushing with the hub's own client to a tiny hub ---------------------------------------------

PUSH = """
import sys
from pathlib import Path
from gallop.sharing.hub import push
from gallop.errors import ExperimentError
try:
    print(push(Path(sys.argv[1]), sys.argv[2]))
except ExperimentError as error:
    print("refused:", error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that creates repositories and accepts commits, for one token."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        hub = self.server
        host = f"http://127.0.0.1:{hub.server_port}"
        if self.headers["Authorization"] != "Bearer hf_right":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            name = json.loads(body)
            if name["organization"] == "other":
                return self.answer(403, {"error": "You don't have the rights"})
            return self.answer(200, {"url": f"{host}/{name['organization']}/{name['name']}"})
        if self.path == "/api/validate-yaml":
            hub.cards.append(json.loads(body)["content"])
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            listed = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": listed})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        commit = "a" * 40
        url = (
            f"{host}/{self.path.split('/commit/')[0].removeprefix('/api/models/')}/commit/{commit}"
        )
        return self.answer(200, {"commitUrl": url, "commitOid": commit, "success": True})

    def answer(self, status, data):
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.cards = {}, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pushed(run, tmp_path):
    """Pushes an export in a fresh interpreter and returns its output."""
    folder = export_hub(run("ppo"), tmp_path / "hub")

    def pushed(repo_id, port, token="hf_right"):
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return python(PUSH, str(folder), repo_id, cwd=tmp_path, **environment).strip()

    pushed.folder = folder
    return pushed


def test_a_push_uploads_every_file_of_an_export(hub, pushed):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub, an extra, is not installed")
    said = pushed("me/ppo-Pendulum-v1", hub.server_port)
    assert said == f"http://127.0.0.1:{hub.server_port}/me/ppo-Pendulum-v1"
    assert hub.files.keys() == files(pushed.folder)
    for name, content in hub.files.items():
        assert content == (pushed.folder / name).read_bytes()
    assert set(hub.cards) == {(pushed.folder / "README.md").read_text()}


def test_a_failed_push_gives_its_reason_on_one_line(hub, pushed):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub, an extra, is not installed")
    port = hub.server_port
    for arguments, words in (
        (("me", port), r"'me' is not a repository name, expected user/name"),
        (("a/b/c", port), r"'a/b/c' is not a repository name, expected user/name"),
        (("me/..x", port), r"'me/\.\.x' is not a repository name: "),
        (("me/x", port, ""), r"not logged in to the hub: run hf auth login, or set HF_TOKEN"),
        (("me/x", port, "hf_wrong"), r"me/x: refused by the hub \(401\): the token is not valid"),
        (("other/x", port), r"other/x: refused by the hub \(403\): the token has no permission"),
        (("me/x", 9), r"me/x: the hub cannot be reached: ConnectError"),
    ):
        said = pushed(*arguments)
        assert re.match(f"refused: {words}", said), said
        assert "\n" not in said
    assert not hub.files


def test_a_push_without_huggingface_hub_names_the_extra(pushed, tmp_path):
    without = "import sys; sys.modules['huggingface_hub'] = None\n" + PUSH
    said = python(without, str(pushed.folder), "me/x", cwd=tmp_path)
    assert (
        said
        == "refused: --push requires huggingface_hub; to install: pip install 'gallop-rl[hub]'\n"
    )


def test_only_an_export_can_be_pushed(tmp_path):
    with pytest.raises(ExperimentError, match=r"not an export for the hub \(no README\.md"):
        push(tmp_path, "me/x")


def test_the_card_is_valid_for_the_hubs_own_reader(run, tmp_path):
    hub = pytest.importorskip(
        "huggingface_hub", reason="huggingface_hub, an extra, is not installed"
    )
    folder = export_hub(run("sac"), tmp_path / "hub")
    card = hub.ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results
    assert (card.data.model_name, card.data.library_name) == ("SAC", "stable-baselines3")
    assert (result.task_type, result.dataset_name) == ("reinforcement-learning", "Pendulum-v1")
    results = json.loads((folder / "results.json").read_text())
    value = f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"
    assert (result.metric_type, result.metric_value) == ("mean_reward", value)
