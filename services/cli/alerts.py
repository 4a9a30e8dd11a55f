"""`alert`: what waits for somebody, and taking it."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.alerting.v1 import service_pb2 as api
from services.cli.beginnings import RUN_ID
from services.cli.follow import follow, tell
from services.cli.nouns import ALERT
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import Sheet, table
from services.kit.ids import new_id

_STATES = {
    "open": api.ALERT_STATE_OPEN,
    "taken": api.ALERT_STATE_TAKEN,
    "resolved": api.ALERT_STATE_RESOLVED,
    "all": api.ALERT_STATE_UNSPECIFIED,
}


@ALERT.verb("list", "", "--state resolved", "--all --run r-7", "--watch", watched=True)
@click.option(
    "--state",
    type=click.Choice(list(_STATES)),
    default="open",
    help="Only those that nobody took, that somebody took, or whose matter is over.",
)
@click.option("--all", "everything", is_flag=True, help="All of them, as --state all.")
@click.option("--run", type=RUN_ID, default="", help="Only of this run.")
@click.option("--lot", default="", help="Only of this lot, or of this case of a transfer or a study.")
@click.pass_obj
def alerts(session: Session, state: str, everything: bool, run: str, lot: str) -> None:
    """List alerts, the gravest first, then the newest: those that still wait for somebody, unless others are
    asked for."""
    request = api.ListAlertsRequest(state=_STATES["all" if everything else state], run=run, lot=lot)
    pages = session.pages(session.alerting.ListAlerts, request)
    told = [item for page in pages for item in page.alerts]
    found = [
        plain(item) for item in sorted(told, key=lambda item: (item.HasField("resolved"), -item.severity))
    ]
    session.show({"alerts": found}, lambda out: out.print(_table(found)))


def _table(found: list[dict[str, Any]]) -> Sheet:
    rows = [
        [
            item["raised"]["alert"],
            word(item["raised"]["kind"], "ALERT_KIND").replace("_", " "),
            word(item["severity"], "ALERT_SEVERITY").replace("unspecified", "-"),
            item["latest_text"] or item["raised"]["text"],
            f"{item['count']} x" if int(item["count"]) > 1 else "",
            _standing(item),
            item["asked"] or "-",
            item["next_escalation"] or "-",
        ]
        for item in found
    ]
    columns = ["alert", "kind", "severity", "what (the latest)", "times", "taken by", "asked", "escalates"]
    return table("Alerts", columns, rows)


def _standing(item: dict[str, Any]) -> str:
    """Who took it, open, or resolved; of both, both."""
    if not item["resolved"]:
        return str(item["actor"] or "open")
    return f"resolved ({item['actor']})" if item["actor"] else "resolved"


def _ending(resolved: dict[str, Any]) -> str:
    """What ended the matter, by whom, when and why."""
    by = f" by {resolved['actor']}" if resolved["actor"] else ""
    why = f": {resolved['reason']}" if resolved["reason"] else ""
    what = word(resolved["end"], "ALERT_END").replace("_", " ")
    return f"resolved, {what}{by} at {resolved['at']}{why}"


@ALERT.verb("show", "al-9", watched=True)
@click.argument("alert")
@click.pass_obj
def show(session: Session, alert: str) -> None:
    """Show ALERT: what it is about, who took it, whom it asks and asked, and how it was resolved."""
    answer = session.call(session.alerting.GetAlert, api.GetAlertRequest(alert=alert))
    found = plain(answer.alert)

    def people(out: Console) -> None:
        out.print(_table([found]))
        about = {name: found["raised"][name] for name in ("lot", "run")}
        out.print(f"about lot {about['lot'] or '-'}, run {about['run'] or '-'}")
        rows = [[str(one["level"]), one["to"], one["at"] or "-"] for one in found["escalations"]]
        out.print(table("Escalated", ["level", "to", "at"], rows))
        if found["note"]:
            out.print(f"{found['actor']} says: {found['note']}")
        if found["resolved"]:
            out.print(_ending(found["resolved"]))
        if found["meaning"]:
            out.print(f"signed: {found['meaning']}")

    session.show({"alert": found}, people)


@ALERT.verb("follow")
@click.pass_obj
def follow_alerts(session: Session) -> None:
    """Stay and tell every alert as it is raised, escalated, taken, resolved; --json: one document a line."""
    for answer in follow(session, session.alerting.WatchAlerts, api.WatchAlertsRequest()):
        if not answer.HasField("alert"):
            continue  # it says only that the subscription stands
        found = plain(answer.alert)
        text = found["latest_text"] or found["raised"]["text"]
        who = (
            _ending(found["resolved"])
            if found["resolved"]
            else f"taken by {found['actor']}"
            if found["actor"]
            else f"level {found['level']}, {found['asked'] or '-'}"
        )
        tell(session, found, f"{found['raised']['alert']}  {who}  {text}")


@ALERT.verb("ack", 'al-9 --note "on my way"', signed="I look after this alert from now on.")
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
