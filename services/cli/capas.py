"""`capa`: what a person does about a corrective action, from signature to check."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.cli.beginnings import CAPA_ID
from services.cli.limits import change
from services.cli.nouns import CAPA
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id

_CAPA_STATES = {
    "all": api.CAPA_STATE_UNSPECIFIED,
    "proposed": api.CAPA_STATE_PROPOSED,
    "approved": api.CAPA_STATE_APPROVED,
    "effective": api.CAPA_STATE_EFFECTIVE,
    "closed": api.CAPA_STATE_CLOSED,
    "refused": api.CAPA_STATE_REFUSED,
}
CATEGORIES = {
    "not-reported": events.FILING_CATEGORY_NOT_REPORTED,
    "notification": events.FILING_CATEGORY_NOTIFICATION,
    "prior-approval": events.FILING_CATEGORY_PRIOR_APPROVAL,
}
_OUTCOMES = {
    "effective": events.EFFECTIVENESS_OUTCOME_EFFECTIVE,
    "not-effective": events.EFFECTIVENESS_OUTCOME_NOT_EFFECTIVE,
}


def _limit(proposed: dict[str, Any]) -> str:
    kept = word(proposed["kept"], "LIMIT_KEPT")
    return change(proposed["limit_before"], proposed["limit_after"], kept)


def _evidence(proposed: dict[str, Any]) -> str:
    """Complaints among those who answered, and their risk beside that of sibling lots."""
    if not proposed["answered"]:
        return "withheld"
    ratio = ((proposed.get("evidence") or {}).get("risk_ratio") or {}).get("value")
    told = f"{proposed['affected']}/{proposed['answered']}"
    return f"{told}, {ratio:.1f} times" if ratio is not None else told


@CAPA.verb("list", "", "--state approved", watched=True)
@click.option("--state", type=click.Choice(list(_CAPA_STATES)), default="all", help="Only of this state.")
@click.pass_obj
def capas(session: Session, state: str) -> None:
    """List corrective actions, newest first."""
    pages = session.pages(session.production.ListCapas, api.ListCapasRequest(state=_CAPA_STATES[state]))
    found = [plain(item) for page in pages for item in page.capas]

    def people(out: Console) -> None:
        rows = [
            [
                item["proposed"]["capa"],
                item["proposed"]["lot"],
                item["proposed"]["tag"],
                _limit(item["proposed"]),
                _evidence(item["proposed"]),
                word(item["state"], "CAPA_STATE"),
                _lacking(item),
                item["actor"] or (item["refused"] or {}).get("actor", ""),
            ]
            for item in found
        ]
        columns = ["capa", "lot", "tag", "limit", "complaints", "state", "lacks", "by"]
        out.print(table("Corrective actions", columns, rows))

    session.show({"capas": found}, people)


def _lacking(item: dict[str, Any]) -> str:
    """What change control still waits for."""
    if word(item["state"], "CAPA_STATE") != "approved":
        return "-"
    names = {"validated": "validation", "filing": "filing assessment"}
    return ", ".join(name for field, name in names.items() if item[field] is None)


@CAPA.verb("approve", 'c-5 --meaning "I agree with the limit"')
@click.argument("capa", type=CAPA_ID)
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def approve(session: Session, capa: str, meaning: str) -> None:
    """Approve CAPA; its limit takes effect when its change is validated and assessed for filing."""
    request = api.ApproveCapaRequest(request_id=new_id(), capa=capa, meaning=meaning)
    answer = session.call(session.production.ApproveCapa, request)
    session.show(
        {"capa": capa, "state": "approved", "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"approved: {capa} takes effect after 'pharmaloop capa validate' and 'pharmaloop capa file'"
        ),
    )


@CAPA.verb("refuse", 'c-5 --reason "one hospital alone" --meaning "I do not agree with the limit"')
@click.argument("capa", type=CAPA_ID)
@click.option("--reason", required=True, help="Why it is refused.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def refuse(session: Session, capa: str, reason: str, meaning: str) -> None:
    """Refuse CAPA while nobody has approved it: its limit stays, and its run ends."""
    request = api.RefuseCapaRequest(request_id=new_id(), capa=capa, reason=reason, meaning=meaning)
    answer = session.call(session.production.RefuseCapa, request)
    session.show(
        {"capa": capa, "state": "refused", "receipt": plain(answer.receipt)},
        lambda out: out.print(f"refused: {capa} changes no limit; its deviation is left to be closed"),
    )


@CAPA.verb(
    "validate",
    'c-5 --record V-112 --statement "three lots in range"',
    signed="The validation is on record as I say here.",
)
@click.argument("capa", type=CAPA_ID)
@click.option("--record", required=True, help="Where the validation is on record.")
@click.option("--statement", required=True, help="What was shown.")
@click.pass_obj
def validate_change(session: Session, capa: str, record: str, statement: str) -> None:
    """Record that the change of CAPA is validated."""
    request = api.RecordValidationRequest(request_id=new_id(), capa=capa, record=record, statement=statement)
    answer = session.call(session.production.RecordValidation, request)
    session.show(
        {"capa": capa, "record": record, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"validated: {capa} is in force as soon as its filing is assessed"),
    )


@CAPA.verb(
    "file",
    'c-5 --category not-reported --statement "inside the filed ranges"',
    'c-5 --category prior-approval --reference NMPA-7 --statement "the limit is filed"',
    signed="I have assessed what this change needs and stand for it.",
)
@click.argument("capa", type=CAPA_ID)
@click.option("--category", type=click.Choice(list(CATEGORIES)), required=True, help="What the change needs.")
@click.option("--reference", default="", help="The authority's approval, or the notification.")
@click.option("--statement", required=True, help="Why.")
@click.pass_obj
def assess_filing(session: Session, capa: str, category: str, reference: str, statement: str) -> None:
    """Record whether the change of CAPA must be filed."""
    request = api.RecordFilingAssessmentRequest(
        request_id=new_id(),
        capa=capa,
        category=CATEGORIES[category],
        reference=reference,
        statement=statement,
    )
    answer = session.call(session.production.RecordFilingAssessment, request)
    session.show(
        {"capa": capa, "category": category, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"assessed: {capa} is in force as soon as its change is validated"),
    )


@CAPA.verb(
    "check",
    'c-5 --outcome effective --statement "no deviation in twenty lots"',
    signed="I have checked the effect of this change.",
)
@click.argument("capa", type=CAPA_ID)
@click.option("--outcome", type=click.Choice(list(_OUTCOMES)), required=True, help="What was found.")
@click.option("--statement", required=True, help="What it rests on.")
@click.pass_obj
def check_effectiveness(session: Session, capa: str, outcome: str, statement: str) -> None:
    """Record whether CAPA was effective, which closes it."""
    request = api.RecordEffectivenessCheckRequest(
        request_id=new_id(), capa=capa, outcome=_OUTCOMES[outcome], statement=statement
    )
    answer = session.call(session.production.RecordEffectivenessCheck, request)
    session.show(
        {"capa": capa, "outcome": outcome, "receipt": plain(answer.receipt)},
        lambda out: out.print(f"closed: {capa} was {outcome.replace('-', ' ')}"),
    )
