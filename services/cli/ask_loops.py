"""Asks the platform, for `verify`, how transfers and studies went, and for one lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli import judge_studies, judge_transfers
from services.cli.plain import word
from services.cli.session import Refused, Session
from services.cli.tables import table

#: What a whole lineage has at least.
_TYPES, _SERVICES = 9, 5
_HOPS = ("TargetRegistered", "TrialCompleted", "InsightPublished", "HypothesisUpdated")


def transfers(session: Session, planted: judge_transfers.Planted, product: str) -> judge_transfers.Seen:
    """The runs, refusals and gaps of the transfer loop, and what the live twin says of its lots."""
    runs = [
        judge_transfers.Run(
            run.opened_transfer.set,
            run.opened_transfer.version,
            run.opened_transfer.plant,
            _outcome(run),
            _stages(run),
        )
        for run in _runs(session, "transfer")
    ]
    request = production.ListTransfersRequest(state=production.TRANSFER_STATE_REFUSED)
    refused: dict[tuple[str, str], frozenset[str]] = {}
    for page in session.pages(session.production.ListTransfers, request):
        for one in page.transfers:
            refused[one.set, one.plant] = frozenset(reason.rule for reason in one.refused.reasons)
    asked = rnd.GetTransferGapsRequest(product=product, plant=planted.plant)
    gaps: dict[str, list[tuple[float, float]]] = {}
    for outcome in session.call(session.rnd.GetTransferGaps, asked).outcomes:
        for gap in outcome.gaps:
            gaps.setdefault(gap.attribute, []).append((gap.gap_before, gap.gap))
    drafted = {
        version.set
        for page in session.pages(session.rnd.ListParameterSets, rnd.ListParameterSetsRequest())
        for version in page.versions
    }
    twins = {
        one.lot: biomass for one in planted.first_lots if (biomass := _biomass(session, one.lot)) is not None
    }
    return judge_transfers.Seen(runs, refused, gaps, frozenset(drafted), twins)


def _biomass(session: Session, lot: str) -> float | None:
    """What the live twin says of the end of a lot, g/L; None where there is none."""
    try:
        answer = session.call(session.production.GetTwin, production.GetTwinRequest(lot=lot))
    except Refused:
        return None
    return next((float(state.value) for state in answer.states if state.name == "biomass"), None)


def studies(
    session: Session, planted: Sequence[judge_studies.Planted], product: str
) -> dict[str, judge_studies.Seen]:
    """The planted studies that are on record, by id."""
    runs = {run.opened_evidence.study: run for run in _runs(session, "evidence")}
    hypotheses = _hypotheses(session, product)
    ranked = _ranked(session)
    found = {}
    for one in planted:
        study = _study(session, one.study)
        if study is None:
            continue
        run = runs.get(one.study)
        insight = study.insight
        effect = insight.effects[0] if insight.effects else None
        found[one.study] = judge_studies.Seen(
            study=one.study,
            outcome=_outcome(run) if run else "",
            value=_given(effect.estimate, "value") if effect else None,
            lower=_given(effect.estimate, "lower") if effect else None,
            upper=_given(effect.estimate, "upper") if effect else None,
            p_value=_given(effect, "p_value") if effect else None,
            members=insight.members,
            sites=len(insight.sites),
            flags=tuple(insight.flags),
            hypothesis=hypotheses.get(insight.insight, ""),
            ranked=insight.insight in ranked,
            shares=tuple(one.share for one in study.contributions if one.valued),
            stages=_stages(run) if run else (),
        )
    return found


def lineage(session: Session, product: str) -> tuple[dict[str, Any], list[str]]:
    """One call, and what it lacks."""
    answer = session.call(
        session.traceability.GetLineage, trace.GetLineageRequest(id=product, kind="product", most=5000)
    )
    types = {hop.type.rsplit(".", 1)[-1] for hop in answer.hops}
    services = {hop.service for hop in answer.hops}
    failures = []
    if len(types) < _TYPES or len(services) < _SERVICES:
        failures.append(f"the lineage of {product} has {len(types)} event types of {len(services)} services")
    failures += [f"the lineage of {product} lacks {hop}" for hop in _HOPS if hop not in types]
    failures += [f"the lineage of {product} is broken: {link}" for link in _broken(answer.hops)]
    document = {"events": len(answer.hops), "types": sorted(types), "services": sorted(services)}
    return document, failures


def _broken(hops: Sequence[trace.LineageHop]) -> list[str]:
    """Events that come from a thing to which no event leads. A target is where a lineage begins."""
    led = {(thing.kind, thing.id) for hop in hops for thing in hop.leads_to}
    return [
        f"{hop.type.rsplit('.', 1)[-1]} comes from {thing.kind} {thing.id}, and no event leads to it"
        for hop in hops
        for thing in hop.comes_from
        if thing.kind != "target" and (thing.kind, thing.id) not in led
    ]


def _runs(session: Session, loop: str) -> Iterator[loops.Run]:
    for page in session.pages(session.loops.ListRuns, loops.ListRunsRequest(loop=loop)):
        yield from page.runs


def _outcome(run: loops.Run) -> str:
    """How the run ended; empty while it goes on."""
    if not run.HasField("closed"):
        return ""
    return word(events.RunOutcome.Name(run.closed.outcome), "RUN_OUTCOME")


def _stages(run: loops.Run) -> tuple[tuple[str, float], ...]:
    return tuple((stage.name, stage.seconds) for stage in run.stages)


def _study(session: Session, study: str) -> exchange.Study | None:
    try:
        return session.call(session.exchange.GetStudy, exchange.GetStudyRequest(study=study)).study
    except Refused as refusal:
        if refusal.reason == "UNKNOWN_STUDY":
            return None
        raise


def _hypotheses(session: Session, product: str) -> dict[str, str]:
    """By finding, where the hypothesis stands that rests on it."""
    found = {}
    request = rnd.ListHypothesesRequest(product=product)
    for page in session.pages(session.rnd.ListHypotheses, request):
        for one in page.hypotheses:
            for insight in one.insights:
                found[insight] = str(one.latest.hypothesis)
    return found


def _ranked(session: Session) -> set[str]:
    """Findings after which candidates were ranked."""
    return {
        ranking.ranked.insight
        for page in session.pages(session.rnd.ListCandidates, rnd.ListCandidatesRequest())
        for ranking in page.rankings
    }


def _given(message: Any, field: str) -> float | None:
    return float(getattr(message, field)) if message.HasField(field) else None


def show(out: Console, document: Mapping[str, Any]) -> None:
    """Both loops, for people."""
    moved = document["transfer"]
    out.print(
        f"\ntransfer loop: {moved['closed']} of {moved['versions']} versions closed, refused by the twin: "
        f"{', '.join(moved['refused_by_twin']) or '-'}; {moved['drafts_refused']} wrong drafts refused"
    )
    rows = [[gap["attribute"], *(f"{abs(value):.3f}" for value in gap["gaps"])] for gap in moved["gaps"]]
    if rows:
        columns = ["gap of", *(f"lot {n + 1}" for n in range(max(len(row) for row in rows) - 1))]
        out.print(table("Expected against found, one transfer after the other", columns, rows))
    twin = moved["twin"]
    if twin["mean_error"] is not None:
        each = ", ".join(f"{100 * lot['mean_error']:.1f} %" for lot in twin["lots"])
        out.print(f"biomass by the live twin, off the truth: {100 * twin['mean_error']:.1f} % (lots: {each})")
    rows = [
        [
            one["name"],
            one["outcome"] or "open",
            "-" if (value := one["estimate"]["value"]) is None else f"{value:.3f}",
            "-" if (p := one["estimate"]["p"]) is None else f"{p:.2g}",
            str(one["members"]),
            ", ".join(f"{share:.2f}" for share in one["shares"]) or "-",
        ]
        for one in document["evidence"]["studies"]
    ]
    out.print()
    out.print(table("Studies", ["study", "ended", "effect", "p", "patients", "shares"], rows))
    line = document["lineage"]
    out.print(
        f"lineage of the medicine: {line['events']} events of {len(line['types'])} types, "
        f"by {len(line['services'])} services"
    )
