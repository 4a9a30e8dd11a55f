"""The grammar of the command, `pharmaloop NOUN VERB`: what every noun and every verb shares.

Each verb has a help text with examples, and takes `--json` and `--actor` before
or after its name. A verb that shows something may be watched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from services.cli.session import Session
from services.cli.watch import EVERY_SECONDS, watch
from services.cli.wrong import NoSuchWord

PROGRAM = "pharmaloop"
_WATCH = "pharmaloop.watch"


class Verb(click.Command):
    """A command that can be watched, where `--watch` is among its options."""

    def invoke(self, ctx: click.Context) -> Any:
        again = super().invoke
        if ctx.meta.get(_WATCH):
            session = ctx.find_object(Session)
            assert session is not None
            return watch(session, lambda: again(ctx), ctx.meta[_WATCH])
        return again(ctx)


class Shared(click.Group):
    """A group whose commands all take the shared options."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        take_shared(cmd)
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; NoSuchWord where it names none."""
        word = str(args[0])
        if not word.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, word) is None:
            raise NoSuchWord(word, self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)


class Noun(Shared):
    """Things of one kind, and the verbs that they have."""

    def __init__(self, name: str, tells: str, **more: Any) -> None:
        super().__init__(name, help=tells, short_help=tells.partition("\n")[0], **more)

    def verb(
        self, name: str, *examples: str, watched: bool = False, signed: str = ""
    ) -> Callable[[Callable[..., Any]], click.Command]:
        """Make a function this noun's verb. Each example is what stands after the verb, empty for nothing.

        `signed` is a decision: what the signature under it means, where `--meaning` does not say it.
        """

        def made(function: Callable[..., Any]) -> click.Command:
            command = _made(function, name, f"{PROGRAM} {self.name} {name}", examples, watched)
            if signed:
                command.params.append(_signing(signed))
            self.add_command(command)
            return command

        return made


def alone(name: str, *examples: str, watched: bool = False) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that is no noun: what it is about is the platform as a whole."""
    return lambda function: _made(function, name, f"{PROGRAM} {name}", examples, watched)


def example_text(*lines: str) -> str:
    """Examples as they stand below the help of a command."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _made(
    function: Callable[..., Any], name: str, path: str, examples: tuple[str, ...], watched: bool
) -> click.Command:
    lines = [f"{path} {example}".rstrip() for example in examples or ("",)]
    command = click.command(name, cls=Verb, epilog=example_text(*lines))(function)
    if watched:
        command.params += _watching()
    return command


def _watching() -> list[click.Option]:
    def begin(context: click.Context, option: click.Parameter, value: Any) -> None:
        if option.name == "watched" and value:
            context.meta.setdefault(_WATCH, EVERY_SECONDS)
        elif option.name == "every" and value is not None:
            context.meta[_WATCH] = value

    told = "Stay, and show it anew whenever it has changed (with --json: one document a line)."
    seconds = f"With --watch: seconds between two looks  [default: {EVERY_SECONDS:g}]"
    return [
        click.Option(["--watch", "watched"], is_flag=True, expose_value=False, callback=begin, help=told),
        click.Option(
            ["--every"],
            type=click.FloatRange(0.2, 3600),
            expose_value=False,
            callback=begin,
            help=seconds,
        ),
    ]


def _signing(meaning: str) -> click.Option:
    """What a person's signature means; it goes with the request of the verb."""

    def sign(context: click.Context, _option: click.Parameter, value: str) -> None:
        context.find_object(Session).meaning = value  # type: ignore[union-attr]

    told = "What your signature means; it is kept with your name."
    return click.Option(
        ["--meaning"], default=meaning, show_default=True, expose_value=False, callback=sign, help=told
    )


def take_shared(command: click.Command) -> click.Command:
    """The command itself, which takes `--json` and `--actor` from now on."""
    taken = {option for parameter in command.params for option in parameter.opts}
    if "--json" not in taken:
        command.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=_set_json,
                help="One JSON document on stdout.",
            )
        )
    if "--actor" not in taken:
        command.params.append(
            click.Option(
                ["--actor"],
                expose_value=False,
                callback=_set_actor,
                help="Who you are, for the record.",
            )
        )
    return command


def _set_json(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Session).as_json = True  # type: ignore[union-attr]


def _set_actor(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value:
        context.find_object(Session).actor = value  # type: ignore[union-attr]
