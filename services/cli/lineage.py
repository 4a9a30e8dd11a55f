"""`lineage`: everything that a thing comes from and leads to, event by event."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click
from rich.console import Console

from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.nouns import LINEAGE
from services.cli.plain import plain
from services.cli.session import Session
from services.cli.tables import table


@LINEAGE.verb("show", "product-1", "m-17 --kind molecule --most 200", watched=True)
@click.argument("thing")
@click.option("--kind", default="", help="Its kind, where an id is of several.")
@click.option("--most", type=click.IntRange(1, 5000), default=1000, show_default=True, help="Events at most.")
@click.pass_obj
def lineage(session: Session, thing: str, kind: str, most: int) -> None:
    """Show the lineage of THING: a molecule, lot, transfer, run, study, insight, whatever has an id."""
    request = trace.GetLineageRequest(id=thing, kind=kind, most=most)
    found = plain(session.call(session.traceability.GetLineage, request))

    def people(out: Console) -> None:
        rows = [
            [
                _short(one["type"]),
                one["service"],
                one.get("plant_at") or one["at"],
                _named(one["comes_from"]),
                _named(one["leads_to"]),
            ]
            for one in found["hops"]
        ]
        columns = ["event", "service", "at", "of", "leads to"]
        out.print(table(f"Lineage of {_named(found['of'])}", columns, rows))
        types = Counter(hop["type"] for hop in found["hops"])
        services = {hop["service"] for hop in found["hops"]}
        out.print(f"{len(found['hops'])} events of {len(types)} types, by {len(services)} services")
        if found["truncated"]:
            out.print(f"there are more than {most}: ask for more with --most, or begin further down")

    session.show(found, people)


def _short(type: str) -> str:
    return type.rsplit(".", 1)[-1]


def _named(things: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['kind']} {one['id']}" for one in things) or "-"
