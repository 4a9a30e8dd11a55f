"""`unattributed`, `differences`, `explain`: what keeps a run from its seal, and how a person explains it."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.plain import plain
from services.cli.session import Session, table
from services.kit.ids import new_id


@click.command()
@click.argument("run")
@click.option("--open", "only_open", is_flag=True, help="Only those that nobody has explained.")
@click.pass_obj
def unattributed(session: Session, run: str, only_open: bool) -> None:
    """List the dispenses of RUN that name no patient."""
    request = trace.ListUnattributedRequest(run=run, only_open=only_open)
    pages = session.pages(session.traceability.ListUnattributed, request)
    found = [plain(item) for page in pages for item in page.dispenses]
    columns = ["dispense", "lot", "site", "why", "told by", "explained"]

    def people(out: Console) -> None:
        rows = [
            [
                item["dispense"],
                item["lot"],
                item["site"] or "-",
                item["why"],
                ", ".join(item["sources"]),
                "yes" if item["explained"] else "no",
            ]
            for item in found
        ]
        out.print(table("Dispenses without a patient", columns, rows))

    session.show({"run": run, "dispenses": found}, people)


@click.command()
@click.argument("site")
@click.argument("run")
@click.pass_obj
def differences(session: Session, site: str, run: str) -> None:
    """List the exposures of RUN that the own records of SITE do not show."""
    request = clinical.ListExposuresRequest(site=site, run=run)
    pages = session.pages(session.clinical_at(site).ListExposures, request)
    found = [plain(item) for page in pages for item in page.exposures if _differs(item)]
    columns = ["dispense", "patient", "lot", "at", "explained"]

    def people(out: Console) -> None:
        rows = [
            [
                item["dispense"],
                item["pseudonym"],
                item["lot"],
                item["at"] or "-",
                "yes" if item["explained"] else "no",
            ]
            for item in found
        ]
        out.print(table(f"Only in the trace, of {site}", columns, rows))

    session.show({"site": site, "run": run, "exposures": found}, people)


def _differs(item: clinical.Exposure) -> bool:
    """A dispense that never was, or of which nothing was taken, is no difference."""
    return not item.at_site and item.disposition not in ("CORRECTED", "RETURNED_UNOPENED")


@click.command()
@click.argument("dispense")
@click.option("--run", default="", help="The run, for a dispense that names no patient.")
@click.option("--site", default="", help="The site, for one that the site's own records do not show.")
@click.option("--reason", required=True, help="What was found out.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.pass_obj
def explain(session: Session, dispense: str, run: str, site: str, reason: str, meaning: str) -> None:
    """Explain DISPENSE under your name, so that its run can be sealed.

    With --run: nobody can be named. With --site: the site's own records lack it.
    """
    if bool(run) == bool(site):
        raise click.UsageError(
            "give --run for a dispense without a patient, or --site for a difference there"
        )
    words: dict[str, Any] = {
        "request_id": new_id(),
        "dispense": dispense,
        "reason": reason,
        "meaning": meaning,
    }
    if run:
        of_run = trace.ExplainUnattributedRequest(run=run, **words)
        receipt = session.call(session.traceability.ExplainUnattributed, of_run).receipt
    else:
        at_site = clinical.ExplainDifferenceRequest(site=site, **words)
        receipt = session.call(session.clinical_at(site).ExplainDifference, at_site).receipt
    document = {"dispense": dispense, "run": run, "site": site, "receipt": plain(receipt)}
    session.show(document, lambda out: out.print(f"explained: {dispense}, signed by {session.actor}"))
