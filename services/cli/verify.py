"""`verify`: was every patient of every confirmed lot found, and nobody else?

Compares the platform's answers with the truth that the simulated world wrote
down before it sent anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import click
import grpc
from rich.console import Console

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from services.cli import ask_loops, judge_studies, judge_transfers
from services.cli.effects import ask_effects, print_effects
from services.cli.group import alone
from services.cli.judge import (
    Alarm,
    Answers,
    Member,
    Named,
    RunSeen,
    Truth,
    Verdict,
    confirmed_lots,
    judge,
)
from services.cli.plain import word
from services.cli.session import SECONDS, Failure, Session, plain_errors
from services.cli.tables import table
from services.cli.truth import (
    Development,
    developments,
    planted_effects,
    read_worlds,
    sites_of,
    truth_of,
    ways_of,
)
from services.kit.rpc.client import metadata


@alone("verify", "", "--json")
@click.pass_context
def verify(context: click.Context) -> None:
    """Compare the platform's answers with the truth of the simulated world.

    Exit status 1 when a patient of a confirmed lot was missed or named
    wrongly, when nothing was confirmed, or when a confirmed lot has no closed
    run; when a transfer or a study ended otherwise than it had to, a planted
    effect was not found, or the lineage lacks a hop. The detector's numbers stand
    beside and never fail the check, and so does what the hospitals' evidence says
    of the effects of faulty lots.
    """
    session: Session = context.obj
    worlds = read_worlds(session.state)
    alarms = list(_alarms(session))
    truth = truth_of(worlds, confirmed_lots(alarms))
    sites = sites_of(worlds)
    answers = _ask(session, truth, alarms, sites)
    verdict = judge(truth, answers)
    verdict.effects = ask_effects(session, planted_effects(worlds), ways_of(worlds), answers.runs, sites)
    for development in developments(worlds):
        verdict.others, failures = _other_loops(session, development)
        verdict.failures += failures
    session.show(verdict.document(), lambda out: _print(out, verdict))
    if not verdict.ok:
        context.exit(1)


def _other_loops(session: Session, planted: Development) -> tuple[dict[str, Any], list[str]]:
    """The transfer and the evidence loop, and the lineage of their medicine."""
    asked = ask_loops.transfers(session, planted.transfers, planted.product)
    transfer, failures = judge_transfers.judge(planted.transfers, asked)
    found = ask_loops.studies(session, planted.studies, planted.product)
    evidence, more = judge_studies.judge(planted.studies, found)
    lineage, lacks = ask_loops.lineage(session, planted.product)
    document = {"transfer": transfer, "evidence": evidence, "lineage": lineage}
    return document, [*failures, *more, *lacks]


def _ask(session: Session, truth: Truth, alarms: Sequence[Alarm], sites: Sequence[str]) -> Answers:
    runs = list(_runs(session))
    exposures: dict[str, dict[Member, Named]] = {}
    for run in runs:
        of_lot = exposures.setdefault(run.lot, {})
        for site in sites:
            for member, named in _exposures(session, site, run.run).items():
                # Of several runs, one that knows what became of it counts.
                if member not in of_lot or named.disposition:
                    of_lot[member] = named
    completed = {lot for lot in sorted(truth.live) if _is_completed(session, lot)}
    return Answers(alarms, runs, exposures, completed)


#: What was confirmed stays so, also when it is answered and closed.
_REAL = (
    production.DEVIATION_STATE_CONFIRMED,
    production.DEVIATION_STATE_CAPA_REQUIRED,
    production.DEVIATION_STATE_CLOSED,
)


def _alarms(session: Session) -> Iterator[Alarm]:
    for page in session.pages(session.production.ListDeviations, production.ListDeviationsRequest()):
        for item in page.deviations:
            state = word(production.DeviationState.Name(item.state), "DEVIATION_STATE")
            detected = item.detected.detected.ToDatetime(UTC)
            yield Alarm(
                item.detected.lot, item.detected.tag, "confirmed" if item.state in _REAL else state, detected
            )


def _runs(session: Session) -> Iterator[RunSeen]:
    for page in session.pages(session.loops.ListRuns, loops.ListRunsRequest()):
        for run in filter(_is_safety, page.runs):
            yield RunSeen(
                run=run.run,
                lot=run.opened.lot,
                closed=run.state == loops.RUN_STATE_CLOSED,
                seconds=run.seconds,
                stages=tuple((stage.name, stage.seconds) for stage in run.stages),
            )


def _is_safety(run: loops.Run) -> bool:
    return run.HasField("opened")


def _exposures(session: Session, site: str, run: str) -> dict[Member, Named]:
    """Everybody that the site holds as exposed in a run; Failure when the answer is short."""
    found: dict[Member, Named] = {}
    total = 0
    request = clinical.ListExposuresRequest(site=site, run=run)
    for page in session.pages(session.clinical_at(site).ListExposures, request):
        total = page.total
        for item in page.exposures:
            member = Member(site, item.pseudonym, item.dispense)
            found[member] = Named(item.possible, item.disposition)
    if len(found) != total:
        raise Failure(f"{site} names {total} exposures of run {run} and sent {len(found)}; try again")
    return found


def _is_completed(session: Session, lot: str) -> bool:
    with plain_errors():
        try:
            request = production.GetLotRequest(lot=lot)
            answer = session.production.GetLot(request, timeout=SECONDS, metadata=metadata(session.actor))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False
    return bool(answer.lot.HasField("completed"))


def _print(out: Console, verdict: Verdict) -> None:
    safety, detector = verdict.safety, verdict.detector
    rows = [
        [
            lot["lot"],
            *(str(lot[name]) for name in ("closed", "sites", "patients", "expected", "found")),
            *(str(len(lot[name])) for name in ("missed", "wrong")),
            str(lot["possible"]["expected"]),
            str(lot["came_back"]["expected"]),
            str(lot["corrected"]["expected"]),
        ]
        for lot in safety["lots"]
    ]
    columns = ["confirmed lot", "closed", "sites", "patients", "exposures", "found", "missed", "wrong"]
    columns += ["possibly", "came back", "corrected"]
    out.print(table("Safety loop, per confirmed lot", columns, rows))
    out.print(
        f"\nruns {safety['runs']}, closed {safety['closed']}, recall {_shown(safety['recall'])}, "
        f"precision {_shown(safety['precision'])}"
    )
    stages = [
        [name, f"{took['p50']:.3f}", f"{took['p99']:.3f}"] for name, took in safety["stage_seconds"].items()
    ]
    if took := safety["run_seconds"]:
        stages.append(["whole run", f"{took['p50']:.3f}", f"{took['p99']:.3f}"])
    out.print()
    out.print(table("Seconds by stage", ["stage", "p50", "p99"], stages))
    _print_detector(out, detector)
    print_effects(out, verdict.effects)
    if verdict.others:
        ask_loops.show(out, verdict.others)
    for failure in verdict.failures:
        _mark(out, "FAILED", "red", failure)
    if verdict.ok:
        _mark(out, "OK", "green", "every patient of every confirmed lot was found, and nobody else")
        if verdict.others:
            _mark(
                out, "OK", "green", "transfers and studies ended as they had to, what was planted was found"
            )


def _mark(out: Console, word: str, style: str, said: str) -> None:
    """A word in colour on a terminal, and what it is about."""
    out.print(word, style=style, end=" ")
    out.print(said)


def _print_detector(out: Console, detector: dict[str, Any]) -> None:
    rows = [
        [hit["lot"], hit["kind"], hit["tag"], str(hit["samples"]), _length(hit["seconds"])]
        for hit in detector["delays"]
    ]
    out.print()
    out.print(table("Planted faults that were found", ["lot", "fault", "by", "samples", "after onset"], rows))
    out.print(
        f"\ndetector: {detector['hits']} of {detector['faults']} planted faults found, "
        f"{detector['false_alarms']} false alarms in {detector['runs_judged']} live runs"
    )


def _length(seconds: float) -> str:
    """A length of process time for people."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.4g}" if ratio < 1 else "1.0"
