"""The fenced blocks of a page, and running what they show.

Each page of PAGES is run from top to bottom in an empty folder; files that one block leaves are
there for the next.

- console: a line `$ COMMAND` is run by bash, and must exit with 0. A backslash at its end continues
  it. The first word must be in RUN, or in SHOWN, which are not run. Lines below a command are its
  output: each must be among what it printed, in this order, white space aside. Other lines may come
  between, and `…` stands for any text within a line.
- python: a script of its own. With `>>>` it is a doctest instead.
- anything else is only shown.

HTML comments above a block say what else it needs, one comment for each. They may be wrapped, with
or without a backslash:

    <!-- test: skip (trains an hour) -->          not run, for this reason
    <!-- test: add -n 2_000 -->                   adds flags to each `gallop run` and `gallop tune`
    <!-- test: exits 2 -->                        exit code of the block's last command
    <!-- test: file my_task.py -->                the block is written to this file, and not run
    <!-- test: run gallop run … -->               run before the block, and not shown
    <!-- test: instead gallop run … -->           run instead of the block
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    page.relative_to(DOCS).with_suffix("").as_posix()
    for page in (
        DOCS / "quickstart.md",
        *sorted((DOCS / "guides").glob("*.md")),
        *sorted((DOCS / "coming_from").glob("*.md")),
    )
]
RUN = {"gallop", "python", "ls", "cat", "cp", "mkdir"}
SHOWN = {"make", "pip", "sudo", "git", "source", "eval", "cd", "tensorboard", "optuna-dashboard"}
SECONDS = 300  # for one command
DIRECTIVES = {"skip", "add", "exits", "file", "run", "instead"}

COMMENT = re.compile(r"<!-- test: (?P<name>\w+) (?P<what>.*?) -->", re.DOTALL)
FENCE = re.compile(r"(?P<fence>`{3,})(?P<language>[\w+-]*)$")


class PageError(Exception):
    """A block that does not do what its page shows."""


@dataclass
class Block:
    """A fenced block, or test comments that no block follows."""

    line: int
    language: str = ""
    text: str = ""
    directives: list[tuple[str, str]] = field(default_factory=list)

    def given(self, name: str) -> list[str]:
        """What the directives of this name say."""
        return [what for found, what in self.directives if found == name]


@dataclass
class Command:
    """A command and the lines that a page shows below it."""

    text: str
    shown: list[str] = field(default_factory=list)


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = text.splitlines()
    directives: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        if line.startswith("<!-- test:"):
            first = at
            while "-->" not in lines[at]:
                at += 1
            parts = (part.strip().removesuffix("\\").strip() for part in lines[first : at + 1])
            comment = " ".join(parts)
            found = COMMENT.fullmatch(comment)
            if found is None or found["name"] not in DIRECTIVES:
                raise PageError(f"line {first + 1}: not a test comment: {comment}")
            directives.append((found["name"], found["what"]))
        elif fence := FENCE.match(line):
            first, indent = at, len(lines[at]) - len(lines[at].lstrip())
            at += 1
            while lines[at].strip() != fence["fence"]:
                at += 1
            inside = "\n".join(part[indent:] for part in lines[first + 1 : at])
            yield Block(first + 1, fence["language"], inside, directives)
            directives = []
        elif line and directives:  # comments that belong to no block
            yield Block(at, directives=directives)
            directives = []
        at += 1
    if directives:
        yield Block(at, directives=directives)


def commands(block: Block) -> list[Command]:
    """The commands of a console block, with the output that is shown below each."""
    found: list[Command] = []
    continued = False
    for line in block.text.splitlines():
        if continued:
            found[-1].text += "\n" + line
        elif line.startswith("$ "):
            found.append(Command(line.removeprefix("$ ")))
        elif found:
            found[-1].shown.append(line)
        elif line.strip():
            raise PageError(f"line {block.line}: output without a command: {line}")
        continued = (continued or line.startswith("$ ")) and line.endswith("\\")
    return found


def run_page(page: str, folder: Path) -> None:
    """Do what a page shows, in a folder.

    Raises:
        PageError: at the first block that does something else.
    """
    for block in blocks((DOCS / f"{page}.md").read_text()):
        try:
            _run_block(block, folder)
        except PageError as error:
            raise PageError(f"docs/{page}.md, block of line {block.line}: {error}") from None


def _run_block(block: Block, folder: Path) -> None:
    for hidden in block.given("run"):
        _run(hidden, folder)
    for reason in block.given("skip"):
        if not re.fullmatch(r"\(.+\)", reason):
            raise PageError("a reason in brackets is needed after skip")
        return
    if instead := block.given("instead"):
        for hidden in instead:
            _run(hidden, folder)
        return
    for name in block.given("file"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block.text + "\n")
        return
    if block.language == "console":
        _run_console(block, folder)
    elif block.language == "python":
        _run_python(block, folder)


def _run_console(block: Block, folder: Path) -> None:
    shown = commands(block)
    for command in shown:
        word = command.text.split()[0]
        if word in SHOWN:
            continue
        if word not in RUN:
            raise PageError(f"{word} is in neither RUN nor SHOWN of tests/docs/page_blocks.py")
        exit_code = int(block.given("exits")[-1]) if _is_last(command, shown, block) else 0
        text = with_flags(command.text, block.given("add"))
        check_output(command.shown, _run(text, folder, exit_code))


def _is_last(command: Command, shown: list[Command], block: Block) -> bool:
    return bool(block.given("exits")) and command is shown[-1]


def with_flags(command: str, flags: list[str]) -> str:
    """A command with more flags, before its comment, where it trains.

    >>> with_flags("gallop run quickstart  # trains", ["-n 2_000"])
    'gallop run quickstart -n 2_000  # trains'
    """
    if not flags or not re.match(r"gallop (run|tune)\b", command):
        return command
    text, mark, comment = command.partition("  #")
    return " ".join([text.rstrip(), *flags]) + mark + comment


def _run_python(block: Block, folder: Path) -> None:
    doctests = ">>>" in block.text
    file = folder / ("block_of_a_page.txt" if doctests else "block_of_a_page.py")
    file.write_text(block.text + "\n")
    options = "-m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE " if doctests else ""
    _run(f"python {options}{file.name}", folder)
    file.unlink()


def _run(command: str, folder: Path, exit_code: int = 0) -> str:
    """What a command prints. It finds this environment's Python and gallop first."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GALLOP_STATE_DIR": str(folder / ".state"),  # what a page consents to is not remembered
        "COLUMNS": "80",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode != exit_code:
        raise PageError(f"$ {command}\nexited with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def check_output(shown: list[str], printed: str) -> None:
    """Compare the lines that a page shows with what was printed.

    >>> check_output(["timesteps … of 10"], "plan\\ntimesteps  2  of 10\\n")

    Raises:
        PageError: for a line that is not there, or only before the line above it.
    """
    rest = iter(printed.splitlines())
    for line in shown:
        words = line.split()
        if not words or words == ["…"]:
            continue
        pattern = r"\s*".join(re.escape(word).replace("…", ".*") for word in words)
        if not any(re.fullmatch(rf"\s*{pattern}\s*", found) for found in rest):
            raise PageError(
                f"this line was not printed here:\n{line}\nWhat was:\n{printed[-3000:]}"
            )
