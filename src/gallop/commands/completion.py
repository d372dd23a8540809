"""`gallop completion`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from gallop.commands.arguments import Commands, Parser, add_command


def add(gallop: Parser, commands: Commands) -> None:
    """Add the command; it completes all of `gallop`, whose parser it therefore needs."""
    parser = add_command(
        commands,
        "completion",
        "print a shell's completion script",
        'Print a completion script. bash: eval "$(gallop completion bash)" in ~/.bashrc; zsh: '
        "gallop completion zsh > a file _gallop in a folder of $fpath; fish: gallop completion "
        "fish > ~/.config/fish/completions/gallop.fish",
        partial(_completion, gallop, commands),
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh", "powershell"))


def _completion(gallop: Parser, commands: Commands, options: argparse.Namespace) -> int:
    import shtab

    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(gallop, options.shell))
    return 0
