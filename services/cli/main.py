"""The `pharmaloop` command: the operator's tool and the partner's example. gRPC only."""

from __future__ import annotations

import getpass

import click

from services.cli import alerts, loops, lots, quality, status, verify
from services.cli.session import Session


def _me() -> str:
    """Who calls, when nobody says so."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


class _Group(click.Group):
    """Lets `--json`, `--endpoints` and `--actor` stand before or after the command's name."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=_set_json,
                help="One JSON document on stdout.",
            )
        )
        super().add_command(cmd, name)


def _set_json(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Session).as_json = True  # type: ignore[union-attr]


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoints", default="", metavar="JSON|FILE", help="Where the services listen.")
@click.option("--actor", default="", envvar="PHARMALOOP_ACTOR", help="Who you are, for the record.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def cli(context: click.Context, endpoints: str, actor: str, as_json: bool) -> None:
    """See and steer a running PharmaLoop platform."""
    session = Session(endpoints, actor or _me(), as_json)
    context.obj = session
    context.call_on_close(session.close)


for _command in (
    status.status,
    loops.loops,
    lots.lot,
    lots.trace_lot,
    quality.deviations,
    quality.confirm,
    quality.reject,
    quality.capas,
    quality.approve,
    alerts.alerts,
    alerts.acknowledge,
    verify.verify,
):
    cli.add_command(_command)

if __name__ == "__main__":
    cli()
