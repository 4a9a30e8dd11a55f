"""`--json` may stand before or after a command's name, at every level."""

from __future__ import annotations

import click

from services.cli.session import Session


class JsonGroup(click.Group):
    """A group whose commands all take `--json`."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        take_json(cmd)
        super().add_command(cmd, name)


def take_json(command: click.Command) -> click.Command:
    """The command itself, which takes `--json` from now on."""
    command.params.append(
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            expose_value=False,
            callback=_set_json,
            help="One JSON document on stdout.",
        )
    )
    return command


def _set_json(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Session).as_json = True  # type: ignore[union-attr]
