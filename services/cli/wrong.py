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

from services.cli.session import Failure, Refused

JSON = "--json"


class NoSuchWord(click.UsageError):
    """A noun or a verb that nobody knows, and the nearest that is known; exit status 2."""

    def __init__(self, word: str, known: Sequence[str], context: click.Context) -> None:
        self.near = get_close_matches(word, known, 1)
        asked = f" Did you mean {self.near[0]!r}?" if self.near else ""
        super().__init__(f"No such command {word!r}.{asked}", context)


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
        raise _Told(error, JSON in words) from None


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
        if _before_the_noun(error):
            return f"give it before the noun: 'pharmaloop {error.option_name} ...'"
        return f"'{path} -h' shows the options"
    if isinstance(error, click.UsageError):
        return f"correct it, and give the command again; '{path} -h' shows how it is given"
    return "correct what is named, and give the command again"


def _near(error: click.ClickException) -> list[str]:
    """The nearest word to one that nobody knows."""
    if isinstance(error, NoSuchWord):
        return error.near
    if isinstance(error, click.NoSuchOption) and not _before_the_noun(error):
        return list(error.possibilities or ())[:1]
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
