"""What keeps a run from its seal, how a person explains it, and what the trace announced of it."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.beginnings import RUN_ID
from services.cli.nouns import EXPOSURE, RUN, SUSPECT
from services.cli.plain import plain
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id


@RUN.verb("unattributed", "r-7", "r-7 --open", watched=True)
@click.argument("run", type=RUN_ID)
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


@RUN.verb("differences", "hospital-a r-7", watched=True)
@click.argument("site")
@click.argument("run", type=RUN_ID)
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


@RUN.verb(
    "explain",
    'd-31 --run r-7 --reason "sold over the counter" --meaning "I have asked the pharmacy"',
    'd-31 --site hospital-a --reason "kept on paper" --meaning "I have seen the sheet"',
)
@click.argument("dispense")
@click.option("--run", type=RUN_ID, default="", help="The run, for a dispense that names no patient.")
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


@EXPOSURE.verb("show", "r-7", watched=True)
@click.argument("run", type=RUN_ID)
@click.pass_obj
def announced(session: Session, run: str) -> None:
    """Show what the trace announced of RUN: its lots, its members by site, and what is not firm yet."""
    found = plain(session.call(session.traceability.GetExposure, trace.GetExposureRequest(run=run)))

    def people(out: Console) -> None:
        told = found["announced"] or {}
        rows = [
            ["phase", found["phase"] or "-"],
            ["lots", ", ".join(told.get("lots") or ()) or "-"],
            ["sites", ", ".join(told.get("sites") or ()) or "-"],
            ["without a patient", f"{told.get('unattributed', 0)}, explained {told.get('explained', 0)}"],
            ["not firm", ", ".join(found["not_firm"]) or "-"],
        ]
        out.print(table(f"Exposure of run {run}", ["what", "value"], rows))

    session.show(found, people)


@EXPOSURE.verb("dispense", "d-31")
@click.argument("dispense")
@click.pass_obj
def dispensed(session: Session, dispense: str) -> None:
    """Show one DISPENSE: of which lot, where and when, and what became of it; nobody is named."""
    request = trace.GetDispenseRequest(dispense=dispense)
    found = plain(session.call(session.traceability.GetDispense, request))
    rows = [
        ["lot", found["lot"]],
        ["or of", ", ".join(found["other_lots"]) or "-"],
        ["at", found["at"] or "-"],
        ["sites", ", ".join(found["sites"]) or "-"],
        ["told by", ", ".join(found["sources"])],
        ["what became of it", found["disposition"].lower().replace("_", " ") or "-"],
        ["looks wrong", found["suspect"] or "-"],
    ]
    session.show(found, lambda out: out.print(table(f"Dispense {dispense}", ["what", "value"], rows)))


@SUSPECT.verb("list", watched=True)
@click.pass_obj
def suspects(session: Session) -> None:
    """List records that look wrong: a lot inside itself, a dispense before its lot was made, and so on."""
    pages = session.pages(session.traceability.ListSuspects, trace.ListSuspectsRequest())
    found = [plain(item) for page in pages for item in page.suspects]
    columns = ["reason", "lot", "dispense", "description"]
    rows = [[one[name] or "-" for name in columns] for one in found]
    session.show({"suspects": found}, lambda out: out.print(table("Suspects", columns, rows)))
