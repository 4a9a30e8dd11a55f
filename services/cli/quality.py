"""`deviation`, what a person of quality says of them, and of the hazard of a run."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.cli.beginnings import DEVIATION_ID, RUN_ID
from services.cli.nouns import DEVIATION, RUN
from services.cli.plain import plain, word
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table
from services.kit.ids import new_id

_STATES = {
    "all": api.DEVIATION_STATE_UNSPECIFIED,
    "open": api.DEVIATION_STATE_OPEN,
    "under-investigation": api.DEVIATION_STATE_UNDER_INVESTIGATION,
    "confirmed": api.DEVIATION_STATE_CONFIRMED,
    "rejected": api.DEVIATION_STATE_REJECTED,
    "capa-required": api.DEVIATION_STATE_CAPA_REQUIRED,
    "closed": api.DEVIATION_STATE_CLOSED,
}
_SEVERITIES = {
    "minor": events.SEVERITY_MINOR,
    "major": events.SEVERITY_MAJOR,
    "critical": events.SEVERITY_CRITICAL,
}


@DEVIATION.verb("list", "", "--state open", "--lot maker-1/item/granulate/G-0041 --watch", watched=True)
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.option("--lot", "lot", type=LOT_KEY, default=None, help="Only of this lot.")
@click.pass_obj
def deviations(session: Session, state: str, lot: str | None) -> None:
    """List deviations, newest first."""
    request = api.ListDeviationsRequest(state=_STATES[state], lot=lot or "")
    pages = session.pages(session.production.ListDeviations, request)
    found = [plain(item) for page in pages for item in page.deviations]

    def people(out: Console) -> None:
        rows = [
            [
                item["detected"]["lot"],
                item["detected"]["deviation"],
                item["detected"]["tag"],
                _distance(item),
                _class(item),
                word(item["state"], "DEVIATION_STATE").replace("_", " "),
                item["reason"],
            ]
            for item in found
        ]
        out.print(
            table("Deviations", ["lot", "deviation", "tag", "distance", "class", "state", "reason"], rows)
        )

    session.show({"deviations": found}, people)


def _distance(item: dict[str, Any]) -> str:
    """The largest by now: that at the detection, which a judgement may cite, is in the document."""
    detected = item["detected"]
    largest = max(detected["magnitude"], (item["updated"] or detected)["magnitude"])
    return f"{largest:.3g} SD (limit {detected['limit']:.3g})"


def _class(item: dict[str, Any]) -> str:
    """The severity that a person gave, or the one that is proposed."""
    given, proposed = (
        word(item["severity"], "SEVERITY"),
        word(item["detected"]["proposed_severity"], "SEVERITY"),
    )
    if given != "unspecified":
        return given
    return "-" if proposed == "unspecified" else f"{proposed}?"


@DEVIATION.verb(
    "confirm",
    'maker-1/item/granulate/G-0041 d-3 --reason "the dryer was too hot"',
    signed="I have judged the evidence: the deviation is real.",
)
@click.argument("lot", type=LOT_KEY)
@click.argument("deviation", type=DEVIATION_ID)
@click.option("--reason", required=True, help="Why it is real.")
@click.pass_obj
def confirm(session: Session, lot: str, deviation: str, reason: str) -> None:
    """Say that DEVIATION of LOT is real; this starts a run of the safety loop."""
    request = api.ConfirmDeviationRequest(request_id=new_id(), lot=lot, deviation=deviation, reason=reason)
    answer = session.call(session.production.ConfirmDeviation, request)
    session.show(
        {"lot": lot, "deviation": deviation, "state": "confirmed", "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"confirmed: the safety loop of {lot} starts; 'pharmaloop run follow' shows it"
        ),
    )


@DEVIATION.verb(
    "reject",
    'maker-1/item/granulate/G-0041 d-3 --reason "the probe was being cleaned"',
    signed="I have judged the evidence: this is a false alarm.",
)
@click.argument("lot", type=LOT_KEY)
@click.argument("deviation", type=DEVIATION_ID)
@click.option("--reason", required=True, help="Why it is a false alarm.")
@click.pass_obj
def reject(session: Session, lot: str, deviation: str, reason: str) -> None:
    """Say that DEVIATION of LOT is a false alarm."""
    request = api.RejectDeviationRequest(request_id=new_id(), lot=lot, deviation=deviation, reason=reason)
    answer = session.call(session.production.RejectDeviation, request)
    session.show(
        {"lot": lot, "deviation": deviation, "state": "rejected", "receipt": plain(answer.receipt)},
        lambda out: out.print(f"rejected: {deviation} of {lot} is on record as a false alarm"),
    )


@RUN.verb(
    "evaluate",
    'r-7 --class II --text "Your pack may be too strong." --instruction "Take no more of it." '
    '--meaning "I have judged the hazard"',
)
@click.argument("run", type=RUN_ID)
@click.option(
    "--class", "hazard_class", type=click.Choice(["I", "II", "III"]), required=True, help="How dangerous."
)
@click.option("--text", required=True, help="What the patient is told.")
@click.option("--instruction", required=True, help="What the patient should do.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def evaluate(
    session: Session, run: str, hazard_class: str, text: str, instruction: str, meaning: str
) -> None:
    """Evaluate the health hazard of RUN under your name: patients are told, and asked, from then on."""
    request = api.EvaluateHazardRequest(
        request_id=new_id(),
        run=run,
        hazard_class=f"HAZARD_CLASS_{hazard_class}",
        text=text,
        instruction=instruction,
        meaning=meaning,
    )
    answer = session.call(session.production.EvaluateHazard, request)
    session.show(
        {"run": run, "hazard_class": hazard_class, "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"class {hazard_class}, signed by {session.actor}: hospitals tell their patients now"
        ),
    )


@DEVIATION.verb(
    "investigate",
    'maker-1/item/granulate/G-0041 d-3 --reason "the retained sample is measured"',
    signed="I take up the investigation of this deviation.",
)
@click.argument("lot", type=LOT_KEY)
@click.argument("deviation", type=DEVIATION_ID)
@click.option("--reason", required=True, help="What you look into.")
@click.pass_obj
def investigate(session: Session, lot: str, deviation: str, reason: str) -> None:
    """Say that you look into DEVIATION of LOT."""
    request = api.StartInvestigationRequest(request_id=new_id(), lot=lot, deviation=deviation, reason=reason)
    answer = session.call(session.production.StartInvestigation, request)
    session.show(
        {
            "lot": lot,
            "deviation": deviation,
            "state": "under_investigation",
            "receipt": plain(answer.receipt),
        },
        lambda out: out.print(f"under investigation: confirm or reject {deviation} when you know"),
    )


@DEVIATION.verb(
    "classify",
    'maker-1/item/granulate/G-0041 d-3 --severity major --impact "potency may be low"',
    signed="I have assessed the impact of this deviation and stand for its class.",
)
@click.argument("lot", type=LOT_KEY)
@click.argument("deviation", type=DEVIATION_ID)
@click.option("--severity", type=click.Choice(list(_SEVERITIES)), required=True, help="How grave it is.")
@click.option("--impact", required=True, help="What it may have done to the product and to patients.")
@click.pass_obj
def classify(session: Session, lot: str, deviation: str, severity: str, impact: str) -> None:
    """Classify DEVIATION of LOT after its impact was assessed."""
    request = api.ClassifyDeviationRequest(
        request_id=new_id(), lot=lot, deviation=deviation, severity=_SEVERITIES[severity], impact=impact
    )
    answer = session.call(session.production.ClassifyDeviation, request)
    session.show(
        {"lot": lot, "deviation": deviation, "severity": severity, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"classified: {deviation} of {lot} is {severity}"),
    )


@DEVIATION.verb(
    "close",
    'maker-1/item/granulate/G-0041 d-3 --reason "assessed, and its action is in force"',
    signed="Everything that this deviation called for is done.",
)
@click.argument("lot", type=LOT_KEY)
@click.argument("deviation", type=DEVIATION_ID)
@click.option("--reason", required=True, help="Why it may be closed.")
@click.pass_obj
def close_deviation(session: Session, lot: str, deviation: str, reason: str) -> None:
    """Close DEVIATION of LOT, which is confirmed and classified."""
    request = api.CloseDeviationRequest(request_id=new_id(), lot=lot, deviation=deviation, reason=reason)
    answer = session.call(session.production.CloseDeviation, request)
    session.show(
        {"lot": lot, "deviation": deviation, "state": "closed", "receipt": plain(answer.receipt)},
        lambda out: out.print(f"closed: {deviation} of {lot}"),
    )


@RUN.verb("hazard", "r-7", watched=True)
@click.argument("run", type=RUN_ID)
@click.pass_obj
def hazard(session: Session, run: str) -> None:
    """Show the health hazard of RUN as it was evaluated, and by whom."""
    found = plain(session.call(session.production.GetHazard, api.GetHazardRequest(run=run)))
    one = found["hazard"]
    rows = [[name.replace("_", " "), str(value)] for name, value in (one or {}).items()]
    session.show(found, lambda out: out.print(table("Health hazard", ["what", "value"], rows)))
