"""Every command with its flags as Markdown, from the parser that reads them."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from markdown import block, code, escaped, listed

from gallop.commands.cli import make_parser


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction:
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Command -> its line in `gallop --help`."""
    found = _subparsers(parser)._get_subactions()
    return {action.dest: action.help or "" for action in found}


def _groups(parser: argparse.ArgumentParser) -> dict[str, list[argparse.Action]]:
    """Title of a group -> its arguments and flags; the general options come last, as in help."""
    found: dict[str, list[argparse.Action]] = {}
    general = parser._optionals
    for group in [*(g for g in parser._action_groups if g is not general), general]:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        actions = [action for action in actions if action.dest != "help"]
        if actions:
            found.setdefault(group.title or "", []).extend(actions)
    return found


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    parts = [escaped(text)]
    if action.choices:
        choices = [code(choice) for choice in action.choices]
        parts.append(f"Choices: {listed(choices)}.")
    if action.default not in (None, False, argparse.SUPPRESS, [], {}) and "default" not in text:
        parts.append(f"Default: {code(action.default)}.")
    return "\n\n".join(filter(None, parts))


def _group(
    title: str, actions: list[argparse.Action], parser: argparse.ArgumentParser
) -> Iterator[str]:
    yield f"### {escaped(title[:1].upper() + title[1:])}\n"
    described = (group.description for group in parser._action_groups if group.title == title)
    yield from (escaped(text) + "\n" for text in described if text)
    for action in actions:
        formatter = parser._get_formatter()
        name = str(action.metavar or action.dest.upper())
        written = formatter._format_action_invocation(action) if action.option_strings else name
        yield f"````{{option}} {written}\n{_help(action, parser)}\n````\n"


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}\n"
    yield f"```{{program}} {parser.prog}\n```\n"
    if parser.description:
        yield escaped(parser.description) + "\n"
    yield block("text", parser.format_usage().removeprefix("usage: "))
    for title, actions in _groups(parser).items():
        yield from _group(title, actions, parser)
    if parser.epilog:
        first, _, rest = parser.epilog.partition("\n")
        if first.endswith(":") and rest:
            yield f"### {escaped(first[:1].upper() + first[1:-1])}\n"
            yield block("text", textwrap.dedent(rest))
        else:
            yield escaped(parser.epilog) + "\n"


def page() -> str:
    """Everything below the introduction of docs/reference/command_line.md."""
    parser = make_parser()
    parts = [
        f"- [`gallop {name}`](#gallop-{name}): {escaped(summary)}"
        for name, summary in _summaries(parser).items()
    ]
    parts.append("")
    for command in _subparsers(parser).choices.values():
        parts += _command(command)
    return "\n".join(parts)
