"""`thing find`: one name, or its beginning, asked of whoever may know it, as the portal's search does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from rich.console import Console

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.nouns import THING
from services.cli.plain import plain
from services.cli.session import Failure, Refused, Session
from services.cli.tables import table

#: A beginning of an alert's id is looked for from so many characters on, among so many of the newest.
_LEAST, _ALERTS = 4, 1000
_WHOLE_ID = 36
_HEX = frozenset("0123456789abcdef-")
#: Things that have a lineage and are not among those that the trace finds by a beginning.
_LINEAGES = {"molecule", "target", "product", "trial", "insight", "hypothesis", "indication"}
Found = list[dict[str, Any]]


@THING.verb("find", "G-0041", "r-7 --most 5", "set-1", "m-17 --json")
@click.argument("text")
@click.option("--most", type=click.IntRange(1, 20), default=20, show_default=True, help="Things at most.")
@click.pass_obj
def find(session: Session, text: str, most: int) -> None:
    """Find what begins with TEXT: lots, runs, deviations, corrective actions, dispenses, packs, alerts.

    Parameter sets, molecules, targets, products, trials, insights, hypotheses: by their whole id.
    """
    request = trace.FindThingsRequest(text=text, most=most)
    found = [plain(one) for one in session.call(session.traceability.FindThings, request).things]
    away = []
    for service, ask in (("rnd", _sets), ("traceability", _lineages), ("alerting", _alerts)):
        told = _safely(ask, session, text)
        if told is None:
            away.append(service)
        found += told or []
    found = sorted(_once(found), key=lambda one: not one["exact"])[:most]

    def people(out: Console) -> None:
        rows = [[one["kind"], one["id"], one["label"], "exactly" if one["exact"] else ""] for one in found]
        out.print(table(f"What begins with {text}", ["kind", "id", "label", ""], rows))
        if away:
            out.print(f"not asked, for it does not answer now: {', '.join(away)}; there may be more")

    session.show({"things": found, "away": away}, people)


def _safely(ask: Callable[[Session, str], Found], session: Session, text: str) -> Found | None:
    """What is found; nothing where a service cannot read the text as an id; None where it does not answer."""
    try:
        return ask(session, text)
    except Refused as refused:
        return None if refused.exit_code != Refused.exit_code else []
    except Failure:
        return None


def _once(found: Iterable[dict[str, Any]]) -> Found:
    """Each thing once, however many know it."""
    things: dict[tuple[str, str], dict[str, Any]] = {}
    for one in found:
        things.setdefault((one["kind"], one["id"]), one)
    return list(things.values())


def _thing(kind: str, id: str, label: str, *, exact: bool, lot: str = "") -> dict[str, Any]:
    return {"kind": kind, "id": id, "label": label, "exact": exact, "lot": lot}


def _sets(session: Session, text: str) -> Found:
    """A parameter set by its whole id."""
    one = session.call(session.rnd.GetParameterSet, rnd.GetParameterSetRequest(set=text)).version
    return [_thing("set", one.set, f"version {one.version} ({one.product})", exact=True)]


def _lineages(session: Session, text: str) -> Found:
    """Things that the trace knows by their whole id alone."""
    answer = session.call(session.traceability.GetLineage, trace.GetLineageRequest(id=text, most=1))
    return [_thing(one.kind, one.id, "", exact=True) for one in answer.of if one.kind in _LINEAGES]


def _alerts(session: Session, text: str) -> Found:
    """An alert by its id, or among the newest by its beginning."""
    begins = text.casefold()
    if len(begins) < _LEAST or not set(begins) <= _HEX:
        return []  # ids of alerts are UUIDs
    if len(begins) == _WHOLE_ID:
        one = session.call(session.alerting.GetAlert, alerting.GetAlertRequest(alert=begins)).alert
        found = [one]
    else:
        answer = session.call(session.alerting.ListAlerts, alerting.ListAlertsRequest(page_size=_ALERTS))
        found = [one for one in answer.alerts if one.raised.alert.startswith(begins)]
    return [
        _thing(
            "alert",
            one.raised.alert,
            one.latest_text or one.raised.text,
            exact=one.raised.alert == begins,
            lot=one.raised.lot,
        )
        for one in found
    ]
