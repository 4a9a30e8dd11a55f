"""`result`: what the laboratory measured, and why a result was out."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.cli.nouns import RESULT
from services.cli.plain import plain, word
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table
from services.kit.ids import new_id

_STATES = {
    "all": api.RESULT_STATE_UNSPECIFIED,
    "recorded": api.RESULT_STATE_RECORDED,
    "investigated": api.RESULT_STATE_INVESTIGATED,
    "void": api.RESULT_STATE_VOID,
    "out-of-specification": api.RESULT_STATE_OUT_OF_SPECIFICATION,
    "out-of-trend": api.RESULT_STATE_OUT_OF_TREND,
}
_OUTCOMES = {
    "laboratory-error": events.INVESTIGATION_OUTCOME_LABORATORY_ERROR,
    "confirmed": events.INVESTIGATION_OUTCOME_CONFIRMED,
}
_COLUMNS = ["lot", "test", "result", "specification", "state", "investigation", "rule", "reason"]


@RESULT.verb("list", "", "--state out-of-trend", "maker-1/item/granulate/G-0041", watched=True)
@click.argument("lot", type=LOT_KEY, required=False)
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.pass_obj
def results(session: Session, lot: str | None, state: str) -> None:
    """List laboratory results, newest first; only those of LOT when it is given."""
    request = api.ListResultsRequest(state=_STATES[state], lot=lot or "")
    pages = session.pages(session.production.ListResults, request)
    found = [plain(item) for page in pages for item in page.results]
    session.show(
        {"results": found}, lambda out: out.print(table("Laboratory results", _COLUMNS, _rows(found)))
    )


def _rows(found: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for item in found:
        recorded = item["recorded"] or {}
        value = f"{recorded['value']:g} {recorded['unit']}" if recorded else "-"
        rows.append(
            [
                recorded.get("lot", "-"),
                recorded.get("test", "-"),
                value,
                _limits(recorded) if recorded else "-",
                word(item["state"], "RESULT_STATE").replace("_", " "),
                item["investigation"] or "-",
                item["rule"],
                item["reason"],
            ]
        )
    return rows


def _limits(recorded: dict[str, Any]) -> str:
    low, high = recorded["low"], recorded["high"]
    return f"{'-' if low is None else f'{low:g}'} to {'-' if high is None else f'{high:g}'}"


@RESULT.verb(
    "close",
    'maker-1/item/granulate/G-0041 n-2 --outcome laboratory-error --reason "the column was worn"',
    signed="I have looked into the result and stand for what was found.",
)
@click.argument("lot", type=LOT_KEY)
@click.argument("investigation")
@click.option("--outcome", type=click.Choice(list(_OUTCOMES)), required=True, help="What was found.")
@click.option("--reason", required=True, help="What was looked at, and what it showed.")
@click.pass_obj
def close_investigation(session: Session, lot: str, investigation: str, outcome: str, reason: str) -> None:
    """Close INVESTIGATION of LOT: the laboratory erred, or the result stands."""
    request = api.CloseInvestigationRequest(
        request_id=new_id(), lot=lot, investigation=investigation, outcome=_OUTCOMES[outcome], reason=reason
    )
    answer = session.call(session.production.CloseInvestigation, request)
    document = {"lot": lot, "investigation": investigation, "outcome": outcome}

    def people(out: Console) -> None:
        then = "can only be rejected" if outcome == "confirmed" else "needs a retest within specification"
        out.print(f"closed: {lot} {then}")

    session.show({**document, "receipt": plain(answer.receipt)}, people)
