"""`lot`: its genealogy step by step, for lots whose whole tree nobody wants to read."""

from __future__ import annotations

import click
from rich.console import Console

from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.nouns import LOT
from services.cli.plain import plain, word
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table

_STEPS = {"outputs": trace.MATERIAL_STEP_OUTPUTS, "inputs": trace.MATERIAL_STEP_INPUTS}


@LOT.verb(
    "next",
    "maker-1/item/granulate/G-0041",
    "maker-1/item/granulate/G-0041 --way inputs --kind maker-1/item/api",
)
@click.argument("lot", type=LOT_KEY)
@click.option(
    "--way",
    type=click.Choice(list(_STEPS)),
    default="outputs",
    help="What was made from it, or what went in.",
)
@click.option(
    "--kind", default="", help="List the lots of this kind; without, the kinds and how many lots each."
)
@click.pass_obj
def neighbours(session: Session, lot: str, way: str, kind: str) -> None:
    """List what stands one step of material from LOT."""
    request = trace.ListNeighboursRequest(lot=lot, step=_STEPS[way], kind=kind)
    if not kind:
        told = session.call(session.traceability.ListNeighbours, request)
        kinds = [plain(one) for one in told.kinds]
        rows = [[one["kind"], str(one["lots"])] for one in kinds]
        session.show(
            {"lot": lot, "kinds": kinds}, lambda out: out.print(table("Kinds", ["kind", "lots"], rows))
        )
        return
    pages = session.pages(session.traceability.ListNeighbours, request)
    lots = [plain(one) for page in pages for one in page.lots]

    def people(out: Console) -> None:
        rows = [
            [
                one["lot"],
                "withheld" if one["inputs_withheld"] else str(one["inputs"]),
                str(one["outputs"]),
                one["suspect"] or ("-" if one["known"] else "only referred to"),
            ]
            for one in lots
        ]
        out.print(table("Lots", ["lot", "made from", "went into", "remark"], rows))

    session.show({"lot": lot, "lots": lots}, people)


@LOT.verb("within", "maker-1/item/granulate/G-0041 P-0007")
@click.argument("lot", type=LOT_KEY)
@click.argument("text")
@click.pass_obj
def within(session: Session, lot: str, text: str) -> None:
    """Find lots in the genealogy of LOT by a part of their key, and the way to each."""
    found = session.call(
        session.traceability.FindInGenealogy, trace.FindInGenealogyRequest(lot=lot, text=text)
    )
    lots = [plain(one) for one in found.lots]

    def people(out: Console) -> None:
        rows = [[one["lot"], word(one["step"], "MATERIAL_STEP"), " > ".join(one["way"])] for one in lots]
        out.print(table("Lots", ["lot", "among", "way"], rows))
        if not found.complete:
            out.print("The genealogy is larger than what was looked through; search below a nearer lot.")

    session.show({"lot": lot, "complete": found.complete, "lots": lots}, people)
