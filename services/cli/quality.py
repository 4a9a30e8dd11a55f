"""`deviations`, `confirm`, `reject`, `evaluate`, `capas`, `approve`: what a person of quality does."""

from __future__ import annotations

import click
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as api
from services.cli.plain import plain, word
from services.cli.session import LOT, Session, table
from services.kit.ids import new_id

_STATES = {
    "all": api.DEVIATION_STATE_UNSPECIFIED,
    "open": api.DEVIATION_STATE_OPEN,
    "confirmed": api.DEVIATION_STATE_CONFIRMED,
    "rejected": api.DEVIATION_STATE_REJECTED,
}
_CAPA_STATES = {
    "all": api.CAPA_STATE_UNSPECIFIED,
    "proposed": api.CAPA_STATE_PROPOSED,
    "approved": api.CAPA_STATE_APPROVED,
}


@click.command()
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.option("--lot", "lot", type=LOT, default=None, help="Only of this lot.")
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
                f"{item['detected']['magnitude']:.1f} SD (limit {item['detected']['limit']:.1f})",
                word(item["state"], "DEVIATION_STATE"),
                item["reason"],
            ]
            for item in found
        ]
        out.print(table("Deviations", ["lot", "deviation", "tag", "distance", "state", "reason"], rows))

    session.show({"deviations": found}, people)


@click.command()
@click.argument("lot", type=LOT)
@click.argument("deviation")
@click.option("--reason", required=True, help="Why it is real.")
@click.pass_obj
def confirm(session: Session, lot: str, deviation: str, reason: str) -> None:
    """Say that DEVIATION of LOT is real; this starts a run of the safety loop."""
    request = api.ConfirmDeviationRequest(request_id=new_id(), lot=lot, deviation=deviation, reason=reason)
    answer = session.call(session.production.ConfirmDeviation, request)
    session.show(
        {"lot": lot, "deviation": deviation, "state": "confirmed", "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"confirmed: the safety loop of {lot} starts; 'pharmaloop loops --watch' shows it"
        ),
    )


@click.command()
@click.argument("lot", type=LOT)
@click.argument("deviation")
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


@click.command()
@click.argument("run")
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


@click.command()
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
                f"{item['proposed']['limit_before']:.2f} -> {item['proposed']['limit_after']:.2f} SD",
                f"{item['proposed']['affected']}/{item['proposed']['answered']}",
                word(item["state"], "CAPA_STATE"),
                item["actor"],
            ]
            for item in found
        ]
        columns = ["capa", "lot", "tag", "limit", "affected", "state", "by"]
        out.print(table("Corrective actions", columns, rows))

    session.show({"capas": found}, people)


@click.command()
@click.argument("capa")
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def approve(session: Session, capa: str, meaning: str) -> None:
    """Approve CAPA; its limit takes effect at once."""
    request = api.ApproveCapaRequest(request_id=new_id(), capa=capa, meaning=meaning)
    answer = session.call(session.production.ApproveCapa, request)
    session.show(
        {"capa": capa, "state": "approved", "receipt": plain(answer.receipt)},
        lambda out: out.print(f"approved: the limit of {capa} is in force"),
    )
