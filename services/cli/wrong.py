"""What went wrong, as it is told: a sentence and the next step, on stderr.

With `--json` it is one document there, {"error": {...}}, with the same sentence and step.
A word that nobody knows names the nearest one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import click

from services.cli.session import Failure, Refused, Unreachable

JSON = "--json"
#: How click begins its sentence of a word that is no command.
_NO_COMMAND = "No such command "


class NoSuchWord(click.UsageError):
    """A noun or a verb that nobody knows, and the nearest that is known; exit status 2."""

    def __init__(self, word: str, known: Sequence[str], context: click.Context) -> None:
        self.near = get_close_matches(word, known, 1)
        asked = f" Did you mean {self.near[0]!r}?" if self.near else ""
        super().__init__(f"{_NO_COMMAND}{word!r}.{asked}", context)


class _Told(click.ClickException):
    """An error on its way out of the command, in the form that was asked for."""

    def __init__(self, error: click.ClickException, as_json: bool) -> None:
        super().__init__(error.message)
        self._error, self._as_json = error, as_json
        self.exit_code = error.exit_code

    def show(self, file: Any = None) -> None:
        show(self._error, self._as_json)


@contextmanager
def told(words: Iterable[str]) -> Iterator[None]:
    """What goes wrong within is told as it was asked for: a document, where `--json` is among the words."""
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, _Told):
        raise
    except click.ClickException as error:
        raise _Told(_of_a_plugin(error), JSON in words) from None


def _of_a_plugin(error: click.ClickException) -> click.ClickException:
    """The error; a word that a group of another package does not know names the nearest one too."""
    context = error.ctx if type(error) is click.UsageError else None
    group = context.command if context else None
    if context is None or not isinstance(group, click.Group) or not error.message.startswith(_NO_COMMAND):
        return error
    word = error.message.removeprefix(_NO_COMMAND).strip("'\". ")
    return NoSuchWord(word, group.list_commands(context), context)


def show(error: click.ClickException, as_json: bool) -> None:
    """Tell it on stderr."""
    if as_json:
        click.echo(json.dumps({"error": document(error)}, ensure_ascii=False), err=True)
    elif isinstance(error, Failure):
        error.show()
    else:
        if isinstance(error, click.UsageError) and error.ctx:
            click.echo(f"{error.ctx.get_usage()}\n", err=True)
        click.echo(f"Error: {_sentence(error)}\n  next: {next_step(error)}", err=True)


def document(error: click.ClickException) -> dict[str, Any]:
    """An error for programs; reason, field and status are null where no service refused."""
    refused = error if isinstance(error, Refused) else None
    return {
        "message": _sentence(error),
        "next": next_step(error),
        "exit_status": error.exit_code,
        "status": refused.code.name if refused else None,
        "reason": (refused.reason or None) if refused else None,
        "field": (refused.field or None) if refused else None,
        "did_you_mean": _near(error),
    }


def next_step(error: click.ClickException) -> str:
    """What one does now; never empty."""
    if isinstance(error, Failure):
        return error.next_step
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "pharmaloop"
    near = _near(error)
    if isinstance(error, NoSuchWord):
        shows = f"'{path} -h' shows what there is"
        return f"'{path} {near[0]}' is the nearest; {shows}" if near else shows
    if isinstance(error, click.NoSuchOption):
        before = f"give it before the noun: 'pharmaloop {error.option_name} ...'"
        return before if _before_the_noun(error) else f"'{path} -h' shows the options"
    if isinstance(error, click.UsageError):
        return f"correct it, and give the command again; '{path} -h' shows how it is given"
    away = error.exit_code == Unreachable.exit_code
    return Unreachable.usual if away else "correct what is named, and give the command again"


def _near(error: click.ClickException) -> list[str]:
    """The nearest word to one that nobody knows."""
    if isinstance(error, NoSuchWord):
        return error.near
    if isinstance(error, click.NoSuchOption) and not _before_the_noun(error):
        # The dashes, which all have, make no option like another.
        known = {option.lstrip("-"): option for option in error.possibilities or ()}
        return [known[name] for name in get_close_matches(error.option_name.lstrip("-"), known, 1)]
    return []


def _sentence(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption):
        near = _near(error)
        return f"{error.message}. Did you mean {near[0]}?" if near else f"{error.message}."
    return error.format_message()


def _before_the_noun(error: click.NoSuchOption) -> bool:
    """Is it an option of the command as a whole, given behind a noun?"""
    if error.ctx is None or error.ctx.parent is None:
        return False
    root = error.ctx.find_root().command
    return error.option_name in {name for parameter in root.params for name in parameter.opts}
