"""`dataset`, `study` and what analysts and owners do: questions that several sites answer together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pharmaloop.exchange.v1 import service_pb2 as api
from services.cli.nouns import DATASET, STUDY
from services.cli.plain import plain, word
from services.cli.requests import FILE, read_request
from services.cli.session import Session
from services.cli.tables import table
from services.kit.ids import new_id

_STATES = {"all": api.STUDY_STATE_UNSPECIFIED} | {
    word(name, "STUDY_STATE"): number for name, number in api.StudyState.items() if number
}


@DATASET.verb("list", "", "--site hospital-a", watched=True)
@click.option("--site", default="", help="Only of this site.")
@click.pass_obj
def datasets(session: Session, site: str) -> None:
    """List what sites offer for studies."""
    pages = session.pages(session.exchange.ListDatasets, api.ListDatasetsRequest(site=site))
    found = [plain(item) for page in pages for item in page.datasets]

    def people(out: Console) -> None:
        rows = [
            [
                item["registered"]["dataset"],
                item["registered"]["title"],
                "yes" if item["connected"] else "no",
                f"{item['queries_left']} of {item['registered']['queries_per_analyst']}",
                str(item["rounds_left"]),
                f"{item['epsilon_left']:g}",
                ", ".join(item["registered"]["products"]) or "any",
            ]
            for item in found
        ]
        out.print(
            table(
                "Datasets",
                ["dataset", "title", "connected", "queries left", "rounds left", "epsilon left", "products"],
                rows,
            )
        )

    session.show({"datasets": found}, people)


@STUDY.verb("list", "", "--state requested --site hospital-a", watched=True)
@click.option("--state", type=click.Choice(list(_STATES)), default="all", help="Only of this state.")
@click.option("--site", default="", help="Only those that ask this site.")
@click.pass_obj
def studies(session: Session, state: str, site: str) -> None:
    """List studies, newest first."""
    request = api.ListStudiesRequest(site=site)
    request.state = _STATES[state]  # type: ignore[assignment]
    found = [
        plain(item) for page in session.pages(session.exchange.ListStudies, request) for item in page.studies
    ]
    rows = [
        [
            item["requested"]["study"],
            item["requested"]["question"],
            word(item["state"], "STUDY_STATE"),
            f"{len(item['approvals'])} of {len(item['requested']['sites'])}",
            str(len(item["jobs"])),
            (item["insight"] or {}).get("statement") or item["statement"],
        ]
        for item in found
    ]
    columns = ["study", "question", "state", "approved", "jobs", "answer, or what it waits for"]
    session.show({"studies": found}, lambda out: out.print(table("Studies", columns, rows)))


@STUDY.verb("show", "bleeding-1", "bleeding-1 --watch", watched=True)
@click.argument("study")
@click.pass_obj
def study(session: Session, study: str) -> None:
    """Show STUDY with its approvals, jobs, rounds and answer."""
    answer = session.call(session.exchange.GetStudy, api.GetStudyRequest(study=study))
    found = plain(answer.study)
    session.show({"study": found}, lambda out: _print(out, found))


def _print(out: Console, found: dict[str, Any]) -> None:
    asked = found["requested"]
    _say(out, f"{asked['question']}  [{word(found['state'], 'STUDY_STATE')}]")
    ethics = asked["ethics"] or {"board": "-", "reference": ""}
    _say(out, f"purpose: {asked['purpose']}; ethics: {ethics['board']} {ethics['reference']}")
    signed = [f"{one['site']} by {one['actor']}" for one in found["approvals"]]
    _say(out, f"asked: {', '.join(asked['datasets'])}; approved: {', '.join(signed) or 'by nobody yet'}")
    _say(out, f"model: {asked['model']} {asked['specification']}")
    if found["statement"]:
        _say(out, found["statement"])
    rows = [
        [
            str(job["opened"]["number"]),
            ", ".join(job["opened"]["participants"]),
            str(len(job["rounds"]) or (job["progress"] or {}).get("rounds", 0)),
            f"{1000 * sum(one['seconds'] for one in job['rounds']):.0f} ms",
            job["ended"]["reason"] if job["ended"] else "answered" if found["insight"] else _open(job),
        ]
        for job in found["jobs"]
    ]
    out.print(table("Jobs", ["job", "sites", "rounds", "time", "end"], rows))
    if found["insight"]:
        _print_insight(out, found["insight"])
    if found["contributions"]:
        _print_contributions(out, found["contributions"])


def _open(job: dict[str, Any]) -> str:
    """How far a job is that is computed now."""
    now = job["progress"]
    if not now or not now["round"]:
        return "open"
    awaited = f", waits for {', '.join(now['awaited'])}" if now["awaited"] else ""
    return f"in round {now['round']}, attempt {now['attempt']}{awaited}"


def _print_contributions(out: Console, found: list[dict[str, Any]]) -> None:
    rows = [
        [
            one["site"],
            f"{one['share']:.1%}" if one["valued"] else f"not valued ({one['not_valued'] or 'not said'})",
            ", ".join(_quality(measure) for measure in one["quality"]),
            str(one["rounds"]),
            f"{one['compute_seconds']:.2f} s",
        ]
        for one in found
    ]
    out.print(table("Contributions", ["site", "share", "quality", "rounds", "computed"], rows))


def _quality(measure: dict[str, Any]) -> str:
    """A ratio with its counts; one that would tell of few patients has none."""
    of = int(measure["denominator"])
    return f"{measure['measure']} {measure['numerator']} of {of}" if of else f"{measure['measure']} withheld"


def _print_insight(out: Console, insight: dict[str, Any]) -> None:
    _say(out, insight["statement"])
    rows = [
        [
            effect["term"],
            effect["scale"],
            _number(effect["estimate"]["value"]),
            f"{_number(effect['estimate']['lower'])} to {_number(effect['estimate']['upper'])}",
            _number(effect["p_value"]),
        ]
        for effect in insight["effects"]
    ]
    out.print(table("Estimates", ["term", "scale", "estimate", "95 % interval", "p"], rows))
    if insight["flags"]:
        _say(out, f"flags: {', '.join(insight['flags'])}")
    tables = json.loads(insight["tables"]) if insight["tables"] else {}
    if insight["epsilon"]:
        _say(out, _noise(insight["epsilon"], tables.get("noise", {})))
    _print_tables(out, tables)


def _noise(epsilon: float, noise: dict[str, Any]) -> str:
    """What a patient's presence may show by, and the noise that hides the rest."""
    told = f"differential privacy: epsilon {epsilon:g}"
    if noise:
        told += (
            f", delta {noise['delta']:g} (accountant {noise['accountant']}, one step); standard deviation "
            f"of the noise in every sum: {noise['standard_deviation']:.4g}"
        )
    return told


def _print_tables(out: Console, tables: dict[str, Any]) -> None:
    """Curves, bins, cells and moments: rows of their own fields."""
    parts = {f"curve {one['group']}": one["points"] for one in tables.get("curves", ())}
    parts |= {name: tables[name] for name in ("cells", "bins", "moments") if name in tables}
    for title, rows in parts.items():
        columns = list(rows[0]) if rows else []
        out.print(table(title, columns, [[_cell(row[name]) for name in columns] for row in rows]))


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "withheld" if value is None else str(value)


def _say(out: Console, text: str) -> None:
    """A sentence as it is: brackets in it are no markup."""
    out.print(text, markup=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


@STUDY.verb("request", "study.json")
@click.argument("file", type=FILE)
@click.pass_obj
def request_study(session: Session, file: Path) -> None:
    """Ask the study in FILE: the contract's RequestStudyRequest as JSON."""
    request = read_request(file, api.RequestStudyRequest, "specification")
    answer = session.call(session.exchange.RequestStudy, request)
    session.show(
        {"study": answer.study, "receipt": plain(answer.receipt)},
        lambda out: _say(
            out, f"requested: {answer.study}; each owner approves it with 'pharmaloop study approve'"
        ),
    )


@STUDY.verb("approve", 'bleeding-1 --site hospital-a --meaning "I have read it"')
@click.argument("study")
@click.option("--site", required=True, help="Site whose data you answer for.")
@click.option("--meaning", required=True, help="What your signature means.")
@click.option("--valuation", is_flag=True, help="The site's contribution may be valued.")
@click.pass_obj
def approve_study(session: Session, study: str, site: str, meaning: str, valuation: bool) -> None:
    """Let SITE take part in STUDY."""
    request = api.ApproveStudyRequest(
        request_id=new_id(), study=study, site=site, meaning=meaning, valuation=valuation
    )
    answer = session.call(session.exchange.ApproveStudy, request)
    session.show(
        {"study": study, "site": site, "receipt": plain(answer.receipt)},
        lambda out: _say(out, f"approved: {site} takes part in {study}"),
    )


@STUDY.verb(
    "refuse",
    'bleeding-1 --site hospital-a --reason "too few patients here"',
    signed="I answer for the data of this site and do not let it take part.",
)
@click.argument("study")
@click.option("--site", required=True, help="Site whose data you answer for.")
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def refuse_study(session: Session, study: str, site: str, reason: str) -> None:
    """Do not let SITE take part in STUDY, which ends it."""
    request = api.RefuseStudyRequest(request_id=new_id(), study=study, site=site, reason=reason)
    answer = session.call(session.exchange.RefuseStudy, request)
    session.show(
        {"study": study, "site": site, "receipt": plain(answer.receipt)},
        lambda out: _say(out, f"refused: {study} ends, for {site} does not take part"),
    )


@STUDY.verb(
    "stop", 'bleeding-1 --reason "asked by mistake"', signed="I stop this study and stand for the reason."
)
@click.argument("study")
@click.option("--reason", required=True, help="Why.")
@click.pass_obj
def stop_study(session: Session, study: str, reason: str) -> None:
    """End STUDY before it is answered."""
    request = api.StopStudyRequest(request_id=new_id(), study=study, reason=reason)
    answer = session.call(session.exchange.StopStudy, request)
    session.show(
        {"study": study, "receipt": plain(answer.receipt)},
        lambda out: _say(out, f"stopped: {study}"),
    )
