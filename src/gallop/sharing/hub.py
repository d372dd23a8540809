"""Exporting a finished run to a folder for the Hugging Face hub, and uploading it.

The folder appears complete or not at all, and nothing is overwritten.
"""

from __future__ import annotations

import datetime
import re
import shutil
from pathlib import Path

from gallop import __version__
from gallop.errors import ExperimentError, RunError
from gallop.experiments.yaml_file import to_yaml
from gallop.policies.normalizer_file import normalizer_path
from gallop.run_folder.directory import RunDirectory
from gallop.sharing.finished_run import (
    FinishedRun,
    explaining_errors,
    finished,
    temporary_folder,
)
from gallop.sharing.model_card import CARD, REPLAY, RESULTS, model_card
from gallop.sharing.onnx_file import export_if_installed
from gallop.strict_json import dumps


def export_hub(run: RunDirectory, folder: Path) -> Path:
    """Export a run as a folder for the Hugging Face hub: model card, film, policy, results. The
    policy is there as an ONNX file, too, if onnx and onnxruntime are installed.

    The policy is the final one, and all numbers come from its episodes on the evaluation seeds.

    Args:
        run: a finished run.
        folder: the folder to write; it must not exist or be empty.

    Returns:
        `folder`.

    Raises:
        ConsentError: if the run names code that this user has not agreed to run.
        RunError: if the run is unfinished, damaged or being run, or `folder` is not empty or cannot
            be written.
        ExperimentError: if the ONNX file would differ from the policy.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} already exists and is not an empty folder")
    with (
        finished(run) as done,
        explaining_errors(folder),
        temporary_folder(folder.parent) as temporary,
    ):
        model = temporary / f"{done.stem}.zip"
        shutil.copyfile(run.final_model, model)
        if done.normalizer is not None:
            done.normalizer.save(normalizer_path(model))
        has_onnx = export_if_installed(run.final_model, model.with_suffix(".onnx"))
        film = run.milestone(done.experiment.milestones[-1]).film
        if film.exists():
            shutil.copyfile(film, temporary / REPLAY)
        (temporary / RESULTS).write_text(dumps(_results(done), indent=2) + "\n")
        # Share only the name of an initial policy, not its path on this machine.
        shared = {"init_from": re.split(r"[/\\]", done.experiment.init_from)[-1]}
        settings = to_yaml(done.experiment.model_copy(update=shared))
        (temporary / run.experiment_file.name).write_text(settings, encoding="utf-8")
        card = model_card(done, _missing_film(run, done), has_onnx=has_onnx)
        (temporary / CARD).write_text(card, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        temporary.chmod(0o755)
        temporary.rename(folder)
    return folder


def _results(done: FinishedRun) -> dict[str, object]:
    """Return the content of results.json: the hub's five keys, and every episode."""
    episodes = done.episodes
    return {
        "mean_reward": float(episodes.returns.mean()),
        "std_reward": float(episodes.returns.std()),
        "is_deterministic": True,
        "n_eval_episodes": len(episodes.seeds),
        "eval_datetime": done.provenance.get("end") or _now(),
        "episodes": [
            {"seed": int(seed), "return": float(value), "length": int(length)}
            for seed, value, length in zip(
                episodes.seeds, episodes.returns, episodes.lengths, strict=True
            )
        ],
    }


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _missing_film(run: RunDirectory, done: FinishedRun) -> str:
    """Return why there is no film; "" if there is one."""
    milestone = run.milestone(done.experiment.milestones[-1])
    if milestone.film.exists():
        return ""
    missing = (milestone.read_meta() or {}).get("missing", {})
    return str(missing.get(milestone.film.name, "it is not in the run folder"))


# --- the upload ----------------------------------------------------------------------------------


def push(folder: Path, repo_id: str) -> str:
    """Upload a folder written by `export_hub` to the Hugging Face hub, as a public repository.

    Args:
        folder: the folder.
        repo_id: user/name; created if it does not exist.

    Returns:
        The URL of the repository.

    Raises:
        ExperimentError: if huggingface_hub is not installed, the folder or the id is not valid, the
            user is not logged in, or the hub refuses or cannot be reached.
    """
    if not all((folder / name).is_file() for name in (CARD, RESULTS)):
        raise ExperimentError(f"{folder}: not an export for the hub (no {CARD} or {RESULTS})")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ExperimentError(
            "--push requires huggingface_hub; to install: pip install 'gallop-rl[hub]'"
        ) from None
    if repo_id.count("/") != 1:
        raise ExperimentError(f"{repo_id!r} is not a repository name, expected user/name")
    if get_token() is None:
        raise ExperimentError("not logged in to the hub: run hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        url = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, commit_message=f"gallop {__version__}"
        )
    except HFValidationError as error:
        raise ExperimentError(f"{repo_id!r} is not a repository name: {_line(error)}") from None
    except HfHubHTTPError as error:
        reasons = {401: "the token is not valid", 403: "the token has no permission to write there"}
        status = error.response.status_code
        reason = reasons.get(status, error.server_message or _line(error))
        raise ExperimentError(f"{repo_id}: refused by the hub ({status}): {reason}") from None
    except Exception as error:  # errors for a dead network depend on the client's version
        reason = f"{type(error).__name__}: {_line(error)}"
        raise ExperimentError(f"{repo_id}: the hub cannot be reached: {reason}") from None
    return str(url)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
