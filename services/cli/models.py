"""`model show`, `twin show`: what a good run of a product looks like, and what a lot's twin says now."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.production.v1 import service_pb2 as api
from services.cli.nouns import MODEL, TWIN
from services.cli.plain import plain
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table


@MODEL.verb("show", "product-1", watched=True)
@click.argument("product")
@click.pass_obj
def model(session: Session, product: str) -> None:
    """Show the model of PRODUCT that is in force: its runs, its false alarms, the limits changed since."""
    found = plain(session.call(session.production.GetModel, api.GetModelRequest(product=product)))

    def people(out: Console) -> None:
        one = found["model"]
        rows = [
            ["version", one["version"]],
            ["learned from", ", ".join(one["calibration_lots"]) or "-"],
            ["false alarms", f"{one['false_alarms']} in {one['judged_runs']} good runs"],
            ["their rate", f"{one['rate_low']:.3g} to {one['rate_high']:.3g}"],
            ["rules", ", ".join((one["charts"] or {}).get("rules") or ()) or "-"],
        ]
        out.print(table(f"Model of {product}", ["what", "value"], rows))
        limits = [[tag, f"{limit:g} SD"] for tag, limit in found["changed_limits"].items()]
        if limits:
            out.print(table("Limits that corrective actions changed", ["tag", "limit"], limits))

    session.show(found, people)


@TWIN.verb("show", "maker-1/item/broth/B-0007", "maker-1/item/broth/B-0007 --watch", watched=True)
@click.argument("lot", type=LOT_KEY)
@click.pass_obj
def twin(session: Session, lot: str) -> None:
    """Show what the live twin of LOT says now: each state with its spread, measured or inferred."""
    found = plain(session.call(session.production.GetTwin, api.GetTwinRequest(lot=lot)))

    def people(out: Console) -> None:
        out.print(
            f"{found['lot']}, at {found['at'] or '-'}, from {found['readings']} readings by {found['model']}"
        )
        out.print(table("Twin", ["state", "unit", "value", "spread", "known by"], _states(found)))

    session.show(found, people)


def _states(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            one["name"],
            one["unit"],
            f"{one['value']:.5g}",
            f"{one['deviation']:.2g}",
            "measured" if one["measured"] else "inferred",
        ]
        for one in found["states"]
    ]
