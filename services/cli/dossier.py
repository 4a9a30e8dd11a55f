"""`dossier`: everything that is known of a lot, on one page, without any person."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from pharmaloop.traceability.v1 import service_pb2 as api
from services.cli.limits import change, lacking
from services.cli.lots import WITHHELD
from services.cli.nouns import LOT
from services.cli.plain import iso, plain
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table


@LOT.verb("dossier", "maker-1/item/granulate/G-0041", "maker-1/item/granulate/G-0041 --json")
@click.argument("lot", type=LOT_KEY)
@click.pass_obj
def dossier(session: Session, lot: str) -> None:
    """Show all that is known of LOT: process, material, where it went, whom it concerns, who decided.

    As a PDF, in the reader's language, the portal gives it: "Dossier as PDF" on the page of the lot.
    """
    answer = session.call(session.traceability.GetLotDossier, api.GetLotDossierRequest(lot=lot))
    found: page.LotDossier = answer.dossier
    session.show(plain(found), lambda out: _print(out, found))


def _print(out: Console, found: page.LotDossier) -> None:
    out.print(f"{found.lot}\n", style="bold")
    _process(out, found.process)
    _deviations(out, found.deviations)
    _results(out, found.results)
    _material(out, found.material, found.inputs_withheld)
    _distribution(out, found.distribution)
    _exposed(out, found.exposed)
    _evidence(out, found.evidence)
    _decisions(out, found.decisions)


def _table(
    out: Console, title: str, columns: str, rows: Sequence[Sequence[object]], left_out: int = 0
) -> None:
    """A table; what stands in its cells is text, whatever is in it. Says when something is left out."""
    if rows:
        out.print(table(title, columns.split(), [[str(cell) for cell in row] for row in rows]))
    else:
        out.print(f"{title}: none")
    if left_out:
        out.print(f"({left_out} more are left out)")
    out.print()


def _process(out: Console, section: page.ProcessSection) -> None:
    out.print(f"Process: {section.state or 'no plant told of it'}  {section.product}  {section.equipment}")
    rows = [[iso(step.at) or "-", step.what, step.who, step.why] for step in section.steps]
    _table(out, "Steps", "at what by why", rows, section.left_out)


def _deviations(out: Console, section: page.DeviationSection) -> None:
    rows = [
        [
            iso(one.detected) or "-",
            one.tag,
            f"{one.magnitude:.3g} SD (limit {one.limit:.3g})",
            _lasted(one),
            one.severity or (f"proposed: {one.proposed_severity}" if one.proposed_severity else "-"),
            one.state,
            one.who,
            one.why,
        ]
        for one in section.deviations
    ]
    columns = "detected tag distance lasted severity state by why"
    _table(out, "Deviations", columns, rows, section.left_out)


def _lasted(one: page.LotDeviation) -> str:
    if not (one.HasField("first_out") and one.HasField("last_out")):
        return "-"
    seconds = (one.last_out.ToDatetime() - one.first_out.ToDatetime()).total_seconds()
    return f"{seconds:.0f} s{', and goes on' if one.lasting else ''}"


def _results(out: Console, section: page.ResultSection) -> None:
    rows = [
        [
            iso(one.tested) or "-",
            one.test,
            _measured(one),
            one.finding.replace("_", " "),
            one.state.replace("_", " "),
            iso(one.closed) or "-",
            one.who,
            one.why or one.rule,
        ]
        for one in section.findings
    ]
    columns = "tested test result finding state closed by why"
    _table(out, "Laboratory", columns, rows, section.left_out)
    out.print(f"other results on record: {section.others}\n")


def _measured(one: page.LotFinding) -> str:
    """The result and its specification."""
    if not one.HasField("value"):
        return "-"
    low = f"{one.low:g}" if one.HasField("low") else "-"
    high = f"{one.high:g}" if one.HasField("high") else "-"
    retested = ", retest passed" if one.retest else ""
    return f"{one.value:g} {one.unit} ({low} to {high}){retested}"


def _material(out: Console, section: page.MaterialSection, withheld: bool) -> None:
    suspect = f"  SUSPECT: {', '.join(section.suspect)}" if section.suspect else ""
    out.print(
        f"Material: {'made' if section.known else 'only referred to'} {iso(section.made) or ''}{suspect}"
    )
    out.print(f"amount made {_amounts(section.amount_made)}, used {_amounts(section.amount_used)}")
    inputs = [[WITHHELD]] if withheld else [[lot] for lot in section.inputs]
    _table(out, "Made from", "lot", inputs, section.inputs_left_out)
    _table(out, "Went into", "lot", [[lot] for lot in section.outputs], section.outputs_left_out)


def _amounts(amounts: Sequence[common.Quantity]) -> str:
    return ", ".join(f"{one.value:g} {one.unit}" for one in amounts) or "not recorded"


def _distribution(out: Console, section: page.DistributionSection) -> None:
    rows = [[one.place, f"{one.received:g}", f"{one.sent:g}", one.unit] for one in section.places]
    _table(out, "Distribution", "place received sent unit", rows, section.left_out)
    out.print(f"dispensed to patients: {'yes' if section.dispensed else 'no'}")


def _exposed(out: Console, section: page.ExposedSection) -> None:
    _table(
        out,
        "Exposed, by run of the safety loop",
        "run root steps opened state lots dispenses patients notified unattributed explained",
        [
            [
                run.run,
                run.root,
                run.depth,
                iso(run.opened) or "-",
                _state(run),
                len(run.lots) + run.lots_left_out,
                *_concerned(run.people),
                run.unattributed,
                run.explained,
            ]
            for run in section.runs
        ],
        section.left_out,
    )
    for run in section.runs:
        rows = [[one.site, *(_concerned(one.people) if one.told else ("-", "-", "-"))] for one in run.sites]
        _table(out, f"Run {run.run}", "site dispenses patients notified", rows, run.sites_left_out)


def _state(run: page.ExposedRun) -> str:
    if run.outcome:
        return run.outcome
    return f"waits for {run.waiting_for}" if run.waiting_for else "open"


def _count(count: page.PublishedCount) -> str:
    return "withheld" if count.withheld else str(count.value)


def _concerned(people: page.ExposedCounts) -> list[str]:
    return [_count(people.dispenses), _count(people.patients), _count(people.notified)]


def _evidence(out: Console, section: page.EvidenceSection) -> None:
    rows = [
        [
            run.run,
            _count(run.people.plans),
            _count(run.people.answered),
            _count(run.people.affected) if run.people.HasField("affected") else "-",
            "yes" if run.complete else "no",
            run.insight.statement,
        ]
        for run in section.runs
    ]
    _table(out, "Evidence", "run plans answered affected ended insight", rows, section.left_out)
    for run in section.runs:
        _released(out, run)
        if run.HasField("capa"):
            _capa(out, run.capa)


def _released(out: Console, run: page.RunEvidence) -> None:
    """What sites released of complaints, and the estimates that rest on it."""
    sites = [(one.site, one.released) for one in run.sites if one.HasField("released")]
    rows = [
        [site, _arm(one.exposed), _arm(one.comparators), "yes" if one.final else "no"] for site, one in sites
    ]
    if rows:
        title = f"Released of run {run.run}: complaints of patients who answered"
        _table(out, title, "site exposed comparators final", rows, run.sites_left_out)
    if run.HasField("pooled"):
        at = run.pooled
        out.print(f"Estimates of run {run.run}, from {at.sites_pooled} of {at.sites} sites:")
        out.print(f"  risk ratio {_estimate(at.risk_ratio)}")
        out.print(f"  rate difference {_estimate(at.rate_difference)} a day\n")


def _arm(arm: page.ReleasedArm) -> str:
    cases = "withheld" if arm.withheld else str(arm.cases)
    return f"{cases} of {arm.patients}" if arm.patients else cases


def _estimate(at: common.Estimate) -> str:
    """The estimate with its interval, and why something of it is left out."""
    if not at.HasField("value"):
        return f"- ({lacking(at.reason)})"
    between = f"{at.lower:.3g} to {at.upper:.3g}" if at.HasField("lower") else lacking(at.reason)
    return f"{at.value:.3g} ({between})"


def _capa(out: Console, capa: page.RunCapa) -> None:
    """What became of it by now."""
    limit = f"{capa.tag} {change(capa.limit_before, capa.limit_after, capa.limit_kept)}"
    steps = (
        ("proposed", capa.proposed, ""),
        ("approved", capa.approved, ""),
        ("refused", capa.refused, ""),
        ("validated", capa.validated, capa.validation_record),
        ("assessed for filing", capa.filing_assessed, f"{capa.filing_category} {capa.filing_reference}"),
        ("effective", capa.effective, f"limits version {capa.limits_version}"),
        ("checked", capa.checked, capa.effectiveness),
    )
    rows = [[iso(at), step, detail] for step, at, detail in steps if iso(at)]
    _table(out, f"Corrective action {capa.capa}, {limit}, {capa.state}", "at step detail", rows)


def _decisions(out: Console, section: page.DecisionSection) -> None:
    rows = [
        [iso(one.at) or "-", one.what, one.subject, one.who, one.why, one.meaning, one.run]
        for one in section.decisions
    ]
    _table(out, "Decisions", "at what about by why meaning run", rows, section.left_out)
