"""`pharmaloop conformance`: does a partner's program do what the contract asks, and does a platform?"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import click
from rich.console import Console

from services.cli.conformance import platform as installed
from services.cli.conformance.checks import NOT_SEEN, RIGHT, SEND_CHECKS, WATCH_CHECKS, WRONG, Verdict
from services.cli.conformance.sandbox import Sandbox
from services.cli.nouns import CONFORMANCE
from services.cli.session import Session
from services.cli.tables import table

_SECONDS = 60
_MARKS = {RIGHT: "ok", WRONG: "WRONG", NOT_SEEN: "not seen"}


@CONFORMANCE.verb("list")
def list_checks() -> None:
    """List what is looked for."""
    for check, meaning in (SEND_CHECKS | WATCH_CHECKS | installed.PLATFORM_CHECKS).items():
        click.echo(f"{check:15} {meaning}")


@CONFORMANCE.verb("platform", "", "--json")
@click.pass_obj
def platform(session: Session) -> None:
    """Say whether every service is ready and keeps what callers are promised; it changes nothing.

    Calls without a deadline, without a request id, and of no contract have to be refused. `helm test` runs
    it. Exit status 1 where anything is wrong.
    """
    services = installed.judge(session)
    verdicts = [(one.name, verdict) for one in services for verdict in one.verdicts]
    checks = [
        {"service": name, "check": v.check, "outcome": v.outcome.lower(), "detail": v.detail}
        for name, v in verdicts
    ]

    def people(out: Console) -> None:
        columns = ["service", *installed.PLATFORM_CHECKS, "why"]
        rows = [
            [one.name, *(_MARKS[v.outcome] for v in one.verdicts), _details(one.verdicts)] for one in services
        ]
        out.print(table("Promises", columns, rows))

    session.show({"checks": checks}, people)
    raise click.exceptions.Exit(0 if all(v.outcome == RIGHT for _, v in verdicts) else 1)


def _details(verdicts: Sequence[Verdict]) -> str:
    return "\n".join(f"{v.check}: {v.detail}" for v in verdicts if v.outcome == WRONG)


@CONFORMANCE.verb("run", "", "--only send --seconds 300")
@click.option(
    "--listen", default="127.0.0.1:7700", show_default=True, metavar="HOST:PORT", help="Its address."
)
@click.option("--seconds", default=_SECONDS, show_default=True, help="How long it waits for the program.")
@click.option("--only", type=click.Choice(["send", "watch"]), help="Judge one half; both if not given.")
@click.pass_obj
def run(session: Session, listen: str, seconds: int, only: str | None) -> None:
    """Open the sandbox, wait for a program, say what it does wrong.

    Point the program at the address: let it send four rows or more, of which one happened just now, in two
    requests or more, and watch lots. Exit status 1 where something is wrong, or was not seen.
    """
    sandbox = Sandbox()
    try:
        port = sandbox.start(listen)
    except RuntimeError:
        raise click.ClickException(
            f"cannot listen on {listen}: choose another address with --listen"
        ) from None
    click.echo(f"the sandbox listens on {listen.rpartition(':')[0]}:{port} for {seconds} s", err=True)
    chosen = {"send": only != "watch", "watch": only != "send"}
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and any(v.outcome == NOT_SEEN for v in sandbox.verdicts(**chosen)):
            time.sleep(0.2)
        time.sleep(min(2.0, max(0.0, end - time.monotonic())))  # what a program does wrong it may do next
    except KeyboardInterrupt:
        pass
    verdicts = sandbox.verdicts(**chosen)
    sandbox.stop()
    if session.as_json:
        rows = [{"check": v.check, "outcome": v.outcome.lower(), "detail": v.detail} for v in verdicts]
        click.echo(json.dumps({"checks": rows}, indent=2))
    else:
        for verdict in verdicts:
            click.echo(f"{_MARKS[verdict.outcome]:9} {verdict.check:15} {verdict.detail}".rstrip())
    raise click.exceptions.Exit(0 if all(v.outcome == RIGHT for v in verdicts) else 1)
