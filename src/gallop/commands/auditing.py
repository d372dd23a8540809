"""Audit a policy: play it, replay it with every physics step recorded, and report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gallop.commands.scoring import chosen_seeds
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
) -> Audit:
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

    Raises:
        ExperimentError: if there is no such policy, its task is not MuJoCo's, or the folder
            belongs to another policy.
    """
    seeds = chosen_seeds(n_episodes, None)
    named = find_policy(what, env=env, results=results, arguments=arguments)
    if output is not None:
        _check_output(output, named.path)
    tasks = audit_files.changed_tasks(named.task)
    if isinstance(tasks, str):
        raise ExperimentError(tasks)
    policy = named.read(options)
    n, n_changes = len(seeds), (len(tasks) + 1) * sensitive
    with watching(named.task.watchdog), _bar(display, n * (2 + n_changes)) as advance:
        episodes = evaluate(policy, named.task.make, seeds, named.task.max_episode_timesteps)
        advance("auditing", n)
        varied = []
        if sensitive:
            varied = sensitive_to.sensitivity(
                policy, named.task, tasks, seeds, lambda name: advance(name, n)
            )
        found = audit_episodes(named.task, episodes, varied, lambda: advance("auditing", 1))
    _report(named, found, display)
    if output is not None:
        for path in _write(found, output):
            display.say(f"{'figure' if path.suffix == '.png' else 'numbers'}  {path}")
    return found


def _check_output(output: Path, policy: Path) -> None:
    """Refuse a folder that is none, or that belongs to a run and to another policy.

    Raises:
        ExperimentError: in these cases.
    """
    if output.exists() and not output.is_dir():
        raise ExperimentError(f"{output} is a file; -o takes a folder")
    root, here = manifest.root_of(output), output.resolve()
    if root is not None and (here == root.resolve() or here != policy.parent.resolve()):
        raise ExperimentError(
            f"{output} belongs to a run: -o takes another folder, or that of the milestone whose "
            "policy is audited"
        )


def _write(found: Audit, output: Path) -> list[Path]:
    """Write an audit into a folder; a milestone's belongs to its run's manifest.

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


@contextlib.contextmanager
def _bar(display: Display, n_episodes: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar with the time left; within, call it with what is done and how many episodes."""
    from rich.progress import Progress

    console = display.console
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task("playing", total=n_episodes)
        yield lambda name, n: bar.update(task, description=name, advance=n)


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
        display.say(f"  {each['measured']} (seed {each['seed']}{f': {when}' if when else ''})")
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
        "slid, share of the way": [each.contact.slip_share for each in measures],
        "deepest penetration, mm": [1000 * each.contact.deepest for each in measures],
        "controls at a limit, share": [each.actuation.saturated for each in measures],
        "change between controls, share of range": [each.actuation.change for each in measures],
        "dominant frequency, Hz": [each.actuation.frequency or np.nan for each in measures],
        "mechanical power, W": [each.energy.power for each in measures],
        "cost of transport": [each.energy.transport or np.nan for each in measures],
        "energy from no force, share": [each.energy.residual_share for each in measures],
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
