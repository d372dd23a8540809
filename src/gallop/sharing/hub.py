"""A finished run as a folder for the Hugging Face hub, and its upload.

The folder appears whole or not at all, and nothing is overwritten.
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
from gallop.strict_json import dumps


def export_hub(run: RunDirectory, folder: Path) -> Path:
    """Write a run as a folder that the Hugging Face hub shows: model card, film, policy, results.

    The policy is the final one; all numbers are those of its episodes on the evaluation seeds.

    Returns:
        `folder`.

    Raises:
        ConsentError, RunError: as `export_zoo` does, and if `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists already, and is no empty folder")
    with (
        finished(run) as done,
        explaining_errors(folder),
        temporary_folder(folder.parent) as temporary,
    ):
        model = temporary / f"{done.stem}.zip"
        shutil.copyfile(run.final_model, model)
        if done.normalizer is not None:
            done.normalizer.save(normalizer_path(model))
        film = run.milestone(done.experiment.milestones[-1]).film
        if film.exists():
            shutil.copyfile(film, temporary / REPLAY)
        (temporary / RESULTS).write_text(dumps(_results(done), indent=2) + "\n")
        # A policy that training started from lies somewhere on this machine; its name is enough.
        shared = {"init_from": re.split(r"[/\\]", done.experiment.init_from)[-1]}
        settings = to_yaml(done.experiment.model_copy(update=shared))
        (temporary / run.experiment_file.name).write_text(settings, encoding="utf-8")
        (temporary / CARD).write_text(model_card(done, _missing_film(run, done)), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        temporary.chmod(0o755)
        temporary.rename(folder)
    return folder


def _results(done: FinishedRun) -> dict[str, object]:
    """results.json: the hub's five keys, and every episode."""
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
    """Why there is no film; empty if there is one."""
    milestone = run.milestone(done.experiment.milestones[-1])
    if milestone.film.exists():
        return ""
    missing = (milestone.read_meta() or {}).get("missing", {})
    return str(missing.get(milestone.film.name, "it is not in the run's folder"))


# --- the upload ----------------------------------------------------------------------------------


def push(folder: Path, repo_id: str) -> str:
    """Upload what `export_hub` has written to the Hugging Face hub, as a public repository.

    Args:
        repo_id: user/name; made if it is not there yet.

    Returns:
        Its address.

    Raises:
        ExperimentError: in one line, if huggingface_hub is missing, the folder or the id is wrong,
            nobody is logged in, or the hub refuses or cannot be reached.
    """
    if not all((folder / name).is_file() for name in (CARD, RESULTS)):
        raise ExperimentError(f"{folder} is no export for the hub: it lacks {CARD} or {RESULTS}")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ExperimentError(
            "pushing needs huggingface_hub: pip install 'gallop-rl[hub]'"
        ) from None
    if repo_id.count("/") != 1:
        raise ExperimentError(f"{repo_id!r} is no name of a repository: user/name is needed")
    if get_token() is None:
        raise ExperimentError("nobody is logged in to the hub: hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        url = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, commit_message=f"gallop {__version__}"
        )
    except HFValidationError as error:
        raise ExperimentError(f"{repo_id!r} is no name of a repository: {_line(error)}") from None
    except HfHubHTTPError as error:
        reasons = {401: "the token is not accepted", 403: "the token may not write there"}
        status = error.response.status_code
        reason = reasons.get(status, error.server_message or _line(error))
        raise ExperimentError(f"{repo_id}: the hub refused ({status}): {reason}") from None
    except Exception as error:  # what the client raises for a dead network changes with its version
        reason = f"{type(error).__name__}: {_line(error)}"
        raise ExperimentError(f"{repo_id}: the hub cannot be reached: {reason}") from None
    return str(url)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
