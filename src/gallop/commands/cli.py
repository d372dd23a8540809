"""The command line: parse, then one call each. Heavy imports happen inside the commands."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from gallop import __version__
from gallop.errors import DivergedError, ExperimentError, nearest
from gallop.experiments.yaml_file import flags, load, parse
from gallop.runs.stopping import Stopped

if TYPE_CHECKING:
    from gallop.policies.sb3_zip import Options


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
INTERRUPTED = 128  # exit codes of signals: 130 for SIGINT, 143 for SIGTERM
EPILOG = """\
examples:
  gallop run configs/quickstart.yaml
  gallop run configs/halfcheetah_sac.yaml --seed 1 --name second
  gallop run --algo ppo --env Hopper-v5                 (takes the preset of PPO on Hopper-v5)
  gallop run --algo ppo --env CartPole-v1 -n 100_000 -params gamma:0.98 n_epochs:10
  gallop run configs/halfcheetah_sac.yaml --hyperparameters.batch_size 256 --dry-run
  gallop run configs/quickstart.yaml --seeds 0..4
  gallop run configs/halfcheetah_sac.yaml --best_params best --trial 7
  gallop run --resume
  gallop run --extend results/SAC_HalfCheetah-v5/second -n 4_000_000
"""
TUNE_EPILOG = """\
examples:
  gallop tune configs/halfcheetah_sac_search_robust.yaml --dry-run
  gallop tune configs/halfcheetah_sac_search.yaml --workers 2
  gallop tune --algo td3 --env Hopper-v5 -n 50_000 --n-trials 40
  gallop tune --resume
  gallop run configs/halfcheetah_sac.yaml --best_params best
"""


class _Parser(argparse.ArgumentParser):
    """argparse with one line for each mistake, and the nearest right name."""

    def error(self, message: str) -> NoReturn:
        raise ExperimentError(message)


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 for a failure, 2 for bad input, 128 + signal."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.captureWarnings(True)  # those of dependencies go to run.log, never to the screen
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # tasks and wrappers of one's own are named by import path
    try:
        parser = make_parser()
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            _refuse(unknown[0], parser, options.command)
        return int(options.call(options))
    except ExperimentError as error:
        print(f"gallop: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"gallop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED + 2
    except BrokenPipeError:  # `gallop … | head`
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that went away
        print(f"gallop: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Every command with its flags."""
    parser = _Parser(
        prog="gallop", description="Train, evaluate, film, watch and share locomotion policies."
    )
    parser.add_argument("--version", action="version", version=f"gallop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        *(_add_run, _add_watch, _add_evaluate, _add_baseline, _add_figures, _add_list),
        *(_add_presets, _add_import_zoo, _add_export, _add_doctor, _add_completion, _add_tune),
    ):
        add(commands)
    return parser


def _refuse(argument: str, parser: argparse.ArgumentParser, command: str) -> NoReturn:
    if not argument.startswith("-"):
        raise ExperimentError(f"{argument!r} is one argument too many for gallop {command}")
    name = argument.split("=")[0]
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    known = [flag for flag in commands.choices[command]._option_string_actions if flag != "-h"]
    # A mistyped last part is nearest to the dotted names with the same beginning.
    raise ExperimentError(f"{name} is no flag of gallop {command}; {nearest(name, known)}")


def _add(commands: Commands, name: str, what: str, description: str, **kwargs: Any) -> _Parser:
    parser = commands.add_parser(
        name, help=what, description=description, allow_abbrev=False, **kwargs
    )
    assert isinstance(parser, _Parser)
    return parser


def _add_results(parser: _Parser) -> None:
    parser.add_argument(
        "-f", "--log-folder", dest="results", type=Path, default=Path("results"), metavar="DIR",
        help="folder of all runs (default: results)",
    )  # fmt: skip


# --- run -----------------------------------------------------------------------------------------


def _add_run(commands: Commands) -> None:
    parser = _add(
        commands,
        "run",
        "train, evaluate and film an experiment",
        "Train, evaluate and film one experiment, in a new folder below results/.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(call=_run)
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="a YAML file (default: the preset of --algo and --env)",
    )  # fmt: skip
    parser.add_argument("--name", help="name of the run's folder (default: date and time)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="RUN",
        help="go on with a run, or with those of --seeds (default: the newest unfinished one)",
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
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="print the log as well")
    _add_results(parser)
    short: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        short.setdefault(name, []).append(alias)
    settings = parser.add_argument_group("settings (each overrides the file's; values as in YAML)")
    settings.add_argument(
        "-params", "--hyperparams", dest="params", nargs="+", metavar="NAME:VALUE",
        help="hyper-parameters as the Zoo takes them: gamma:0.99 policy_kwargs.net_arch:[64,64]",
    )  # fmt: skip
    for flag in flags():
        default = f" (default: {flag.default})" if flag.default not in ("", "null") else ""
        settings.add_argument(
            *short.get(flag.name, []), f"--{flag.name}", dest=f"set {flag.name}",
            metavar="VALUE", help=f"{flag.doc}{default}".replace("%", "%%"),
        )  # fmt: skip


def _run(options: argparse.Namespace) -> int:
    overrides = {
        name.removeprefix("set "): value
        for name, value in vars(options).items()
        if name.startswith("set ") and value is not None
    }
    overrides |= _params(options.params or [], overrides)
    if options.resume is not None:
        return _resume(options, overrides)
    if options.workers is not None and options.seeds is None:
        raise ExperimentError("--workers belongs to --seeds")
    if options.new_horizon and options.extend is None:
        raise ExperimentError("--new-horizon belongs to --extend")
    if options.extend is not None:
        return _extend(options, overrides)
    if options.config is None and not overrides:
        raise ExperimentError(
            "a CONFIG is needed, such as configs/quickstart.yaml, or --algo and --env"
        )
    config, note = options.config, ""
    if config is None and not options.no_preset:
        config, note = _preset(overrides)
    experiment = load(config, overrides)
    seeds = [] if options.seeds is None else _training_seeds(options.seeds, overrides)
    from gallop.report.display import Display
    from gallop.runs import workflow

    display = Display(options.quiet, options.verbose)
    if note:
        display.say(note)
    if options.dry_run:
        plan, choice = workflow.plan_run(experiment)
        display.plan(experiment, plan, choice, None)
        if seeds:
            display.say(f"{len(seeds)} times: training seeds {', '.join(map(str, seeds))}")
        return 0
    try:
        if seeds:
            from gallop.runs import seed_group

            seed_group.run_seeds(
                experiment,
                seeds,
                results=options.results,
                name=options.name,
                workers=_whole(options.workers, "--workers"),
                display=display,
            )
        else:
            workflow.run(experiment, options.results, options.name, display)
    except Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


def _training_seeds(text: str, overrides: dict[str, str]) -> list[int]:
    if "training_seed" in overrides:
        raise ExperimentError("--seed and --seeds are two names for one thing: leave out one")
    from gallop.experiments.seeding import seeds_from

    return seeds_from(text)


def _params(given: list[str], others: dict[str, str]) -> dict[str, str]:
    """The Zoo's `-params gamma:0.99` as dotted overrides."""
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


def _preset(overrides: dict[str, str]) -> tuple[Path | None, str]:
    """The preset of --algo and --env, and what to say about it."""
    algo, env = overrides.get("algo", "").lower(), overrides.get("env", "")
    if algo not in ("sac", "td3", "ppo") or not env:
        return None, ""
    from gallop.experiments import presets

    found = presets.find(algo, env)
    if found is None:
        near = presets.hint(algo, env)
        if "total_timesteps" not in overrides:
            raise ExperimentError(
                f"no preset for {algo.upper()} on {env} ({near}); without one, -n is needed"
            )
        return None, f"no preset for {algo.upper()} on {env} ({near}): SB3's defaults"
    return found.path, (
        f"preset for {algo.upper()} on {env}: {found.source} (--no-preset takes SB3's defaults)"
    )


def _resume(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    others = [
        (options.config, "CONFIG"),
        (options.name, "--name"),
        (options.extend, "--extend"),
        (options.seeds, "--seeds"),
        (options.no_preset or None, "--no-preset"),
        *((value, f"--{name}") for name, value in overrides.items()),
    ]
    for given, what in others:
        if given is not None:
            raise ExperimentError(f"--resume goes on with a run as it is: leave out {what}")
    from gallop.report.display import Display
    from gallop.run_folder import lookup
    from gallop.run_folder.directory import RunDirectory
    from gallop.runs import seed_group, workflow

    display = Display(options.quiet, options.verbose)
    try:
        if seed_group.is_group(options.resume):
            seed_group.resume_group(options.resume, display)
            return 0
        if options.resume == Path():
            folder = lookup.newest_run(options.results, unfinished=True)
        else:
            folder = RunDirectory(options.resume)
        if options.resume == Path() and seed_group.is_group(folder.path.parent):
            seed_group.resume_group(folder.path.parent, display)
        else:
            workflow.resume(folder, display)
    except Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


def _extend(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    for given, what in ((options.config, "CONFIG"), (options.seeds, "--seeds")):
        if given is not None:
            raise ExperimentError(f"--extend goes on with a run as it is: leave out {what}")
    from gallop.report.display import Display
    from gallop.run_folder.directory import RunDirectory
    from gallop.runs import extend, workflow

    display = Display(options.quiet, options.verbose)
    run = RunDirectory(options.extend)
    values = {name: parse(text) for name, text in overrides.items()}
    if options.dry_run:
        experiment = extend.longer(run.read_experiment(), values, options.new_horizon)
        plan, choice = workflow.plan_run(experiment)
        display.plan(experiment, plan, choice, None)
        return 0
    try:
        extend.extend(
            run,
            values,
            results=options.results,
            name=options.name,
            new_horizon=options.new_horizon,
            display=display,
        )
    except Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


# --- policies ------------------------------------------------------------------------------------


def _add_policy_flags(parser: _Parser) -> None:
    parser.add_argument("--env", help="the task, for a zip that lies in no run's folder")
    parser.add_argument(
        "--normalizer", type=Path, metavar="FILE",
        help=".normalizer.npz or vecnormalize.pkl (default: looked for beside the zip)",
    )  # fmt: skip
    parser.add_argument(
        "--trust", action="store_true",
        help="run the code of a file that cannot be read safely, with SB3's own loader; for files "
        "of your own, never for a stranger's",
    )  # fmt: skip
    _add_results(parser)


def _add_watch(commands: Commands) -> None:
    parser = _add(
        commands,
        "watch",
        "see a policy move",
        "Play a policy in a window, or into a film where there is no display.",
    )
    parser.set_defaults(call=_watch)
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|MILESTONE|ZIP",
        help="a run's or milestone's folder, or an SB3 zip (default: the newest run's best policy)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default: 0)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.mp4", help="film instead of opening a window"
    )
    _add_policy_flags(parser)


def _watch(options: argparse.Namespace) -> int:
    from gallop.commands import watch

    return watch.watch(
        options.what,
        env=options.env,
        n_episodes=options.episodes,
        seed=options.seed,
        output=options.output,
        results=options.results,
        normalizer=options.normalizer,
        trust=options.trust,
    )


def _add_episode_flags(parser: _Parser) -> None:
    parser.add_argument(
        "--episodes", type=int, metavar="N",
        help="the first N evaluation seeds (default: 10, the same for every policy)",
    )  # fmt: skip
    parser.add_argument("--seeds", metavar="SEEDS", help="other seeds, such as 0..9 or 3,7,11")
    parser.add_argument(
        "--reset-noise-scale", type=float, metavar="X", help="spread of the first states"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.npz", help="rewards, seeds, ep_lengths"
    )


def _seeds(options: argparse.Namespace) -> list[int]:
    from gallop.commands.evaluate import chosen_seeds
    from gallop.experiments.seeding import seeds_from

    if options.output is not None and options.output.suffix != ".npz":
        raise ExperimentError(f"{options.output}: rewards are written as .npz")
    given = None if options.seeds is None else seeds_from(options.seeds)
    return chosen_seeds(options.episodes, given)


def _add_evaluate(commands: Commands) -> None:
    parser = _add(
        commands,
        "evaluate",
        "score policies on the evaluation seeds, and compare them",
        "Score policies on the same seeds; each is compared with the first, seed by seed.",
    )
    parser.set_defaults(call=_evaluate)
    parser.add_argument(
        "what", nargs="*", type=Path, metavar="RUN|MILESTONE|ZIP",
        help="runs' or milestones' folders, SB3 zips (default: the newest run's best policy)",
    )  # fmt: skip
    _add_episode_flags(parser)
    parser.add_argument(
        "--stochastic", action="store_true", help="draw actions instead of taking the likeliest"
    )
    _add_policy_flags(parser)


def _evaluate(options: argparse.Namespace) -> int:
    seeds = _seeds(options)
    from gallop.commands import evaluate
    from gallop.policies.sb3_zip import Options
    from gallop.report.display import Display

    reading: Options = Options(
        normalizer=options.normalizer,
        stochastic_seed=0 if options.stochastic else None,
        trust=options.trust,
    )
    evaluate.evaluate_all(
        options.what,
        env=options.env,
        seeds=seeds,
        reset_noise_scale=options.reset_noise_scale,
        options=reading,
        results=options.results,
        output=options.output,
        display=Display(),
    )
    return 0


def _add_baseline(commands: Commands) -> None:
    parser = _add(
        commands,
        "baseline",
        "score the random policy",
        "Score the random policy on a task, with the settings of a run or an experiment file.",
    )
    parser.set_defaults(call=_baseline)
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|CONFIG|TASK", help="whose task; or use --env"
    )
    parser.add_argument("--env", help="the task")
    _add_episode_flags(parser)


def _baseline(options: argparse.Namespace) -> int:
    seeds = _seeds(options)
    from gallop.commands import evaluate
    from gallop.report.display import Display

    evaluate.baseline(
        options.what,
        env=options.env,
        seeds=seeds,
        reset_noise_scale=options.reset_noise_scale,
        output=options.output,
        display=Display(),
    )
    return 0


# --- runs ----------------------------------------------------------------------------------------


def _run_or_newest(options: argparse.Namespace) -> Any:
    from gallop.run_folder import lookup
    from gallop.run_folder.directory import RunDirectory

    if options.run is None:
        return lookup.newest_run(options.results, unfinished=False)
    return RunDirectory(options.run)


def _add_figures(commands: Commands) -> None:
    parser = _add(
        commands, "figures", "draw a run's figures anew", "Draw a run's figures anew, from files."
    )
    parser.set_defaults(call=_figures)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="default: the newest")
    _add_results(parser)


def _figures(options: argparse.Namespace) -> int:
    from gallop.report import run_report
    from gallop.runs import seed_group

    if options.run is not None and seed_group.is_group(options.run):
        drawn = seed_group.draw_all(options.run)
    else:
        drawn = run_report.draw_all(_run_or_newest(options))
    for path in drawn:
        print(f"figure  {path}")
    return 0


def _add_list(commands: Commands) -> None:
    parser = _add(
        commands,
        "list",
        "list all runs",
        "List all runs: algorithm, task, timesteps, return (final policy, or latest evaluation), "
        "status.",
    )
    parser.set_defaults(call=_list)
    _add_results(parser)


def _list(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.run_folder.listing import list_runs

    runs = list_runs(options.results)
    if not runs:
        raise ExperimentError(f"there is no run below {options.results}; gallop run makes one")
    Display().runs(runs)
    return 0


def _add_export(commands: Commands) -> None:
    parser = _add(
        commands,
        "export",
        "make a run ready to share",
        "Write a run as the Zoo's folder, or as a folder for the Hugging Face hub.",
    )
    parser.set_defaults(call=_export)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="default: the newest")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="in the Zoo's layout below DIR")
    parser.add_argument("--hub", type=Path, metavar="DIR", help="model card, film, zip, results")
    parser.add_argument(
        "--push", metavar="USER/NAME", help="with --hub: push it to that repository of the hub"
    )
    _add_results(parser)


def _export(options: argparse.Namespace) -> int:
    if options.zoo is None and options.hub is None:
        raise ExperimentError("--zoo DIR or --hub DIR is needed")
    if options.push is not None and options.hub is None:
        raise ExperimentError("--push belongs to --hub DIR")
    from gallop.sharing import export

    run = _run_or_newest(options)
    if options.zoo is not None:
        print(f"zoo     {export.export_zoo(run, options.zoo)}")
    if options.hub is not None:
        folder = export.export_hub(run, options.hub)
        print(f"hub     {folder}")
        if options.push is not None:
            print(f"pushed  {export.push(folder, options.push)}")
    return 0


# --- presets -------------------------------------------------------------------------------------


def _add_presets(commands: Commands) -> None:
    parser = _add(
        commands,
        "presets",
        "list tuned starting points",
        "List tuned starting points; gallop run --algo ALGO --env TASK takes one.",
    )
    parser.set_defaults(call=_presets)


def _presets(options: argparse.Namespace) -> int:
    from gallop.experiments.presets import all_presets
    from gallop.report.display import Display

    display = Display()
    display.presets(all_presets())
    display.say("gallop run --algo ALGO --env TASK takes its preset; --dry-run shows the plan")
    return 0


def _add_import_zoo(commands: Commands) -> None:
    parser = _add(
        commands,
        "import-zoo",
        "turn a hyper-parameter file of rl-baselines3-zoo into experiments",
        "Write an experiment file for each task of a file of rl-baselines3-zoo; nothing in it is "
        "run.",
    )
    parser.set_defaults(call=_import_zoo)
    parser.add_argument("file", type=Path, metavar="FILE", help="such as hyperparams/sac.yml")
    parser.add_argument("--algo", help="sac, td3 or ppo (default: as the file's name says)")
    parser.add_argument("--env", help="this task alone")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("configs/zoo"), metavar="DIR",
        help="folder to write to (default: configs/zoo)",
    )  # fmt: skip


def _import_zoo(options: argparse.Namespace) -> int:
    from gallop.sharing.zoo_import import import_zoo

    written = import_zoo(options.file, options.output, options.algo, options.env)
    for task in written:
        what = f"wrote {task.path}" if task.path else f"left out {task.env}"
        print(what + (f": {task.reason}" if task.reason else ""))
    n_written = sum(task.path is not None for task in written)
    print(f"{n_written} of {len(written)} tasks; gallop run FILE trains one")
    return 0 if n_written else 1


# --- this machine --------------------------------------------------------------------------------


def _add_doctor(commands: Commands) -> None:
    parser = _add(
        commands,
        "doctor",
        "what works on this machine, and how to mend the rest",
        "Say what works on this machine, and the one line that mends what does not.",
    )
    parser.set_defaults(call=_doctor)
    _add_results(parser)


def _doctor(options: argparse.Namespace) -> int:
    from gallop.commands.doctor import doctor

    return doctor(options.results)


def _add_completion(commands: Commands) -> None:
    parser = _add(
        commands,
        "completion",
        "print a shell's completion script",
        'Print a completion script. bash: eval "$(gallop completion bash)" in ~/.bashrc; zsh: '
        "gallop completion zsh > a file _gallop in a folder of $fpath; fish: gallop completion "
        "fish > ~/.config/fish/completions/gallop.fish",
    )
    parser.set_defaults(call=_completion)
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh", "powershell"))


def _completion(options: argparse.Namespace) -> int:
    import shtab

    parser = make_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE
    print(shtab.complete(parser, options.shell))
    return 0


# --- search --------------------------------------------------------------------------------------


def _add_tune(commands: Commands) -> None:
    parser = _add(
        commands,
        "tune",
        "search hyper-parameters",
        "Search hyper-parameters with Optuna, in rounds, and train the best ones again.",
        epilog=TUNE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(call=_tune)
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="a search's YAML file (default: the space of --algo, for --env)",
    )  # fmt: skip
    parser.add_argument("--algo", help="sac, td3 or ppo: its own search space, without CONFIG")
    parser.add_argument("--env", help="the task, instead of the file's")
    parser.add_argument(
        "-n", "--n-timesteps", metavar="N", help="timesteps of each seed of a trial"
    )
    parser.add_argument(
        "--n-trials", metavar="N[,N…]",
        help="trials of each round (one number: of the first), in total over all calls",
    )  # fmt: skip
    parser.add_argument("--n-seeds", metavar="N", help="training seeds of each trial")
    parser.add_argument("--seed", metavar="N", help="search seed: of the sampler and all trials")
    parser.add_argument(
        "--workers", metavar="N", help="trainings side by side (default: one for each core)"
    )
    parser.add_argument(
        "--reproducible", action="store_true",
        help="the same trials whatever the number of workers and their timing",
    )  # fmt: skip
    parser.add_argument(
        "--storage", default="", metavar="URL",
        help="Optuna's database, such as postgresql+psycopg://… (default: an SQLite file)",
    )  # fmt: skip
    parser.add_argument("--study-name", default="", metavar="NAME", help="in that database")
    parser.add_argument("--name", help="name of the search's folder (default: date and time)")
    parser.add_argument("--dry-run", action="store_true", help="print the cost and stop")
    parser.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="SEARCH",
        help="go on with a search (default: the newest unfinished one)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "-f", "--folder", type=Path, default=Path("optuna_results"), metavar="DIR",
        help="folder of all searches (default: optuna_results)",
    )  # fmt: skip


def _whole(text: str | None, flag: str) -> int | None:
    """A whole number of at least 1."""
    if text is None:
        return None
    value = parse(text)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ExperimentError(f"{flag} {text}: a whole number of at least 1 is needed")
    return value


def _tune(options: argparse.Namespace) -> int:
    workers = _whole(options.workers, "--workers")
    totals = [
        _whole(part, "--n-trials") or 1 for part in (options.n_trials or "").split(",") if part
    ]
    if options.resume is not None:
        return _go_on_tuning(options, workers, totals)
    from gallop.tuning import search as searches

    path = options.config
    if path is None:
        path = _search_space(options)
    settings = {
        "experiment.env": options.env,
        "experiment.total_timesteps": None
        if options.n_timesteps is None
        else parse(options.n_timesteps),
        "n_seeds": None if options.n_seeds is None else parse(options.n_seeds),
        "search_seed": None if options.seed is None else parse(options.seed),
    }
    if options.config is not None and options.algo is not None:
        settings["experiment.algo"] = options.algo
    given = {name: value for name, value in settings.items() if value is not None}
    search = searches.load(path, given)
    from gallop.report.display import Display
    from gallop.tuning import rounds

    if totals:
        search = rounds.with_n_trials(search, totals)
    display = Display(options.quiet)
    if options.dry_run:
        rounds.dry_run(search, display, workers)
        return 0
    try:
        rounds.tune(
            search,
            root=options.folder,
            name=options.name,
            workers=workers,
            reproducible=options.reproducible,
            storage=options.storage,
            study_name=options.study_name,
            display=display,
        )
    except Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


def _search_space(options: argparse.Namespace) -> Path:
    """The search of an algorithm, for whatever task."""
    if options.algo is None or options.env is None:
        raise ExperimentError(
            "a CONFIG is needed, such as configs/halfcheetah_sac_search.yaml, or --algo and --env"
        )
    from gallop.experiments.presets import search_space

    return search_space(options.algo)


def _go_on_tuning(options: argparse.Namespace, workers: int | None, totals: list[int]) -> int:
    for given, what in (
        (options.config, "CONFIG"),
        *((getattr(options, name), f"--{name.replace('_', '-')}")
          for name in ("algo", "env", "n_timesteps", "n_seeds", "seed", "name")),
        (options.reproducible or None, "--reproducible"),
        (options.study_name or None, "--study-name"),
    ):  # fmt: skip
        if given is not None:
            raise ExperimentError(f"--resume goes on with a search as it is: leave out {what}")
    from gallop.report.display import Display
    from gallop.tuning import rounds
    from gallop.tuning.search_directory import RoundDirectory, newest_search

    if options.resume == Path():
        first = newest_search(options.folder)
    else:
        first = RoundDirectory(options.resume)
    display = Display(options.quiet)
    if options.dry_run:
        search = first.first_round().read_search()
        rounds.dry_run(rounds.with_n_trials(search, totals) if totals else search, display, workers)
        return 0
    try:
        rounds.go_on(
            first, n_trials=totals, workers=workers, storage=options.storage, display=display
        )
    except Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


if __name__ == "__main__":
    sys.exit(main())
