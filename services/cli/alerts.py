"""`alerts` and `acknowledge`: what waits for somebody, and taking it."""

from __future__ import annotations

import click
from rich.console import Console

from pharmaloop.alerting.v1 import service_pb2 as api
from services.cli.nouns import ALERT
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id


@ALERT.verb("list", "", "--all", "--watch", watched=True)
@click.option("--all", "everything", is_flag=True, help="Also those that somebody took.")
@click.pass_obj
def alerts(session: Session, everything: bool) -> None:
    """List alerts that nobody took yet, newest first."""
    pages = session.pages(session.alerting.ListAlerts, api.ListAlertsRequest(only_open=not everything))
    found = [plain(item) for page in pages for item in page.alerts]

    def people(out: Console) -> None:
        rows = [
            [
                item["raised"]["alert"],
                word(item["raised"]["kind"], "ALERT_KIND"),
                item["latest_text"] or item["raised"]["text"],
                f"{item['count']} x" if int(item["count"]) > 1 else "",
                item["actor"] or "open",
            ]
            for item in found
        ]
        out.print(table("Alerts", ["alert", "kind", "what (the latest)", "times", "taken by"], rows))

    session.show({"alerts": found}, people)


@ALERT.verb("ack", 'al-9 --note "on my way"')
@click.argument("alert")
@click.option("--note", default="", help="What you say to it.")
@click.pass_obj
def acknowledge(session: Session, alert: str, note: str) -> None:
    """Take ALERT."""
    request = api.AcknowledgeAlertRequest(request_id=new_id(), alert=alert, note=note)
    answer = session.call(session.alerting.AcknowledgeAlert, request)
    session.show(
        {"alert": alert, "acknowledged": True, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"taken: {alert}"),
    )
