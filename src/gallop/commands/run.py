"""`gallop run`: start a run, train several seeds, resume a run, extend a finished run."""

from __future__ import annotations

import argparse
import contextlib
import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.arguments import (
    NUMBERS,
    Commands,
    Parser,
    add_command,
    add_engine,
    add_log_folder,
    add_trust,
    n_workers,
    place,
)
from gallop.commands.modes import Mode, choose_mode, setting_flag
from gallop.errors import ExperimentError, PlanError, counted, nearest
from gallop.experiments.flags import COMMON, HYPERPARAMETERS, Flag, flags
from gallop.experiments.presets import config_file, find_example
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import load, parse, read_setting

if TYPE_CHECKING:
    from gallop.report.display import Display
    from gallop.report.expected_time import Expected

# The Zoo's names for the common settings.
ALIASES = {
    "-n": "total_timesteps",
    "--n-timesteps": "total_timesteps",
    "--seed": "training_seed",
    "--n-envs": "n_envs",
    "--vec-env": "vec_env",
    "--eval-freq": "evaluation.interval",
    "--eval-episodes": "evaluation.n_episodes",
    "--env-kwargs": "env_kwargs",
    "--eval-env-kwargs": "eval_env_kwargs",
    "--num-threads": "n_threads",
    "--track": "trackers",
    "-i": "init_from",
    "--init-from": "init_from",
}
RESUMES = "--resume continues a run as it is"
EXAMPLES = """\
examples:
  gallop run quickstart
  gallop run halfcheetah_sac --seed 1 --name second
  gallop run --algo ppo --env Hopper-v5        (the preset of PPO on Hopper-v5)
  gallop run --algo ppo --env CartPole-v1 -n 100k -params gamma:0.98 n_epochs:10
  gallop run halfcheetah_sac --hyperparameters.batch_size 256 --dry-run
  gallop run quickstart --seeds 0..4
  gallop run halfcheetah_sac --best-params best --trial 7
  gallop run --resume
  gallop run --extend results/SAC_HalfCheetah-v5/second -n 4M

gallop run --help-all shows every setting; --help-all sac only those of SAC
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "run",
        "Train, evaluate and film an experiment",
        "Train, evaluate and film one experiment, in a new folder under results/. Settings "
        f"override those of CONFIG; values are written as in YAML. {NUMBERS}",
        _run,
        EXAMPLES,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="YAML file, or name of an example (default: the preset of --algo and --env)",
    )  # fmt: skip
    control = parser.add_argument_group("run control")
    control.add_argument(
        "--name", metavar="NAME", help="Name of the run's folder (default: date and time)"
    )
    control.add_argument("--dry-run", action="store_true", help="Print the plan and stop")
    control.add_argument(
        "--no-preset", action="store_true", help="Use SB3's defaults even if there is a preset"
    )
    add_trust(control)
    add_log_folder(control)
    more = parser.add_argument_group("resuming and extending")
    more.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="RUN",
        help="Resume a run, or a group of runs started with --seeds (default: the newest "
        "unfinished one)",
    )  # fmt: skip
    more.add_argument(
        "--drop-damaged", action="store_true",
        help="With --resume: continue without the damaged rows of the replay buffer",
    )  # fmt: skip
    more.add_argument(
        "--edited-model", action="store_true",
        help="With --resume: continue although the file of the robot's model has been edited",
    )  # fmt: skip
    more.add_argument(
        "--extend", type=Path, metavar="RUN",
        help="Train a finished run for longer, up to -n timesteps, in a new folder",
    )  # fmt: skip
    more.add_argument(
        "--new-horizon", action="store_true",
        help="With --extend: let schedules continue as if the new total had been planned",
    )  # fmt: skip
    seeds = parser.add_argument_group("several seeds")
    seeds.add_argument(
        "--seeds", metavar="SEEDS",
        help="Train several training seeds in parallel, such as 0..9 or 3,7,11, and report over "
        "them",
    )  # fmt: skip
    add_engine(seeds)
    parser.add_argument(
        "--help-all", nargs="?", action=_HelpAll, metavar="ALGO",
        help="Show every setting, or only those of one algorithm",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="Print errors only")
    parser.add_argument("--verbose", action="store_true", help="Print the log, too")
    _add_settings(parser)


# --- settings ------------------------------------------------------------------------------------


class _HelpAll(argparse.Action):
    """Print the help of every setting, or of those that one algorithm has."""

    def __init__(self, option_strings: Sequence[str], dest: str, **arguments: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **arguments)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        assert isinstance(parser, Parser)
        algo = None if values is None else str(values).lower()
        if algo is not None and algo not in ALGORITHMS:
            raise ExperimentError(f"--help-all {values}: {nearest(algo, list(ALGORITHMS))}")
        print(parser.help_with(partial(_for_algorithm, algo)), end="")
        parser.exit()


def _for_algorithm(algo: str | None, action: argparse.Action) -> argparse.Action | None:
    """An action with the help of one algorithm; None where the algorithm lacks the setting."""
    if algo is None or not isinstance(action, Setting):
        return action
    if algo not in action.flag.algorithms:
        return None
    chosen = copy.copy(action)
    chosen.help = _help(action.flag.of(algo)._replace(algorithms=tuple(ALGORITHMS)))
    return chosen


class Setting(argparse.Action):
    """Collect settings as `options.settings`, dotted name -> text, and how the flag was written."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, flag: Flag) -> None:
        super().__init__(option_strings, dest, default={}, metavar=flag.metavar, help=_help(flag))
        self.flag = flag

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Record the setting that argparse has read."""
        namespace.settings = {**namespace.settings, self.flag.name: values}
        as_written = getattr(namespace, "as_written", {})
        namespace.as_written = {**as_written, self.flag.name: option_string}


def _help(flag: Flag) -> str:
    """The help text of a setting."""
    text = flag.doc.removesuffix(".")
    if flag.kind == "number" and " to " in flag.limits:
        text += f", {flag.limits}"
    if flag.only_for:
        text += f" ({flag.only_for} only)"
    return f"{text} (default: {flag.default})" if flag.default else text


def _add_settings(parser: Parser) -> None:
    short: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        short.setdefault(name, []).append(alias)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for flag in sorted(flags(), key=lambda flag: flag.name.startswith(HYPERPARAMETERS)):
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        names = [*short.get(flag.name, []), f"--{flag.name}"]
        if "." not in flag.name:  # like all other flags
            names.insert(-1, f"--{flag.name.replace('_', '-')}")
        action = groups[flag.group].add_argument(
            *dict.fromkeys(names), dest="settings", action=Setting, flag=flag
        )
        if flag.rare:
            parser.rare.add(action)
    groups[COMMON].add_argument(
        "-params", "--hyperparams", dest="params", nargs="+", metavar="NAME:VALUE", default=[],
        help="Hyper-parameters as in the Zoo: gamma:0.99 policy_kwargs.net_arch:[64,64]",
    )  # fmt: skip


def _zoo_params(
    given: list[str], others: dict[str, str], config: Path | None = None
) -> dict[str, str]:
    """Convert the Zoo's `-params gamma:0.99` to settings with dotted names.

    Args:
        given: as on the command line.
        others: the settings that were given as flags.
        config: the experiment file, if there is one.
    """
    found: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        dotted = f"hyperparameters.{name}"
        if not colon or not name:
            raise ExperimentError(f"-params {text}: expected NAME:VALUE, such as gamma:0.99")
        known = [flag.name for flag in flags() if flag.name.startswith("hyperparameters.")]
        if dotted not in known:
            able = [flag.name for flag in flags(chosen_algorithms(others, config))]
            names = [flag.removeprefix("hyperparameters.") for flag in known if flag in able]
            raise ExperimentError(f"-params {name}: unknown setting; {nearest(name, names)}")
        if dotted in found or dotted in others:
            raise ExperimentError(f"-params {name}: is given twice")
        found[dotted] = value
    return found


def chosen_algorithms(settings: Mapping[str, str], config: Path | None) -> Iterable[str]:
    """The algorithm that the settings or the experiment file choose; all, if that is not known.

    Args:
        settings: those that were given as flags, by dotted name.
        config: the experiment file or example, if there is one.
    """
    algo: object = settings.get("algo")
    file = None if config is None else find_example(config) or config
    if algo is None and file is not None and file.is_file():  # a pipe can be read only once
        with contextlib.suppress(ExperimentError, OSError):  # reported where it is loaded
            algo = read_setting(file, "algo")
    name = str(algo).lower()
    return [name] if name in ALGORITHMS else ALGORITHMS


# --- a new run, or several -----------------------------------------------------------------------


def run_new(options: argparse.Namespace) -> int:
    """Train one experiment in a new folder."""
    experiment, note = _experiment(options)
    from gallop.runs import workflow

    display = _display(options, note)
    if options.dry_run:
        _show_plan(experiment, options.results, display)
    else:
        workflow.run(experiment, options.results, options.name, display)
    return 0


def run_seeds(options: argparse.Namespace) -> int:
    """Train one experiment with each of several training seeds."""
    experiment, note = _experiment(options)
    if "training_seed" in options.settings:
        raise ExperimentError("--seed and --seeds are mutually exclusive")
    from gallop.experiments.seeding import seeds_from, spans
    from gallop.runs import seed_group

    seeds, where = seeds_from(options.seeds), place(options)
    display = _display(options, note)
    if options.dry_run:
        workers = where.n_workers(n_workers(options), experiment.n_threads)
        workers = min(workers, len(seeds))
        n_threads = where.threads(workers)
        expected = _show_plan(experiment, options.results, display, n_threads)
        together = "" if expected is None else expected.of_runs([1.0] * len(seeds), workers)
        named = f"training seed{'' if len(seeds) == 1 else 's'} {spans(seeds)}"
        runs = counted(len(seeds), "run")
        display.say(f"{named}: {runs} as planned above, {workers} at a time{together}")
    else:
        seed_group.run_seeds(
            experiment,
            seeds,
            results=options.results,
            name=options.name,
            workers=n_workers(options),
            display=display,
            place=where,
        )
    return 0


def _experiment(options: argparse.Namespace) -> tuple[Experiment, str]:
    """The experiment of the file, the preset or the settings, and a note about the preset."""
    if options.config is None and not options.settings:
        raise ExperimentError("a CONFIG is required, such as quickstart, or --algo and --env")
    config, note = options.config and config_file(options.config), ""
    if config is None and not options.no_preset:
        config, note = _preset(options.settings)
    try:
        return load(config, options.settings), note
    except PlanError as error:
        # A task that cannot be trained at all is the more basic error.
        from gallop.run_folder.prepared import check_task

        assert isinstance(error.experiment, Experiment)
        check_task(error.experiment)
        raise


def _preset(settings: dict[str, str]) -> tuple[Path | None, str]:
    """The preset of --algo and --env, and a note about it."""
    algo, env = settings.get("algo", "").lower(), settings.get("env", "")
    if algo not in ALGORITHMS or not env:
        return None, ""
    from gallop.experiments import presets

    found, title = presets.find(algo, env), ALGORITHMS[algo].title
    if found is None:
        near = presets.hint(algo, env)
        if "total_timesteps" not in settings:
            raise ExperimentError(
                f"no preset for {title} on {env} ({near}); without a preset, -n is required"
            )
        return None, f"no preset for {title} on {env} ({near}): SB3's defaults"
    return found.path, (
        f"preset for {title} on {env}: {found.source} (--no-preset uses SB3's defaults)"
    )


# --- resumed and extended runs -------------------------------------------------------------------


def resume(options: argparse.Namespace) -> int:
    """Resume a run, or a group of training seeds."""
    from gallop.run_folder import lookup
    from gallop.run_folder.directory import RunDirectory
    from gallop.run_folder.seed_group import is_group
    from gallop.runs import seed_group, workflow

    for name in options.settings:
        if name != "watchdog":  # does not change results, and a new value may let the run continue
            raise ExperimentError(f"{RESUMES}: leave out {setting_flag(name, options)}")
    watchdog = parse(options.settings["watchdog"]) if options.settings else None
    display = _display(options)
    newest = options.resume == Path()
    if watchdog is not None and is_group(options.resume):
        raise ExperimentError("--watchdog can be changed when a single run is resumed, not a group")
    where, workers = place(options), n_workers(options)
    if is_group(options.resume):
        seed_group.resume_group(options.resume, display, workers, where)
        return 0
    run = (
        lookup.newest_run(options.results, unfinished=True)
        if newest
        else RunDirectory(options.resume)
    )
    if newest and is_group(run.path.parent):
        seed_group.resume_group(run.path.parent, display, workers, where)
    else:
        for flag in ("workers", "engine", "address"):
            if getattr(options, flag) is not None:
                raise ExperimentError(
                    f"--{flag} requires --seeds, or a group to resume: {run.path} is a single run"
                )
        workflow.resume(
            run,
            display,
            drop_damaged=options.drop_damaged,
            edited_model=options.edited_model,
            watchdog=watchdog,
        )
    return 0


def extend(options: argparse.Namespace) -> int:
    """Train a finished run for longer, in a new folder."""
    from gallop.experiments.plan import last_timestep
    from gallop.run_folder.directory import RunDirectory
    from gallop.runs import extend as extension

    display = _display(options)
    run = RunDirectory(options.extend)
    settings = {name: parse(text) for name, text in options.settings.items()}
    if options.dry_run:
        before = run.read_experiment()
        _show_plan(
            extension.longer(before, settings, options.new_horizon),
            options.results,
            display,
            done=last_timestep(before),
        )
    else:
        extension.extend(
            run,
            settings,
            results=options.results,
            name=options.name,
            new_horizon=options.new_horizon,
            display=display,
        )
    return 0


def _display(options: argparse.Namespace, note: str = "") -> Display:
    from gallop.report.display import Display

    display = Display(options.quiet, options.verbose)
    if note:
        display.say(note)
    return display


def _show_plan(
    experiment: Experiment,
    results: Path,
    display: Display,
    n_threads: int | None = None,
    done: int = 0,
) -> Expected | None:
    """Print the plan of a run, or of one of several that divide the cores."""
    from gallop.run_folder.prepared import prepare
    from gallop.runs.space import check_before

    prepared = prepare(experiment)
    if n_threads is not None:
        prepared = prepared.on_threads(n_threads)
    expected = display.plan(prepared, None, done)
    check_before(results, prepared.plan, display)
    return expected


# --- which flags each mode takes -----------------------------------------------------------------

_NEW = ("config", "settings", "no_preset", "name", "dry_run")
_ENGINE = ("workers", "engine", "address")
MODES = (
    Mode("resume", resume, ("drop_damaged", "edited_model", "settings", *_ENGINE), RESUMES),
    Mode(
        "extend",
        extend,
        ("settings", "new_horizon", "name", "dry_run"),
        "--extend continues a run as it is",
    ),
    Mode("seeds", run_seeds, (*_NEW, *_ENGINE)),
    Mode(None, run_new, _NEW),
)
"""The first mode whose flag is given is used. The flags that no mode lists go with all."""


def _run(options: argparse.Namespace) -> int:
    settings = options.settings
    options.settings = {**settings, **_zoo_params(options.params, settings, options.config)}
    return choose_mode(MODES, options).call(options)
