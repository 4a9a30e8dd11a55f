"""The `pharmaloop` command: the operator's tool and the partner's example.

It speaks gRPC only; `backup` alone, which is about Kafka and MongoDB, speaks to these.
"""

from __future__ import annotations

import getpass

import click

from services.cli import (  # noqa: F401  each gives nouns their verbs
    alerts,
    bench,
    capas,
    changes,
    completion,
    dlq,
    dossier,
    drills,
    exposures,
    find,
    genealogy,
    judged,
    laboratory,
    lineage,
    lots,
    models,
    nouns,
    parameter_sets,
    portfolio,
    quality,
    rebuild,
    records,
    research,
    runs,
    sites,
    status,
    studies,
    transfers,
    verify,
    waiting,
    walls,
)
from services.cli.backup import command as _backup  # noqa: F401  the same
from services.cli.conformance import command as _conformance  # noqa: F401  the same
from services.cli.feed.command import feed
from services.cli.group import PROGRAM, example_text
from services.cli.plugins import OpenGroup
from services.cli.session import Session

_EPILOG = example_text(
    "pharmaloop status",
    "pharmaloop run list --watch",
    "pharmaloop lot trace maker-1/item/granulate/G-0041",
    "pharmaloop deviation list --state open --json",
    'eval "$(pharmaloop completion bash)"',
)


def _me() -> str:
    """Who calls, when nobody says so."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


@click.group(PROGRAM, cls=OpenGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.option("--endpoints", default="", metavar="JSON|FILE", help="Where the services listen.")
@click.option("--actor", default="", envvar="PHARMALOOP_ACTOR", help="Who you are, for the record.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def cli(context: click.Context, endpoints: str, actor: str, as_json: bool) -> None:
    """See and steer a running PharmaLoop platform.

    A command is a noun and a verb, pharmaloop NOUN VERB; -h after either tells more.
    """
    session = Session(endpoints, actor or _me(), as_json)
    context.obj = session
    context.call_on_close(session.close)


for _command in (*nouns.ALL, feed, status.status, verify.verify, completion.completion):
    cli.add_command(_command)

if __name__ == "__main__":
    cli(prog_name=PROGRAM)
