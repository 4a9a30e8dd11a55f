"""`lot`: what is known of a lot, where it went, and what a person of quality says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import click
import grpc
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.follow import follow, tell
from services.cli.holds import NO_HOLDS, holds_of, sentences
from services.cli.nouns import LOT
from services.cli.plain import iso, plain, word
from services.cli.progress import bar
from services.cli.session import LOT_KEY, SECONDS, Failure, Session, plain_errors
from services.cli.tables import table
from services.kit.ids import new_id
from services.kit.rpc.client import metadata

_TRACE_SECONDS = 60.0
#: What a kit was made from, as a person reads it.
WITHHELD = "not shown: a kit of a blinded study"


@LOT.verb("show", "maker-1/item/granulate/G-0041", watched=True)
@click.argument("lot", type=LOT_KEY)
@click.pass_obj
def lot(session: Session, lot: str) -> None:
    """Show the quality state of LOT, its holds, past ones too, and its place in the material."""
    record = _record(session, lot)
    node = session.call(session.traceability.GetLotNode, trace.GetLotNodeRequest(lot=lot))
    quality = plain(record) if record else None
    held = holds_of(session, lot)
    document = {"lot": lot, "quality": quality, "material": plain(node), **(held or NO_HOLDS)}

    def people(out: Console) -> None:
        out.print(lot, style="bold")
        if quality:
            out.print(f"state      {word(quality['state'], 'LOT_STATE')}  {quality['reason']}")
            if quality["actor"]:
                out.print(f"signed     {quality['actor']}  {quality['meaning'] or '-'}")
            out.print(f"equipment  {quality['equipment']}  {quality['started']} to {quality['completed']}")
            for deviation in quality["deviations"]:
                seen = deviation["detected"]
                judged = f"{word(deviation['state'], 'DEVIATION_STATE')}  {deviation['reason']}"
                out.print(f"deviation  {seen['deviation']}  {seen['tag']}  {judged}")
        else:
            out.print("state      not in the plant's records")
        for line in sentences(held):
            out.print(f"held       {line}")
        inputs = WITHHELD if node.inputs_withheld else ", ".join(node.inputs)
        out.print(f"made from  {inputs or '-'}")
        out.print(f"went into  {', '.join(node.outputs) or '-'}")
        out.print(f"dispenses  {node.dispenses}   runs  {', '.join(node.runs) or '-'}  {node.suspect}")

    session.show(document, people)


def _record(session: Session, lot: str) -> production.Lot | None:
    """The lot in the plant's records; None where only the trace knows it."""
    with plain_errors():
        try:
            request = production.GetLotRequest(lot=lot)
            return session.production.GetLot(request, timeout=SECONDS, metadata=metadata(session.actor)).lot
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return None


_STATES = {
    word(name, "LOT_STATE").replace("_", "-"): number
    for name, number in production.LotState.items()
    if number
}


@LOT.verb("follow", "", "--state held", "--product maker-1/gtin/06901234500547 --from-start")
@click.option("--lot", "lots", type=LOT_KEY, multiple=True, help="Only this lot; may be repeated.")
@click.option("--product", "products", multiple=True, help="Only lots of this product: owner/scheme/item.")
@click.option(
    "--state", "states", type=click.Choice(list(_STATES)), multiple=True, help="Only to this state."
)
@click.option("--from-start", is_flag=True, help="First all that the log holds.")
@click.pass_obj
def follow_lots(
    session: Session,
    lots: tuple[str, ...],
    products: tuple[str, ...],
    states: tuple[str, ...],
    from_start: bool,
) -> None:
    """Stay and tell every change of a lot's state as it happens; with --json one document a line."""
    request = production.WatchLotsRequest(lots=lots, products=products, from_start=from_start)
    request.states.extend(_STATES[state] for state in states)  # type: ignore[misc]
    newest: dict[str, int] = {}
    for answer in follow(session, session.production.WatchLots, request):
        for change in answer.changes:
            if 0 < change.version <= newest.get(change.lot, 0):
                continue  # told again, or an older one behind a newer one
            newest[change.lot] = change.version
            found = plain(change)
            told = f"{found['lot']}  {word(found['state'], 'LOT_STATE')}  {found['reason']}"
            tell(session, found, told)


@LOT.verb(
    "hold",
    'maker-1/item/granulate/G-0041 --reason "the seal of its drum was broken"',
    signed="I hold this lot until quality decides.",
)
@click.argument("lot", type=LOT_KEY)
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def hold(session: Session, lot: str, reason: str) -> None:
    """Hold LOT: nothing of it is used or sold until it is released."""
    request = production.HoldLotRequest(request_id=new_id(), lot=lot, reason=reason)
    _told(session, lot, "held", session.call(session.production.HoldLot, request))


@LOT.verb(
    "release",
    "maker-1/item/granulate/G-0041",
    signed="I have judged the record of this lot and release it for use.",
)
@click.argument("lot", type=LOT_KEY)
@click.pass_obj
def release(session: Session, lot: str) -> None:
    """Release LOT under your name, where no deviation and no result stands against it."""
    request = production.ReleaseLotRequest(request_id=new_id(), lot=lot)
    _told(session, lot, "released", session.call(session.production.ReleaseLot, request))


@LOT.verb(
    "reject",
    'maker-1/item/granulate/G-0041 --reason "the result stands"',
    signed="I have judged the record of this lot and reject it for good.",
)
@click.argument("lot", type=LOT_KEY)
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def reject(session: Session, lot: str, reason: str) -> None:
    """Reject LOT for good."""
    request = production.RejectLotRequest(request_id=new_id(), lot=lot, reason=reason)
    _told(session, lot, "rejected", session.call(session.production.RejectLot, request))


def _told(session: Session, lot: str, state: str, answer: Any) -> None:
    document = {"lot": lot, "state": state, "receipt": plain(answer.receipt)}
    session.show(document, lambda out: out.print(f"{state}: {lot}, by {session.actor}"))


@dataclass
class Traced:
    """What came of a trace; complete only with its end."""

    lots: list[trace.TracedLot] = field(default_factory=list)
    dispenses: list[trace.TracedDispense] = field(default_factory=list)
    end: trace.TraceEnd | None = None

    def add(self, part: trace.TraceLotResponse) -> None:
        self.lots += part.lots
        self.dispenses += part.dispenses
        if part.HasField("end"):
            self.end = part.end

    def check(self) -> None:
        """A partial list shown as a whole one would lose patients: Failure instead."""
        if self.end is None:
            said = f"the trace broke off after {len(self.lots)} lots and {len(self.dispenses)} dispenses"
            raise Incomplete(f"{said}: it is not complete and is not shown; try again")
        if (self.end.lots, self.end.dispenses) != (len(self.lots), len(self.dispenses)):
            raise Incomplete(
                f"the trace names {self.end.lots} lots and {self.end.dispenses} dispenses, but "
                f"{len(self.lots)} and {len(self.dispenses)} arrived: it is not shown; try again"
            )


class Incomplete(Failure):
    """A trace without its end; exit status 1."""

    exit_code = 1


@LOT.verb("trace", "maker-1/item/granulate/G-0041", "maker-1/item/granulate/G-0041 --json")
@click.argument("lot", type=LOT_KEY)
@click.pass_obj
def trace_lot(session: Session, lot: str) -> None:
    """Trace LOT down to every lot made from it and every patient who received it."""
    traced = Traced()
    request = trace.TraceLotRequest(lot=lot)
    with bar(session, "traced") as moved:
        for part in session.stream(session.traceability.TraceLot, request, _TRACE_SECONDS):
            traced.add(part)
            moved(len(part.lots) + len(part.dispenses))
    traced.check()
    patients = {(item.site, item.pseudonym) for item in traced.dispenses if item.pseudonym}
    document: dict[str, Any] = {
        "lot": lot,
        "complete": True,
        "patients": len(patients),
        "lots": [plain(item) for item in traced.lots],
        "dispenses": [plain(item) for item in traced.dispenses],
    }
    session.show(document, lambda out: _print_trace(out, lot, traced, len(patients)))


def _remark(item: trace.TracedDispense) -> str:
    """What a person must know of a dispense: it may be of another lot, came back, looks wrong."""
    possible = f"possible, or of {', '.join(item.possible_lots)}" if item.possible_lots else ""
    return "; ".join(filter(None, (possible, item.disposition.lower().replace("_", " "), item.suspect)))


def _print_trace(out: Console, lot: str, traced: Traced, patients: int) -> None:
    lots = [
        [str(item.depth), item.lot, item.suspect or ("" if item.known else "only referred to")]
        for item in traced.lots
    ]
    given = [
        [item.site or "-", item.pseudonym or "-", item.lot, iso(item.at) or "-", _remark(item)]
        for item in traced.dispenses
    ]
    out.print(table("Lots", ["depth", "lot", "remark"], lots))
    out.print()
    out.print(table("Dispenses", ["site", "patient", "lot", "at", "remark"], given))
    out.print(f"\n{lot}: {len(lots)} lots, {len(given)} dispenses, {patients} patients (complete)")
