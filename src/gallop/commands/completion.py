"""`gallop completion`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from gallop.commands.arguments import Commands, Parser, add_command
from gallop.commands.run import Setting

EXAMPLES = """\
examples:
  bash:  eval "$(gallop completion bash)"        (in ~/.bashrc)
  zsh:   gallop completion zsh > _gallop         (in a folder of $fpath)
  fish:  gallop completion fish > ~/.config/fish/completions/gallop.fish
"""


def add(gallop: Parser, commands: Commands) -> None:
    """Add the command.

    Args:
        gallop: the parser of the whole command line, which the script completes.
        commands: its commands.
    """
    parser = add_command(
        commands,
        "completion",
        "Print a completion script for your shell",
        "Print a script that completes commands, flags and their values.",
        partial(_completion, gallop, commands),
        EXAMPLES,
    )
    shells = ("bash", "zsh", "fish", "tcsh", "powershell")
    parser.add_argument("shell", choices=shells, metavar="SHELL", help=", ".join(shells))


def _completion(gallop: Parser, commands: Commands, options: argparse.Namespace) -> int:
    import shtab

    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif isinstance(action, Setting) and action.flag.choices:
                action.choices = action.flag.choices
    print(shtab.complete(gallop, options.shell))
    return 0
