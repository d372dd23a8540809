"""`gallop run`: a new run, several training seeds, a run resumed, a finished run extended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.arguments import (
    Commands,
    Parser,
    add_command,
    add_log_folder,
    add_trust,
    n_workers,
)
from gallop.commands.modes import Mode, choose_mode
from gallop.errors import ExperimentError, nearest
from gallop.experiments.presets import config_file
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import flags, load, parse

if TYPE_CHECKING:
    from gallop.report.display import Display

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
EXAMPLES = """\
examples:
  gallop run quickstart
  gallop run halfcheetah_sac --seed 1 --name second
  gallop run --algo ppo --env Hopper-v5                 (takes the preset of PPO on Hopper-v5)
  gallop run --algo ppo --env CartPole-v1 -n 100_000 -params gamma:0.98 n_epochs:10
  gallop run halfcheetah_sac --hyperparameters.batch_size 256 --dry-run
  gallop run quickstart --seeds 0..4
  gallop run halfcheetah_sac --best_params best --trial 7
  gallop run --resume
  gallop run --extend results/SAC_HalfCheetah-v5/second -n 4_000_000
"""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "run",
        "train, evaluate and film an experiment",
        "Train, evaluate and film one experiment, in a new folder below results/.",
        _run,
        EXAMPLES,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="a YAML file, or an example's name (default: the preset of --algo and --env)",
    )  # fmt: skip
    parser.add_argument("--name", help="name of the run's folder (default: date and time)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="RUN",
        help="go on with a run, or with those of --seeds (default: the newest unfinished one)",
    )  # fmt: skip
    parser.add_argument(
        "--drop-damaged", action="store_true",
        help="with --resume: go on without the rows of a damaged replay buffer that are lost",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", metavar="SEEDS",
        help="several training seeds side by side, such as 0..9 or 3,7,11, and a report over them",
    )  # fmt: skip
    parser.add_argument(
        "--workers", metavar="N",
        help="with --seeds: runs side by side (default: one for each core)",
    )  # fmt: skip
    parser.add_argument(
        "--extend", type=Path, metavar="RUN", help="train a finished run longer, to -n timesteps"
    )
    parser.add_argument(
        "--new-horizon", action="store_true",
        help="with --extend: schedules go on as if the new total had been planned",
    )  # fmt: skip
    parser.add_argument(
        "--no-preset", action="store_true", help="SB3's defaults, also where there is a preset"
    )
    add_trust(parser)
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="print the log as well")
    add_log_folder(parser)
    _add_settings(parser)


# --- settings ------------------------------------------------------------------------------------


class _Collect(argparse.Action):
    """Collect settings as `options.settings`: dotted name -> text."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        namespace.settings = {**namespace.settings, self.const: values}


def _add_settings(parser: Parser) -> None:
    short: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        short.setdefault(name, []).append(alias)
    settings = parser.add_argument_group("settings (each overrides the file's; values as in YAML)")
    settings.add_argument(
        "-params", "--hyperparams", dest="params", nargs="+", metavar="NAME:VALUE", default=[],
        help="hyper-parameters as the Zoo takes them: gamma:0.99 policy_kwargs.net_arch:[64,64]",
    )  # fmt: skip
    for flag in flags():
        default = f" (default: {flag.default})" if flag.default not in ("", "null") else ""
        settings.add_argument(
            *short.get(flag.name, []), f"--{flag.name}", dest="settings", default={},
            action=_Collect, const=flag.name, metavar="VALUE",
            help=f"{flag.doc}{default}".replace("%", "%%"),
        )  # fmt: skip


def _zoo_params(given: list[str], others: dict[str, str]) -> dict[str, str]:
    """The Zoo's `-params gamma:0.99` as settings with dotted names."""
    found: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        dotted = f"hyperparameters.{name}"
        if not colon or not name:
            raise ExperimentError(f"-params {text}: NAME:VALUE is needed, such as gamma:0.99")
        known = [flag.name for flag in flags() if flag.name.startswith("hyperparameters.")]
        if dotted not in known:
            names = [flag.removeprefix("hyperparameters.") for flag in known]
            raise ExperimentError(f"-params {name}: unknown setting; {nearest(name, names)}")
        if dotted in found or dotted in others:
            raise ExperimentError(f"-params {name}: is given twice")
        found[dotted] = value
    return found


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
        raise ExperimentError("--seed and --seeds are two names for one thing: leave out one")
    from gallop.experiments.seeding import seeds_from
    from gallop.runs import seed_group

    seeds = seeds_from(options.seeds)
    display = _display(options, note)
    if options.dry_run:
        _show_plan(experiment, options.results, display)
        display.say(f"{len(seeds)} times: training seeds {', '.join(map(str, seeds))}")
    else:
        seed_group.run_seeds(
            experiment,
            seeds,
            results=options.results,
            name=options.name,
            workers=n_workers(options),
            display=display,
        )
    return 0


def _experiment(options: argparse.Namespace) -> tuple[Experiment, str]:
    """The experiment of the file, the preset or the settings, and what to say about the preset."""
    if options.config is None and not options.settings:
        raise ExperimentError("a CONFIG is needed, such as quickstart, or --algo and --env")
    config, note = options.config and config_file(options.config), ""
    if config is None and not options.no_preset:
        config, note = _preset(options.settings)
    return load(config, options.settings), note


def _preset(settings: dict[str, str]) -> tuple[Path | None, str]:
    """The preset of --algo and --env, and what to say about it."""
    algo, env = settings.get("algo", "").lower(), settings.get("env", "")
    if algo not in ALGORITHMS or not env:
        return None, ""
    from gallop.experiments import presets

    found, title = presets.find(algo, env), ALGORITHMS[algo].title
    if found is None:
        near = presets.hint(algo, env)
        if "total_timesteps" not in settings:
            raise ExperimentError(
                f"no preset for {title} on {env} ({near}); without one, -n is needed"
            )
        return None, f"no preset for {title} on {env} ({near}): SB3's defaults"
    return found.path, (
        f"preset for {title} on {env}: {found.source} (--no-preset takes SB3's defaults)"
    )


# --- runs that go on -----------------------------------------------------------------------------


def resume(options: argparse.Namespace) -> int:
    """Go on with a run, or with a group of training seeds."""
    from gallop.run_folder import lookup
    from gallop.run_folder.directory import RunDirectory
    from gallop.run_folder.seed_group import is_group
    from gallop.runs import seed_group, workflow

    for name in options.settings:
        if name != "watchdog":  # changes no bit, and may be what a run could not go on with
            raise ExperimentError(f"--resume goes on with a run as it is: leave out --{name}")
    watchdog = parse(options.settings["watchdog"]) if options.settings else None
    display = _display(options)
    newest = options.resume == Path()
    if watchdog is not None and is_group(options.resume):
        raise ExperimentError("--watchdog is for --resume of a single run, not of a group")
    if is_group(options.resume):
        seed_group.resume_group(options.resume, display)
        return 0
    run = (
        lookup.newest_run(options.results, unfinished=True)
        if newest
        else RunDirectory(options.resume)
    )
    if newest and is_group(run.path.parent):
        seed_group.resume_group(run.path.parent, display)
    else:
        workflow.resume(run, display, drop_damaged=options.drop_damaged, watchdog=watchdog)
    return 0


def extend(options: argparse.Namespace) -> int:
    """Train a finished run longer, in a new folder."""
    from gallop.run_folder.directory import RunDirectory
    from gallop.runs import extend as extension

    display = _display(options)
    run = RunDirectory(options.extend)
    settings = {name: parse(text) for name, text in options.settings.items()}
    if options.dry_run:
        before = run.read_experiment()
        _show_plan(
            extension.longer(before, settings, options.new_horizon), options.results, display
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


def _show_plan(experiment: Experiment, results: Path, display: Display) -> None:
    from gallop.run_folder.prepared import prepare
    from gallop.runs.space import check_before

    prepared = prepare(experiment)
    display.plan(prepared, None)
    check_before(results, prepared.plan, display)


# --- which flags each of them takes --------------------------------------------------------------

_NEW = ("config", "settings", "no_preset", "name", "dry_run")
MODES = (
    Mode("resume", resume, ("drop_damaged", "settings"), "--resume goes on with a run as it is"),
    Mode(
        "extend",
        extend,
        ("settings", "new_horizon", "name", "dry_run"),
        "--extend goes on with a run as it is",
    ),
    Mode("seeds", run_seeds, (*_NEW, "workers")),
    Mode(None, run_new, _NEW),
)
"""The first whose flag is given. --quiet, --verbose and --log-folder go with all."""


def _run(options: argparse.Namespace) -> int:
    settings = options.settings
    options.settings = {**settings, **_zoo_params(options.params, settings)}
    return choose_mode(MODES, options).call(options)
