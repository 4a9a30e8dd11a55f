"""Writes docs/cli.md from the command itself: `python -m services.cli.reference docs/cli.md`.

A test fails where the file says something else than the code does.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from services.cli.group import PROGRAM
from services.cli.main import cli

_SHARED = {"--json", "--actor", "--watch", "--every", "--help"}
#: The document of an error.
_ERROR = '`{"error": {"message", "next", "exit_status", "status", "reason", "field",\n"did_you_mean"}}`'
_HEAD = f"""# The `{PROGRAM}` command

Made from the code by `make docs-cli`; do not edit it. [services/cli](../services/cli/README.md) has the
why, and what `verify` and `dlq` mean.

A command is a noun and a verb: `{PROGRAM} NOUN VERB`. `-h` after either shows what stands here.

## Everywhere
| option | |
|---|---|
| `--json` | one JSON document on stdout; names are the contract's, moments ISO text in UTC |
| `--actor TEXT` | who you are, for the record; else `PHARMALOOP_ACTOR`, else the login name |
| `--endpoints JSON\\|FILE` | before the noun only: where the services listen |
| `--watch` | where a verb *can be watched*: stay, and show it anew when it has changed; Ctrl-C ends it |
| `--every SECONDS` | with `--watch`: the pause between two looks |
| `-h`, `--help` | help with examples |

Without `--endpoints`, `PHARMALOOP_ENDPOINTS` says where the services listen, else `endpoints.json` of the
state folder. A watch with `--json` prints one document a line.

**Tables** are as wide as the terminal: cells are folded, and where columns would be too narrow each row is
a record of lines. Nothing is cut. Where the output is no terminal, a table is its title behind a `#`, then
tab-separated lines, header first; no colours. `NO_COLOR` takes colours off a terminal too.

**Progress** of long work is shown on stderr, on a terminal, without `--json`.

**Completion**: `eval "$({PROGRAM} completion bash)"`, or `zsh`; fish: `{PROGRAM} completion fish | source`.

**Ids** of runs, deviations and corrective actions may be given by their beginning, six characters or more,
where it is of one thing only. Of several it is refused with their names.

**Exit status**

| status | meaning |
|---|---|
| 0 | it is as asked; a watch that somebody ended |
| 1 | a service refused it, what is named is not there, a check failed, or somebody answered no |
| 2 | the command line, or a file that it names, is wrong |
| 3 | who should answer does not, or it is not known where they listen |

What went wrong stands on stderr: a sentence with the rule and the field, and behind `next:` what one does
now. With `--json` it is a document there, {_ERROR}.
A word that nobody knows names the nearest one; who does not answer is told with
the address, and with what gave it.
"""


def reference() -> str:
    """The whole page."""
    context = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    names = cli.list_commands(context)
    parts = [_HEAD, "## Nouns", "| noun | verbs | |\n|---|---|---|\n" + "\n".join(_index(context, names))]
    for name in names:
        parts += _noun(context, name)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _command(context: click.Context, name: str) -> tuple[click.Command, click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    command = group.get_command(context, name)
    assert command is not None
    return command, click.Context(command, parent=context, info_name=name)


def _index(context: click.Context, names: list[str]) -> Iterator[str]:
    for name in names:
        command, below = _command(context, name)
        verbs = command.list_commands(below) if isinstance(command, click.Group) else []
        yield f"| [{name}](#{name}) | {', '.join(verbs) or '-'} | {_cell(_first(command))} |"


def _noun(context: click.Context, name: str) -> Iterator[str]:
    command, below = _command(context, name)
    yield f"## {name}"
    if not isinstance(command, click.Group):
        yield from _verb(command, below)
        return
    yield _prose(command)
    for verb in command.list_commands(below):
        one, its = _command(below, verb)
        yield f"### {name} {verb}"
        yield from _verb(one, its)


def _verb(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    yield "`" + " ".join([context.command_path, *pieces]) + "`"
    watched = any("--watch" in parameter.opts for parameter in command.params)
    yield _prose(command) + (" Can be watched." if watched else "")
    options = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not _SHARED & set(parameter.opts)
    ]
    if options:
        yield "| option | |\n|---|---|\n" + "\n".join(_option(context, option) for option in options)
    lines = [line[2:] for line in (command.epilog or "").splitlines() if line.startswith("  ")]
    if lines:
        yield "```sh\n" + "\n".join(lines) + "\n```"


def _option(context: click.Context, option: click.Option) -> str:
    record = option.get_help_record(context)
    assert record is not None
    names, told = record
    return f"| `{_cell(names)}` | {_cell(told)} |"


def _prose(command: click.Command) -> str:
    """The help, paragraph by paragraph, without click's marks."""
    paragraphs = inspect.cleandoc(command.help or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _first(command: click.Command) -> str:
    return _prose(command).split("\n\n")[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
