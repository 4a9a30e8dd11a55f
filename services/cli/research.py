"""Trials, gaps of transfers, findings, hypotheses, candidates: what research computes and learns."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.cli.nouns import CANDIDATE, FINDING, HYPOTHESIS, TRANSFER, TRIAL
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id

_HYPOTHESES = {
    "all": events.HYPOTHESIS_STATE_UNSPECIFIED,
    "supported": events.HYPOTHESIS_STATE_SUPPORTED,
    "contradicted": events.HYPOTHESIS_STATE_CONTRADICTED,
    "needs-data": events.HYPOTHESIS_STATE_NEEDS_DATA,
}
_FINDINGS = {
    "all": api.FINDING_STATE_UNSPECIFIED,
    "waiting": api.FINDING_STATE_WAITING,
    "taken-up": api.FINDING_STATE_TAKEN_UP,
    "declined": api.FINDING_STATE_DECLINED,
}


@TRIAL.verb("list", "", "--product product-1", watched=True)
@click.option("--product", default="", help="Only of this product.")
@click.pass_obj
def trials(session: Session, product: str) -> None:
    """List virtual trials, newest first."""
    pages = session.pages(session.rnd.ListTrials, api.ListTrialsRequest(product=product))
    found = [plain(item) for page in pages for item in page.trials]

    def people(out: Console) -> None:
        rows = [
            [
                item["completed"]["trial"],
                item["completed"]["product"],
                word(item["completed"]["verdict"], "TRIAL_VERDICT").replace("_", "-"),
                f"{item['completed']['probability_of_success']:.3f}",
                f"{item['completed']['power']:.3f}",
                item["completed"]["context_of_use"],
                item["at"] or "-",
            ]
            for item in found
        ]
        columns = ["trial", "product", "verdict", "success", "power", "for", "at"]
        out.print(table("Virtual trials", columns, rows))

    session.show({"trials": found}, people)


@TRANSFER.verb("gaps", "product-1 plant-3", watched=True)
@click.argument("product")
@click.argument("plant")
@click.pass_obj
def transfer_gaps(session: Session, product: str, plant: str) -> None:
    """Show what the lots of PRODUCT at PLANT were off their prediction, transfer by transfer."""
    request = api.GetTransferGapsRequest(product=product, plant=plant)
    found = plain(session.call(session.rnd.GetTransferGaps, request))

    def people(out: Console) -> None:
        rows = [
            [
                outcome["set"],
                outcome["lot"],
                gap["attribute"],
                f"{gap['predicted']['value']:.4g} {gap['unit']}",
                f"{gap['calibrated_by']:+.3g}",
                f"{gap['actual']:.4g}",
                f"{gap['gap']:+.3g}",
            ]
            for outcome in found["outcomes"]
            for gap in outcome["gaps"]
        ]
        columns = ["set", "lot", "attribute", "predicted", "calibrated by", "actual", "gap"]
        out.print(table(f"{product} at {plant}", columns, rows))
        for one in found["calibration"]:
            out.print(
                f"next: {one['attribute']} {one['bias']:+.3g} {one['unit']}, "
                f"spread {one['spread']:.3g}, of {one['outcomes']} outcomes"
            )

    session.show(found, people)


@FINDING.verb("list", "", "--state waiting", watched=True)
@click.option("--state", type=click.Choice(list(_FINDINGS)), default="all", help="Only of this state.")
@click.pass_obj
def findings(session: Session, state: str) -> None:
    """List findings of studies and what became of them, newest first."""
    pages = session.pages(session.rnd.ListFindings, api.ListFindingsRequest(state=_FINDINGS[state]))
    found = [plain(item) for page in pages for item in page.findings]

    def people(out: Console) -> None:
        rows = [
            [
                item["insight"],
                item["study"],
                item["product"],
                word(item["state"], "FINDING_STATE").replace("_", " "),
                item["reason"] or item["hypothesis"] or "-",
                item["statement"],
            ]
            for item in found
        ]
        columns = ["insight", "study", "product", "state", "why, or hypothesis", "statement"]
        out.print(table("Findings", columns, rows))

    session.show({"findings": found}, people)


@FINDING.verb("take-up", "i-4", signed="I have judged the finding and take it up.")
@click.argument("insight")
@click.pass_obj
def take_up(session: Session, insight: str) -> None:
    """Take up the finding INSIGHT, which waits for a person."""
    request = api.TakeUpInsightRequest(request_id=new_id(), insight=insight)
    answer = session.call(session.rnd.TakeUpInsight, request)
    session.show(
        {"insight": insight, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"taken up: {insight}; 'pharmaloop hypothesis list' shows where it stands"),
    )


@FINDING.verb(
    "decline", 'i-4 --reason "too few patients"', signed="I have judged the finding and decline it."
)
@click.argument("insight")
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def decline(session: Session, insight: str, reason: str) -> None:
    """Decline the finding INSIGHT, which waits for a person."""
    request = api.DeclineInsightRequest(request_id=new_id(), insight=insight, reason=reason)
    answer = session.call(session.rnd.DeclineInsight, request)
    session.show(
        {"insight": insight, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"declined: {insight}"),
    )


@HYPOTHESIS.verb("list", "", "--state contradicted", watched=True)
@click.option("--state", type=click.Choice(list(_HYPOTHESES)), default="all", help="Only of this state.")
@click.option("--product", default="", help="Only of this product.")
@click.pass_obj
def hypotheses(session: Session, state: str, product: str) -> None:
    """List hypotheses and where they stand, the latest change first."""
    request = api.ListHypothesesRequest(state=_HYPOTHESES[state], product=product)
    pages = session.pages(session.rnd.ListHypotheses, request)
    found = [plain(item) for page in pages for item in page.hypotheses]

    def people(out: Console) -> None:
        rows = [
            [
                item["latest"]["hypothesis"],
                item["latest"]["product"],
                item["latest"]["claim"],
                word(item["latest"]["state"], "HYPOTHESIS_STATE").replace("_", " "),
                str(len(item["insights"])),
                item["at"] or "-",
            ]
            for item in found
        ]
        columns = ["hypothesis", "product", "claim", "state", "findings", "since"]
        out.print(table("Hypotheses", columns, rows))

    session.show({"hypotheses": found}, people)


@CANDIDATE.verb("list", "", "--indication bleeding", watched=True)
@click.option("--indication", default="", help="Only of this indication.")
@click.pass_obj
def candidates(session: Session, indication: str) -> None:
    """List candidates by rank, each with the evidence that its score is the sum of."""
    request = api.ListCandidatesRequest(indication=indication)
    pages = list(session.pages(session.rnd.ListCandidates, request))
    found = [plain(item) for page in pages for item in page.rankings]
    weights, caution = (pages[0].weights, pages[0].caution) if pages else ("", "")

    def people(out: Console) -> None:
        columns = ["rank", "molecule", "score", "source", "date", "evidence", "weight", "adds"]
        for item in found:
            ranked = item["ranked"]
            rows = [row for one in ranked["candidates"] for row in _candidate(one)]
            out.print(table(f"{ranked['indication']}, {item['at']}", columns, rows))
        out.print(f"{weights}. {caution}")

    session.show({"rankings": found, "weights": weights, "caution": caution}, people)


def _candidate(one: dict[str, Any]) -> list[list[str]]:
    """A candidate's row, and one for each further piece of evidence."""
    head = [str(one["rank"]), one["molecule"], f"{one['score']:.4f}"]
    pieces = [
        [
            piece["source"],
            piece["at"][:10],
            f"{piece['score']:.3f}",
            f"{piece['weight']:g}",
            f"{piece['adds']:+.4f}",
        ]
        for piece in one["evidence"]
    ] or [["-"] * 5]
    return [[*(head if number == 0 else [""] * 3), *piece] for number, piece in enumerate(pieces)]
