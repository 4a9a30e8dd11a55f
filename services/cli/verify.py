"""`verify`: was every patient of every confirmed lot found, and nobody else?

Compares the platform's answers with the truth that the simulated world wrote
down before it sent anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import grpc
from rich.console import Console

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from services.cli.judge import Alarm, Answers, Member, RunSeen, Truth, Verdict, judge
from services.cli.plain import word
from services.cli.session import SECONDS, Failure, Session, plain_errors, table
from services.kit.rpc.client import metadata


@click.command()
@click.pass_context
def verify(context: click.Context) -> None:
    """Compare the platform's answers with the truth of the simulated world.

    Exit status 1 when a patient of a confirmed lot was missed or named
    wrongly, when nothing was confirmed, or when a confirmed lot has no closed
    run. The detector's numbers stand beside and never fail the check.
    """
    session: Session = context.obj
    raw = _read_truth(session)
    truth = Truth.of(raw)
    verdict = judge(truth, _ask(session, truth, raw["site"]))
    session.show(verdict.document(), lambda out: _print(out, verdict))
    if not verdict.ok:
        context.exit(1)


def _read_truth(session: Session) -> dict[str, Any]:
    path = session.state / "world" / "truth.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise Failure(f"{path} does not exist: the simulated world has not been started here") from None
    except ValueError:
        raise Failure(f"{path} is not readable JSON; start again with 'make clean'") from None
    return raw


def _ask(session: Session, truth: Truth, site: str) -> Answers:
    alarms = list(_alarms(session))
    runs = list(_runs(session))
    exposures: dict[str, set[Member]] = {}
    for run in runs:
        exposures.setdefault(run.lot, set()).update(_exposures(session, site, run.run))
    completed = {lot for lot in sorted(truth.live) if _is_completed(session, lot)}
    return Answers(alarms, runs, exposures, completed)


def _alarms(session: Session) -> Iterator[Alarm]:
    for page in session.pages(session.production.ListDeviations, production.ListDeviationsRequest()):
        for item in page.deviations:
            state = word(production.DeviationState.Name(item.state), "DEVIATION_STATE")
            yield Alarm(item.detected.lot, item.detected.tag, state)


def _runs(session: Session) -> Iterator[RunSeen]:
    for page in session.pages(session.loops.ListRuns, loops.ListRunsRequest()):
        for run in page.runs:
            yield RunSeen(
                run=run.run,
                lot=run.opened.lot,
                closed=run.state == loops.RUN_STATE_CLOSED,
                seconds=run.seconds,
                stages=tuple((stage.name, stage.seconds) for stage in run.stages),
            )


def _exposures(session: Session, site: str, run: str) -> set[Member]:
    """Everybody that the site holds as exposed in a run; Failure when the answer is short."""
    found: set[Member] = set()
    total = 0
    request = clinical.ListExposuresRequest(site=site, run=run)
    for page in session.pages(session.clinical.ListExposures, request):
        total = page.total
        found |= {Member(site, item.pseudonym, item.dispense) for item in page.exposures}
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
            *(str(lot[name]) for name in ("closed", "patients", "expected", "found")),
            *(str(len(lot[name])) for name in ("missed", "wrong")),
        ]
        for lot in safety["lots"]
    ]
    columns = ["confirmed lot", "closed", "patients", "exposures", "found", "missed", "wrong"]
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
    out.print(
        f"\ndetector: {detector['hits']} of {detector['faults']} planted faults found, "
        f"{detector['false_alarms']} false alarms in {detector['runs_judged']} live runs"
    )
    for failure in verdict.failures:
        out.print(f"[red]FAILED[/red] {failure}")
    if verdict.ok:
        out.print("[green]OK[/green] every patient of every confirmed lot was found, and nobody else")


def _shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.4g}" if ratio < 1 else "1.0"
