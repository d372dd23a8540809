"""The numbers of a run, as plain CSV and NPZ: episodes, evaluations, the log, segments."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.errors import RunError
from gallop.evaluation.episodes import Episodes
from gallop.learners.learner import LogRow
from gallop.reading import MAX_TABLE_BYTES, read_npz, read_text
from gallop.run_folder.files import write_npz
from gallop.run_folder.manifest import write_npz_result, write_result

_GROWING = ("evaluations.npz", "episodes.csv", "progress.csv", "segments.csv")
CUT = "cut"  # column of episodes.csv: 1 if the episode was cut off; absent if none was
_EPISODE_COLUMNS = ["policy", "timestep", "seed_family", "seed", "return", "length"]


@dataclass(frozen=True)
class Evaluations:
    """All evaluations during training so far: evaluations.npz, with SB3's keys and the seeds."""

    timesteps: NDArray[np.int64]
    """[k]: timestep of each evaluation."""
    results: NDArray[np.float64]
    """[k, n_episodes]: returns."""
    ep_lengths: NDArray[np.int64]
    """[k, n_episodes], timesteps."""
    seeds: NDArray[np.int64]
    """[n_episodes]: validation seeds."""

    @property
    def mean_returns(self) -> NDArray[np.float64]:
        """Mean return of each evaluation, shape [k]."""
        means: NDArray[np.float64] = self.results.mean(axis=1)
        return means

    @property
    def best_timestep(self) -> int | None:
        """Timestep of the (first) evaluation with the highest mean return.

        Evaluations with non-finite returns do not count; None if there are no others.
        """
        means = self.mean_returns
        if not np.isfinite(means).any():
            return None
        return int(self.timesteps[np.where(np.isfinite(means), means, -np.inf).argmax()])

    @property
    def last_is_best(self) -> bool:
        """Whether the latest evaluation has a higher mean return than any before."""
        *before, last = self.mean_returns.tolist()
        return math.isfinite(last) and last > max(filter(math.isfinite, before), default=-math.inf)

    @property
    def n_not_finite(self) -> int:
        """Number of returns, over all evaluations, that are NaN or infinite."""
        return int((~np.isfinite(self.results)).sum())

    def log_rows(self) -> list[LogRow]:
        """Return what SB3 would log for each evaluation."""
        names = ("eval/mean_reward", "eval/mean_ep_length")
        means = np.stack([self.mean_returns, self.ep_lengths.mean(axis=1)], axis=1)
        return [
            LogRow(timestep, dict(zip(names, values, strict=True)))
            for timestep, values in zip(self.timesteps.tolist(), means.tolist(), strict=True)
        ]


class Segment(NamedTuple):
    """A row of segments.csv: hashes of the state at a segment's end."""

    segment: int
    """Number of the segment, from 0."""
    timestep: int
    """Timestep at its end."""
    learner_sha256: str
    """Hash over all files of the learner's state."""
    shard: str
    """Name of the shard added to the replay buffer; empty without a replay buffer."""
    shard_sha256: str


class Cut(NamedTuple):
    """Episodes of a policy that were cut off, because they did not end by themselves."""

    n: int
    """Number of episodes cut off."""
    of: int
    """Number of all episodes."""
    length: int
    """Timesteps after which they were cut off."""


class RunNumbers:
    """The numbers of one run. Creating the object does not touch the disk."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: the run's folder.
        """
        self.path = path

    @property
    def files(self) -> list[Path]:
        """The files to which the run appends while it trains."""
        return [self.baseline_file, *(self.path / name for name in _GROWING)]

    @property
    def baseline_file(self) -> Path:
        """The random policy's returns, seeds and lengths."""
        return self.path / "random_baseline_rewards.npz"

    @property
    def evaluations_file(self) -> Path:
        """All evaluations during training."""
        return self.path / "evaluations.npz"

    def write_baseline(self, episodes: Episodes) -> None:
        """Write the random policy's episodes."""
        write_npz_result(self.baseline_file, rewards_arrays(episodes))

    def read_baseline(self) -> NDArray[np.float64] | None:
        """Read the random policy's returns; None if there are none yet."""
        return read_rewards(self.baseline_file)

    def read_evaluations(self) -> Evaluations | None:
        """Read all evaluations so far; None if there are none yet."""
        path = self.evaluations_file
        if not path.exists():
            return None
        names = list(Evaluations.__annotations__)
        with _explaining(path):
            file = read_npz(path, names)
            shape = file["results"].shape
            if len(shape) != 2:
                raise ValueError("results must have two dimensions")
            shapes = {"timesteps": shape[:1], "results": shape, "ep_lengths": shape}
            shapes["seeds"] = shape[1:]
            for name in names:
                if file[name].dtype.kind not in "iuf" or file[name].shape != shapes[name]:
                    raise ValueError(f"{name} must hold numbers in shape {list(shapes[name])}")
        return Evaluations(**{name: file[name] for name in names})

    def append_evaluation(self, timestep: int, episodes: Episodes) -> Evaluations:
        """Add one evaluation and return all of them."""
        before = self.read_evaluations()
        row = Evaluations(
            timesteps=np.array([timestep]),
            results=episodes.returns[None],
            ep_lengths=episodes.lengths[None],
            seeds=episodes.seeds,
        )
        if before is not None:
            row = Evaluations(
                timesteps=np.concatenate([before.timesteps, row.timesteps]),
                results=np.concatenate([before.results, row.results]),
                ep_lengths=np.concatenate([before.ep_lengths, row.ep_lengths]),
                seeds=row.seeds,
            )
        write_npz_result(self.evaluations_file, vars(row))
        return row

    def append_episodes(
        self, policy: str, timestep: int, seed_family: str, episodes: Episodes
    ) -> None:
        """Add rows to episodes.csv: every evaluation episode, with its seed.

        Rows of the same policy, timestep and seed family, which a resumed run may evaluate again,
        are replaced.

        Args:
            policy: "random", "current", "025" (a milestone), "best" or "final".
            timestep: of the policy.
            seed_family: "evaluation" or "validation".
            episodes: the episodes.
        """
        columns, rows = _read_csv(self.path / "episodes.csv", _EPISODE_COLUMNS)
        judged = {"policy": policy, "timestep": str(timestep), "seed_family": seed_family}
        rows = [row for row in rows if not judged.items() <= row.items()]
        columns = columns or [*_EPISODE_COLUMNS]
        told = [*episodes.reward_terms, *([CUT] if episodes.n_cut else [])]
        columns += [name for name in told if name not in columns]
        for i, seed in enumerate(episodes.seeds):
            row = {
                **judged,
                "seed": str(seed),
                "return": repr(float(episodes.returns[i])),
                "length": str(episodes.lengths[i]),
            }
            if episodes.cut is not None and episodes.cut[i]:
                row[CUT] = "1"
            terms = episodes.reward_terms.items()
            rows.append(row | {name: repr(float(values[i])) for name, values in terms})
        _write_csv(self.path / "episodes.csv", columns, rows)

    def cut_episodes(self) -> dict[str, Cut]:
        """Return the policies with episodes that were cut off, and how many."""
        _, rows = _read_csv(self.path / "episodes.csv", _EPISODE_COLUMNS)
        found = {}
        for policy in dict.fromkeys(row["policy"] for row in rows if row.get(CUT)):
            of = [row for row in rows if row["policy"] == policy]
            lengths = [int(row["length"]) for row in of if row.get(CUT)]
            found[policy] = Cut(len(lengths), len(of), max(lengths))
        return found

    def read_episodes(self, policy: str) -> Episodes | None:
        """Read the episodes of a policy on the evaluation seeds; None if there are none yet."""
        path = self.path / "episodes.csv"
        _, rows = _read_csv(path, _EPISODE_COLUMNS)
        rows = [r for r in rows if (r["policy"], r["seed_family"]) == (policy, "evaluation")]
        if not rows:
            return None
        return Episodes(
            seeds=np.array([int(_number(path, row, "seed")) for row in rows]),
            returns=np.array([_number(path, row, "return") for row in rows]),
            lengths=np.array([int(_number(path, row, "length")) for row in rows]),
        )

    def evaluations_of_episodes(self) -> Evaluations | None:
        """Rebuild the content of evaluations.npz from episodes.csv; None if rows are missing."""
        path = self.path / "episodes.csv"
        _, rows = _read_csv(path, _EPISODE_COLUMNS)
        rows = [r for r in rows if (r["policy"], r["seed_family"]) == ("current", "validation")]
        timesteps = np.unique([int(_number(path, row, "timestep")) for row in rows])
        shape = len(timesteps), len(rows) // max(1, len(timesteps))
        if not rows or shape[0] * shape[1] != len(rows):
            return None
        seeds = np.array([int(_number(path, row, "seed")) for row in rows]).reshape(shape)
        return Evaluations(
            timesteps=timesteps,
            results=np.array([_number(path, row, "return") for row in rows]).reshape(shape),
            ep_lengths=np.array([int(_number(path, r, "length")) for r in rows]).reshape(shape),
            seeds=seeds[0],
        )

    def final_return(self) -> float | None:
        """Return the final policy's mean return on the evaluation seeds; None if not evaluated."""
        path = self.path / "episodes.csv"
        _, rows = _read_csv(path, _EPISODE_COLUMNS)
        returns = [_number(path, row, "return") for row in rows if row["policy"] == "final"]
        return float(np.mean(returns)) if returns else None

    def append_log(self, log: Iterable[LogRow]) -> None:
        """Add rows with SB3's keys to progress.csv."""
        log = list(log)
        columns, rows = _read_csv(self.path / "progress.csv", ["time/total_timesteps"])
        rows += [{name: repr(value) for name, value in row.values.items()} for row in log]
        columns = sorted({*columns, *(name for row in log for name in row.values)})
        _write_csv(self.path / "progress.csv", columns, rows)

    def keep_episodes(self, policies: Mapping[str, str]) -> None:
        """Keep only the episodes of some policies, and rename these.

        Args:
            policies: old name -> new name of each policy to keep.
        """
        columns, rows = _read_csv(self.path / "episodes.csv", _EPISODE_COLUMNS)
        kept = [{**r, "policy": policies[r["policy"]]} for r in rows if r["policy"] in policies]
        if columns:
            _write_csv(self.path / "episodes.csv", columns, kept)

    def read_log(self) -> list[LogRow]:
        """Return all rows of progress.csv and of the evaluations, in order of timesteps."""
        _, rows = _read_csv(self.path / "progress.csv", ["time/total_timesteps"])
        with _explaining(self.path / "progress.csv"):
            values = [{name: float(text) for name, text in row.items() if text} for row in rows]
            log = [LogRow(int(row["time/total_timesteps"]), row) for row in values]
        evaluations = self.read_evaluations()
        if evaluations is not None:
            log += evaluations.log_rows()
        return sorted(log, key=lambda row: row.timestep)

    def append_segment(self, segment: Segment) -> None:
        """Add a row to segments.csv once its boundary is on disk; an existing row is kept."""
        columns, rows = _read_csv(self.path / "segments.csv", Segment._fields)
        if all(row["segment"] != str(segment.segment) for row in rows):
            rows.append({name: str(value) for name, value in segment._asdict().items()})
            _write_csv(self.path / "segments.csv", columns or Segment._fields, rows)

    def read_segments(self) -> list[Segment]:
        """Return every boundary that was ever saved; empty for a run of an earlier version."""
        path = self.path / "segments.csv"
        _, rows = _read_csv(path, Segment._fields)
        with _explaining(path):
            return [
                Segment(
                    segment=int(row["segment"]),
                    timestep=int(row["timestep"]),
                    learner_sha256=row["learner_sha256"],
                    shard=row["shard"],
                    shard_sha256=row["shard_sha256"],
                )
                for row in rows
            ]

    def last_timestep(self) -> int:
        """Return the latest timestep for which there is any number."""
        evaluations = self.read_evaluations()
        found = [] if evaluations is None else evaluations.timesteps.tolist()
        for name, column in (
            ("episodes.csv", "timestep"),
            ("progress.csv", "time/total_timesteps"),
        ):
            path = self.path / name
            found += [int(_number(path, row, column)) for row in _read_csv(path, [column])[1]]
        return int(max(found, default=0))

    def forget_after(self, timestep: int) -> None:
        """Drop all numbers after a timestep: the boundary from which a run resumes."""
        evaluations = self.read_evaluations()
        if evaluations is not None:
            keep = evaluations.timesteps <= timestep
            kept_evaluations = {
                "timesteps": evaluations.timesteps[keep],
                "results": evaluations.results[keep],
                "ep_lengths": evaluations.ep_lengths[keep],
                "seeds": evaluations.seeds,
            }
            if not keep.all():
                write_npz_result(self.evaluations_file, kept_evaluations)
        for name, column in (
            ("episodes.csv", "timestep"),
            ("progress.csv", "time/total_timesteps"),
            ("segments.csv", "timestep"),
        ):
            path = self.path / name
            columns, rows = _read_csv(path, [column])
            kept = [row for row in rows if _number(path, row, column) <= timestep]
            if len(kept) < len(rows):
                _write_csv(path, columns, kept)


# --- files of returns: the random policy's and those of milestones ---


def write_rewards(path: Path, episodes: Episodes) -> None:
    """Write an .npz file of returns, seeds and lengths, anywhere."""
    write_npz(path, rewards_arrays(episodes))


def rewards_arrays(episodes: Episodes) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of such a file: rewards (returns), seeds, ep_lengths."""
    return {"rewards": episodes.returns, "seeds": episodes.seeds, "ep_lengths": episodes.lengths}


def read_rewards(path: Path) -> NDArray[np.float64] | None:
    """Read the returns of such a file; None if it does not exist."""
    if not path.exists():
        return None
    with _explaining(path):
        rewards = read_npz(path, ["rewards"])["rewards"]
        if rewards.dtype.kind not in "iuf" or rewards.ndim != 1:
            raise ValueError("rewards must be a list of numbers")
    return rewards


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Within the block, report unreadable content as damage."""
    try:
        yield
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None


def _number(path: Path, row: Mapping[str, str], column: str) -> float:
    with _explaining(path):
        return float(row[column])


def _read_csv(path: Path, needed: Iterable[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """Read the columns and rows of a table; both are empty if there is no file.

    Raises:
        RunError: if it is not a table, or a required column is missing.
    """
    if not path.exists():
        return [], []
    with _explaining(path):
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_TABLE_BYTES), newline=""))
        try:
            columns, rows = list(reader.fieldnames or ()), list(reader)
        except csv.Error as error:
            raise ValueError(f"not a CSV table: {error}") from None
        missing = next((name for name in needed if name not in columns), None)
        if columns and missing is not None:
            raise ValueError(f"column {missing!r} is missing")
        if any(None in row or None in row.values() for row in rows):  # too long, too short
            raise ValueError("a row has more or fewer columns than the header")
    return columns, rows


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_result(path, text.getvalue().encode())
