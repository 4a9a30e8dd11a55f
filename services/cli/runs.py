"""`run`: the runs of the three loops, stage by stage, and how a person ends one."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console

from pharmaloop.loops.v1 import service_pb2 as api
from services.cli.nouns import RUN
from services.cli.plain import plain, word
from services.cli.session import Session
from services.cli.tables import console, table
from services.kit.ids import new_id

_WATCH_SECONDS = 24 * 3600.0
_STATES = {"all": api.RUN_STATE_UNSPECIFIED} | {
    word(name, "RUN_STATE"): number for name, number in api.RunState.items() if number
}


@RUN.verb("list", "", "--loop safety --state open", "--watch", watched=True)
@click.option("--loop", type=click.Choice(["safety", "transfer", "evidence"]), help="Only runs of this loop.")
@click.option("--case", default="", help="Only runs of this case: a lot, a transfer or a study, as listed.")
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.pass_obj
def runs(session: Session, loop: str | None, case: str, state: str) -> None:
    """List the runs of the loops, newest first."""
    request = api.ListRunsRequest(loop=loop or "", case=case)
    request.state = _STATES[state]  # type: ignore[assignment]
    pages = session.pages(session.loops.ListRuns, request)
    found = [plain(item) for page in pages for item in page.runs]
    session.show({"runs": found}, lambda out: out.print(_table(found)))


@RUN.verb("show", "r-7", "r-7 --watch", watched=True)
@click.argument("run")
@click.pass_obj
def show(session: Session, run: str) -> None:
    """Show RUN with its stages, and what it waits for."""
    found = plain(session.call(session.loops.GetRun, api.GetRunRequest(run=run)).run)
    session.show({"run": found}, lambda out: _print_run(out, found))


@RUN.verb("follow", "", "r-7")
@click.argument("run", required=False)
@click.pass_obj
def follow(session: Session, run: str | None) -> None:
    """Stay and tell every change of every run, or of RUN, as it happens; with --json one document a line."""
    out = console()
    for answer in session.stream(session.loops.WatchRuns, api.WatchRunsRequest(), _WATCH_SECONDS):
        if not answer.HasField("run"):
            continue  # it says only that the subscription stands
        if run and answer.run.run != run:
            continue
        found = plain(answer.run)
        if session.as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        else:
            last = found["stages"][-1]["name"] if found["stages"] else "opened"
            state = word(found["state"], "RUN_STATE")
            out.print(f"{found['loop']} {found['case']}  {state:<8} {last} done, {found['seconds']:.1f} s")


@RUN.verb("cancel", 'r-7 --reason "opened by mistake"', 'r-7 --reason "r-9 covers it" --superseded-by r-9')
@click.argument("run")
@click.option("--reason", required=True, help="Why it is ended.")
@click.option("--superseded-by", default="", help="The run that covers it.")
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


def _table(runs: list[dict[str, Any]]) -> Any:
    rows = [
        [
            run["run"],
            run["loop"],
            run["case"],
            word(run["state"], "RUN_STATE"),
            run["stage"] or run["waiting_for"] or "-",
            _ended(run),
            f"{run['seconds']:.1f} s",
        ]
        for run in runs
    ]
    return table("Loops", ["run", "loop", "case", "state", "stage", "ended", "time"], rows)


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


def _print_run(out: Console, run: dict[str, Any]) -> None:
    out.print(_table([run]))
    if run["waiting_for"]:
        out.print(f"waits for {run['waiting_for']}")
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
        out.print(f"\n{_rests_on(run)}")
