"""Audit a policy: play it, replay it with every physics step recorded, and report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np

from gallop.commands.scoring import chosen_seeds, longest_episode
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError, counted
from gallop.evaluation.audit import sensitivity as sensitive_to
from gallop.evaluation.audit.audit import Audit, audit_episodes, summary
from gallop.evaluation.episodes import evaluate
from gallop.experiments.settings import TaskArguments
from gallop.policies.sb3_zip import Options
from gallop.report import audit_files
from gallop.report.display import Display
from gallop.report.tables import Column, NameTable
from gallop.run_folder import manifest
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.find_policy import Named, find_policy
from gallop.run_folder.links import check_run_around


def audit(
    what: Path | None,
    *,
    env: str | None,
    n_episodes: int | None,
    sensitive: bool,
    output: Path | None,
    arguments: TaskArguments,
    options: Options,
    results: Path,
    display: Display,
) -> Audit | None:
    """Audit a policy, print the report, and write it if a folder is given.

    Args:
        what: run or milestone folder, SB3 zip or ONNX file; None: best policy of the newest run.
        env: id of the task, for a policy outside a run folder.
        n_episodes: number of evaluation seeds; None: all ten.
        sensitive: measure the sensitivity, too.
        output: folder for audit.json and the figures; None: print only.
        arguments: keyword arguments and wrappers of the task.
        options: how to read the policy file.
        results: folder of all runs.
        display: prints the results.

    Returns:
        The audit; None if there is nothing to audit, as in tasks that are not MuJoCo's.

    Raises:
        ExperimentError: if there is no such policy, an episode cannot be repeated, no episode has a
            finite return, or the folder belongs to another policy.
    """
    seeds = chosen_seeds(n_episodes, None)
    named = find_policy(what, env=env, results=results, arguments=arguments)
    if output is not None:
        _check_output(output, named.path)
    tasks = audit_files.changed_tasks(named.task)
    if isinstance(tasks, str):
        display.say(tasks)
        if output is not None:
            display.say(f"numbers  {_write(tasks, output)[0]}")
        return None
    policy = named.read(options)
    task, n_parts = named.task, 2 + (len(tasks) + 1) * sensitive
    with (
        watching(task.watchdog),
        _Progress(display, len(seeds), longest_episode(task), n_parts) as progress,
    ):
        n = counted(len(seeds), "episode")
        progress.begin(f"playing {n}")
        longest = task.max_episode_timesteps
        played = evaluate(policy, task.make, seeds, longest, progress.timestep)
        episodes = audit_files.with_returns(played)
        kept: list[int] = episodes.seeds.tolist()
        if not kept:
            raise ExperimentError(audit_files.NO_RETURN)
        if len(kept) < len(seeds):
            n_left_out = len(seeds) - len(kept)
            display.say(f"{n_left_out} of {n} not audited: no finite return", "yellow")
            n = counted(len(kept), "episode")
        varied = []
        if sensitive:
            varied = sensitive_to.sensitivity(
                policy, task, tasks, kept,
                lambda name: progress.begin(f"playing {n}, changed: {name}"), progress.timestep,
            )  # fmt: skip
        progress.begin(f"recording {n} at every physics step")
        found = audit_episodes(task, episodes, varied, progress.episode)
    _report(named, found, display)
    if output is not None:
        for path in _write(found, output):
            display.say(f"{'figure' if path.suffix == '.png' else 'numbers'}  {path}")
    return found


def _check_output(output: Path, policy: Path) -> None:
    """Refuse, before anything is played, a folder that cannot be written to, or that belongs to a
    run and to another policy.

    Raises:
        ExperimentError: in these cases.
    """
    if output.exists() and not output.is_dir():
        raise ExperimentError(f"{output} is a file; -o takes a folder")
    root, here = manifest.root_of(output), output.resolve()
    there = next(each for each in (here, *here.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there.is_dir() else "is a file"
        raise ExperimentError(f"-o {output}: {there} {what}")
    if root is not None and (here == root.resolve() or here != policy.parent.resolve()):
        raise ExperimentError(
            f"{output} belongs to a run: -o takes another folder, or that of the milestone whose "
            "policy is audited"
        )


def _write(found: Audit | str, output: Path) -> list[Path]:
    """Write an audit, or why there is none, into a folder; a milestone's is in its run's manifest.

    Raises:
        HeldError: if another process holds that run.
    """
    check_run_around(output / "audit.json")
    output.mkdir(parents=True, exist_ok=True)
    root = manifest.root_of(output)
    if root is None:
        return audit_files.write(found, output)
    names = [path.name for path in Milestone(output).audit_files()]
    with RunDirectory(root).locked():
        manifest.forget(output, names)
        written = audit_files.write(found, output)
        manifest.record(output, names)
        return written


class _Progress:
    """A bar over all episodes with the time left; without a terminal, a line for each part."""

    def __init__(self, display: Display, n: int, limit: int, n_parts: int) -> None:
        """
        Args:
            display: prints it.
            n: episodes of each part.
            limit: timesteps of the longest possible episode.
            n_parts: how often the episodes are played.
        """
        from rich.progress import Progress

        self._display, self._n, self._limit = display, n, max(1, limit)
        is_off = not display.console.is_terminal
        self._bar = Progress(console=display.console, transient=True, disable=is_off)
        self._task = self._bar.add_task("", total=n * n_parts)
        self._n_before = -n  # episodes of the parts before this one

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, what: str) -> None:
        """Begin a part, which completes the one before: its episodes may have ended early."""
        self._n_before += self._n
        self._bar.update(self._task, description=what, completed=self._n_before)
        if not self._display.console.is_terminal:
            self._display.say(what)

    def timestep(self) -> None:
        """All episodes of the part take a timestep."""
        self._bar.advance(self._task, self._n / self._limit)

    def episode(self) -> None:
        """One episode of the part has ended."""
        self._bar.advance(self._task)


def _report(named: Named, found: Audit, display: Display) -> None:
    """Print the measures, the findings and the sensitivity."""
    display.table(NameTable(
        [Column("measure", "name"), Column("mean"), Column("least"), Column("most")],
        [[name, *map(_number, _spread(v))]
         for name, v in _rows(found).items()],
        f"{named.task.env}, {named.path}, {counted(len(found.episodes), 'episode')}",
    ))  # fmt: skip
    _report_findings(found, display)
    if found.changes:
        _report_changes(found, display)


def _report_findings(found: Audit, display: Display) -> None:
    """Print each finding with its measurement, its rule, and where to see it."""
    lines = summary(found)
    if not lines:
        display.say("\nNo findings.")
    for each in lines:
        display.say(
            f"\n{each['name']} ({each['kind']}, {each['evidence']}): {each['episodes']} of "
            f"{each['of']} episodes"
        )
        when = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in each["seconds"])
        where = f" (seed {each['seed']}: {when})" if when else ""  # none: of all episodes
        display.say(f"  {each['measured']}{where}")
        display.say(f"  rule: {each['rule']}")


def _rows(found: Audit) -> dict[str, list[float]]:
    """The measures that the table shows, of each episode."""
    measures, rewards = [e.measures for e in found.episodes], [e.rewards for e in found.episodes]
    rows = {
        "return": [each.return_ for each in found.episodes],
        "speed, m/s": [each.speed for each in rewards],
        "standing still, share of time": [each.standing for each in rewards],
        "upside down, share of time": [each.posture.upside_down for each in measures],
        "net turns": [each.posture.net_turns for each in measures],
        "somersaults": [float(len(each.posture.somersaults)) for each in measures],
        "in the air, share of time": [each.contact.flight for each in measures],
        "stride, s": [each.contact.stride or np.nan for each in measures],
        "spread of strides, s": [
            np.nan if each.contact.stride_spread is None else each.contact.stride_spread
            for each in measures
        ],
        "regularity of strides": [each.contact.regularity for each in measures],
        "largest force over weight": [each.contact.peak for each in measures],
        "slid, share of the way": [
            np.nan if each.contact.slip_share is None else each.contact.slip_share
            for each in measures
        ],
        "deepest penetration, mm": [1000 * each.contact.deepest for each in measures],
        "controls at a limit, share": [each.actuation.saturated for each in measures],
        "change between controls, share of range": [each.actuation.change for each in measures],
        "dominant frequency, Hz": [each.actuation.frequency or np.nan for each in measures],
        "mechanical power, W": [each.energy.power for each in measures],
        "cost of transport": [each.energy.transport or np.nan for each in measures],
        "energy from no force, share of work": [each.energy.residual_share for each in measures],
    }
    names = dict.fromkeys(name for each in measures for name in each.contact.impulse_share)
    for name in names:
        rows[f"impulse on {name}, share"] = [m.contact.impulse_share.get(name, 0.0)
                                             for m in measures]  # fmt: skip
    for foot in found.parts.feet:
        rows[f"duty factor of {foot.name}"] = [m.contact.duty_factor[foot.name] for m in measures]
        if all(foot.name in each.toes.toe_share for each in measures):
            rows[f"impulse on the toe of {foot.name}, share"] = [
                each.toes.toe_share[foot.name] for each in measures
            ]
        if all(foot.name in each.toes.steepness for each in measures):
            rows[f"steepness of {foot.name}, degrees"] = [
                each.toes.steepness[foot.name] for each in measures
            ]
    return rows


def _report_changes(found: Audit, display: Display) -> None:
    usual = float(np.mean([each.return_ for each in found.episodes]))
    rows = [["none", _number(usual), ""]]
    for each in found.changes:
        mean = float(np.mean(each.returns))
        share = f"{mean / usual - 1:+.0%}" if usual > 0 and np.isfinite(mean) else each.why_not
        rows.append([each.name, _number(mean), share])
    columns = [Column("change of the simulator", "name"), Column("return"), Column("difference")]
    display.say("")
    display.table(NameTable(columns, rows))


def _spread(values: list[float]) -> tuple[float, float, float]:
    """Mean, least and most of the values that an episode has; NaN if none has one."""
    finite = np.array(values)[np.isfinite(values)]
    if not len(finite):
        return np.nan, np.nan, np.nan
    return float(finite.mean()), float(finite.min()), float(finite.max())


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
