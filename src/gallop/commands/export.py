"""`gallop export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_policy_flags,
    add_task_flags,
    given_arguments,
    run_or_newest,
)
from gallop.errors import ExperimentError, printable


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export",
        "Export a run for the Zoo, the Hugging Face hub or robots",
        "Export a run as a folder in the Zoo's layout, as a folder for the Hugging Face hub, or "
        "its policy as one ONNX file.",
        _export,
    )
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN",
        help="Run to export (default: the newest); with --onnx also a milestone or an SB3 zip",
    )  # fmt: skip
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE",
        help="Write the policy as an ONNX file: normalisation and scaling of actions inside",
    )  # fmt: skip
    add_task_flags(parser)
    add_policy_flags(parser)
    parser.add_argument(
        "--zoo", type=Path, metavar="DIR", help="Export in the Zoo's layout under DIR"
    )
    parser.add_argument(
        "--hub", type=Path, metavar="DIR", help="Export model card, film, policy zip and results"
    )
    parser.add_argument(
        "--push", metavar="USER/NAME", help="With --hub: push the folder to this repository"
    )


def _export(options: argparse.Namespace) -> int:
    if options.zoo is None and options.hub is None and options.onnx is None:
        raise ExperimentError("--onnx FILE, --zoo DIR or --hub DIR is required")
    if options.push is not None and options.hub is None:
        raise ExperimentError("--push requires --hub DIR")
    if options.onnx is not None:
        _export_onnx(options)
    if options.zoo is None and options.hub is None:
        return 0
    from gallop.sharing import hub, onnx_file, zoo_folder

    run = run_or_newest(options)
    if options.zoo is not None:
        print(printable(f"zoo     {zoo_folder.export_zoo(run, options.zoo)}"))
    if options.hub is not None:
        folder = hub.export_hub(run, options.hub)
        print(printable(f"hub     {folder}"))
        if options.push is not None:
            print(f"pushed  {hub.push(folder, options.push)}")
    if not onnx_file.is_installed():
        print('The policy is not there as an ONNX file: that needs pip install "gallop-rl[onnx]"')
    return 0


def _export_onnx(options: argparse.Namespace) -> None:
    from gallop.policies.sb3_zip import Options, normalizer_option
    from gallop.run_folder.find_policy import find_policy, stands_alone
    from gallop.sharing.onnx_file import LIMIT, export_onnx

    named = find_policy(
        options.run,
        env=options.env,
        results=options.results,
        arguments=given_arguments(options),
    )
    trust = options.trust and stands_alone([options.run] if options.run else [], options.env)
    reading = Options(normalizer=normalizer_option(options.normalizer), trust=trust)
    difference = export_onnx(named, options.onnx, reading)
    print(printable(f"onnx    {options.onnx}"))
    print(f"largest difference to the policy over 1,000 observations: {difference:.1e} of an "
          f"action's range (limit {LIMIT:.0e})")  # fmt: skip
