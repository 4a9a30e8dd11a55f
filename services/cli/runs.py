"""`run`: the runs of the three loops, stage by stage, and how a person ends one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click
import grpc
from rich.console import Console

from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.loops.v1 import service_pb2 as api
from services.cli.beginnings import RUN_ID
from services.cli.blockers import Blocked, blocked
from services.cli.follow import follow, tell
from services.cli.nouns import RUN
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import table
from services.cli.traced import traced
from services.kit.ids import new_id
from services.kit.rpc.client import metadata

#: A table does not wait longer for the platform's time.
_TIME_SECONDS = 2.0
_STATES = {"all": api.RUN_STATE_UNSPECIFIED} | {
    word(name, "RUN_STATE"): number for name, number in api.RunState.items() if number
}


@RUN.verb("list", "", "--loop safety --state open", "--plant plant-1 --stuck-first --watch", watched=True)
@click.option("--loop", type=click.Choice(["safety", "transfer", "evidence"]), help="Only runs of this loop.")
@click.option("--case", default="", help="Only runs of this case: a lot, a transfer or a study, as listed.")
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.option("--product", default="", help="Only of this product: owner/scheme/item.")
@click.option("--plant", default="", help="Only of this plant.")
@click.option("--site", default="", help="Only with this site.")
@click.option(
    "--stuck-first", is_flag=True, help="Those that stalled first, then those that are late soonest."
)
@click.pass_obj
def runs(
    session: Session,
    loop: str | None,
    case: str,
    state: str,
    product: str,
    plant: str,
    site: str,
    stuck_first: bool,
) -> None:
    """List the runs of the loops, newest first, with the stage that each is in.

    `in stage` is how long it has been in it, by the platform clock; `time` is that of the stages behind it.
    """
    request = api.ListRunsRequest(loop=loop or "", case=case, product=product, plant=plant, site=site)
    request.state = _STATES[state]  # type: ignore[assignment]
    if stuck_first:
        request.order = api.RUN_ORDER_STUCK_FIRST
    pages = session.pages(session.loops.ListRuns, request)
    found = _plain(session, [item for page in pages for item in page.runs])
    session.show({"runs": found}, lambda out: out.print(_table(found)))


@RUN.verb("count", "", "--plant plant-1", watched=True)
@click.option("--product", default="", help="Only of this product: owner/scheme/item.")
@click.option("--plant", default="", help="Only of this plant.")
@click.option("--site", default="", help="Only with this site.")
@click.pass_obj
def count(session: Session, product: str, plant: str, site: str) -> None:
    """Count the runs by loop and state."""
    request = api.CountRunsRequest(product=product, plant=plant, site=site)
    found = [plain(one) for one in session.call(session.loops.CountRuns, request).counts]

    def people(out: Console) -> None:
        rows = [[one["loop"], word(one["state"], "RUN_STATE"), str(one["count"])] for one in found]
        out.print(table("Runs", ["loop", "state", "runs"], rows))

    session.show({"counts": found}, people)


@RUN.verb("show", "r-7", "r-7 --watch", "r-7 --json", watched=True)
@click.argument("run", type=RUN_ID)
@click.pass_obj
def show(session: Session, run: str) -> None:
    """Show RUN with its stages, what it waits for and what comes next, its sites, and what led to what."""
    answer = session.call(session.loops.GetRun, api.GetRunRequest(run=run)).run
    (found,), waits, known = _plain(session, [answer]), blocked(session, answer), traced(session, answer)
    document = {"run": found, "blocked": waits.document() if waits else None, **known.document()}

    def people(out: Console) -> None:
        _print_run(out, found, waits)
        known.show(out)

    session.show(document, people)


@RUN.verb("follow", "", "r-7")
@click.argument("run", type=RUN_ID, required=False)
@click.pass_obj
def follow_runs(session: Session, run: str | None) -> None:
    """Stay and tell every change of every run, or of RUN, as it happens; with --json one document a line."""
    for answer in follow(session, session.loops.WatchRuns, api.WatchRunsRequest()):
        if not answer.HasField("run") or (run and answer.run.run != run):
            continue  # one without a run says only that the subscription stands
        found = plain(answer.run)
        last = found["stages"][-1]["name"] if found["stages"] else "opened"
        state = word(found["state"], "RUN_STATE")
        told = f"{found['loop']} {found['case']}  {state:<8} {last} done, {found['seconds']:.1f} s"
        tell(session, found, told)


@RUN.verb(
    "cancel",
    'r-7 --reason "opened by mistake"',
    'r-7 --reason "r-9 covers it" --superseded-by r-9',
    signed="I end this run before its time and stand for the reason.",
)
@click.argument("run", type=RUN_ID)
@click.option("--reason", required=True, help="Why it is ended.")
@click.option("--superseded-by", type=RUN_ID, default="", help="The run that covers it.")
@click.pass_obj
def cancel(session: Session, run: str, reason: str, superseded_by: str) -> None:
    """End RUN before its seal or its end: it was opened by mistake, or another run covers it."""
    request = api.CancelRunRequest(request_id=new_id(), run=run, reason=reason, superseded_by=superseded_by)
    answer = session.call(session.loops.CancelRun, request)
    session.show(
        {"run": run, "superseded_by": superseded_by, "receipt": plain(answer.receipt)},
        lambda out: out.print(
            f"asked: run {run} ends, unless it has ended, or its journal is sealed, by now"
        ),
    )


def _plain(session: Session, runs: Iterable[api.Run]) -> list[dict[str, Any]]:
    """The runs, each with how many seconds of the platform clock it has been in its stage, None where nobody
    tells."""
    found = [plain(run) | {"in_stage_seconds": None} for run in runs]
    going = [run for run in found if run["stage_since"]]
    if going and (now := _platform_time(session)):
        for run in going:
            since = datetime.fromisoformat(run["stage_since"])
            run["in_stage_seconds"] = max(0.0, (now - since).total_seconds())
    return found


def _platform_time(session: Session) -> datetime | None:
    """The platform clock as the loops read it; None when they do not tell: runs are known all the same."""
    asked, who = common.GetStatusRequest(), metadata(session.actor)
    try:
        answer = session.status_of("loops").GetStatus(asked, timeout=_TIME_SECONDS, metadata=who)
    except grpc.RpcError:
        return None
    return answer.platform_time.ToDatetime(UTC) if answer.HasField("platform_time") else None


def _table(runs: list[dict[str, Any]]) -> Any:
    rows = [
        [
            run["run"],
            run["loop"],
            run["case"],
            word(run["state"], "RUN_STATE"),
            run["stage"] or run["waiting_for"] or "-",
            "-" if run["in_stage_seconds"] is None else f"{run['in_stage_seconds']:.1f} s",
            _ended(run),
            f"{run['seconds']:.1f} s",
        ]
        for run in runs
    ]
    return table("Loops", ["run", "loop", "case", "state", "stage", "in stage", "ended", "time"], rows)


def _ended(run: dict[str, Any]) -> str:
    """How the run ended; of a safety run with its patients."""
    closed = run["closed"]
    if not closed:
        return "-"
    outcome = word(closed["outcome"], "RUN_OUTCOME")
    return f"{outcome}, {closed['patients']} patients" if run["loop"] == "safety" else outcome


def _rests_on(run: dict[str, Any]) -> str:
    """What an ended run rests on, in a line or two."""
    closed = run["closed"]
    if run["loop"] == "transfer":
        lots = ", ".join(closed["lots"]) or "-"
        return f"version {closed['version']} of {closed['set']} at {closed['plant']}   first lot {lots}"
    if run["loop"] == "evidence":
        return f"study {closed['study']}   insight {closed['insight'] or '-'}"
    return (
        f"{closed['members']} dispenses of {len(closed['lots'])} lots, {closed['patients']} patients, "
        f"{closed['plans']} plans, {closed['answered']} answered\n"
        f"capa {closed['capa'] or '-'}   insight {closed['insight'] or '-'}"
    )


def _print_run(out: Console, run: dict[str, Any], waits: Blocked | None) -> None:
    out.print(_table([run]))
    if told := (waits.waits_for() if waits else "") or run["waiting_for"]:
        out.print(f"waits for {told}")
    elif waits and run["stage"]:
        out.print(f"waits in the stage {run['stage']}")
    for line in waits.lines() if waits else ():
        out.print(line)
    stages = [[stage["name"], f"{stage['seconds']:.3f} s", stage["ended"] or "-"] for stage in run["stages"]]
    out.print()
    out.print(table("Stages", ["stage", "time", "ended"], stages))
    if closed := run["closed"]:
        if closed["reason"]:
            ended, by = (
                word(closed["outcome"], "RUN_OUTCOME"),
                f" by {closed['actor']}" if closed["actor"] else "",
            )
            out.print(f"\n{ended}{by}: {closed['reason']} {closed['superseded_by']}")
        if closed["meaning"]:
            out.print(f"signed: {closed['meaning']}")
        out.print(f"\n{_rests_on(run)}")
