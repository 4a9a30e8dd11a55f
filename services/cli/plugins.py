"""Commands that other packages bring along, as entry points of the group `pharmaloop.commands`.

They are loaded when they are called and not before, so that the command starts
as fast with them as without.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from services.cli.group import Shared, take_shared
from services.cli.wrong import told

GROUP = "pharmaloop.commands"
#: The words of the command line, kept beside the context.
_WORDS = "pharmaloop.words"


class OpenGroup(Shared):
    """The commands that are built in, and those that are found installed; what goes wrong is told here."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        words = tuple(args)
        with told(words):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_WORDS] = words
        return context

    def invoke(self, ctx: click.Context) -> Any:
        with told(ctx.meta.get(_WORDS, ())):
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_found()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        built_in = super().get_command(ctx, cmd_name)
        return _loaded(cmd_name) if built_in is None and cmd_name in _found() else built_in


@cache
def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def _loaded(name: str) -> click.Command:
    """The command, and each of its own, with the options that every command shares."""
    command: click.Command = _found()[name].load()
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        take_shared(below)
    return take_shared(command)
