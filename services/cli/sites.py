"""What a hospital knows: plans, notices, templates, exposures, evidence. Patients only by pseudonym."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pharmaloop.clinical.v1 import service_pb2 as api
from services.cli.beginnings import RUN_ID
from services.cli.nouns import EXPOSURE, NOTICE, PLAN, SITE, TEMPLATE
from services.cli.plain import plain, word
from services.cli.session import LOT_KEY, Session
from services.cli.tables import table


def _yes(value: bool) -> str:
    return "yes" if value else "no"


@PLAN.verb("list", "hospital-a --open", "hospital-a --run r-7 --watch", watched=True)
@click.argument("site")
@click.option("--run", type=RUN_ID, default="", help="Only of this run.")
@click.option("--patient", default="", metavar="PSEUDONYM", help="Only of this patient.")
@click.option("--open", "only_open", is_flag=True, help="Only those that nobody has answered.")
@click.pass_obj
def plans(session: Session, site: str, run: str, patient: str, only_open: bool) -> None:
    """List the plans of SITE: what each patient is asked, and by when."""
    request = api.ListPlansRequest(site=site, run=run, pseudonym=patient, only_open=only_open)
    pages = session.pages(session.clinical_at(site).ListPlans, request)
    found = [plain(item) for page in pages for item in page.plans]

    def people(out: Console) -> None:
        rows = [
            [
                item["plan"]["plan"],
                item["plan"]["pseudonym"],
                item["plan"]["run"],
                word(item["plan"]["role"], "PLAN_ROLE"),
                item["plan"]["due"] or "-",
                "draft" if item["draft"] else "answered" if item["answered"] else "open",
                str(len(item["reminded"])),
                item["plan"]["question"],
            ]
            for item in found
        ]
        columns = ["plan", "patient", "run", "role", "due", "state", "reminders", "question"]
        out.print(table(f"Plans of {site}", columns, rows))

    session.show({"site": site, "plans": found}, people)


@SITE.verb("board", "hospital-a", "hospital-a --run r-7 --watch", watched=True)
@click.argument("site")
@click.option("--run", type=RUN_ID, default="", help="Only of this run.")
@click.pass_obj
def board(session: Session, site: str, run: str) -> None:
    """Show what SITE has to do for each run: plans, answers awaited and overdue, differences."""
    request = api.GetSiteBoardRequest(site=site, run=run)
    found = [plain(one) for one in session.call(session.clinical_at(site).GetSiteBoard, request).runs]
    counted = (
        "plans",
        "answered",
        "awaited",
        "overdue",
        "late",
        "notices_owed",
        "only_in_trace",
        "only_at_site",
    )

    def people(out: Console) -> None:
        rows = [[one["run"], *(str(one[name]) for name in counted)] for one in found]
        out.print(table(f"Runs at {site}", ["run", *(name.replace("_", " ") for name in counted)], rows))

    session.show({"site": site, "runs": found}, people)


@NOTICE.verb("list", "hospital-a r-7", "hospital-a r-7 --open", watched=True)
@click.argument("site")
@click.argument("run", type=RUN_ID)
@click.option("--open", "only_open", is_flag=True, help="Only those who have not been told.")
@click.pass_obj
def notices(session: Session, site: str, run: str, only_open: bool) -> None:
    """List who of SITE is to be told of RUN, and with which words."""
    request = api.ListNoticesRequest(site=site, run=run, only_open=only_open)
    pages = list(session.pages(session.clinical_at(site).ListNotices, request))
    found = [plain(item) for page in pages for item in page.notices]
    said = {name: str(getattr(pages[0], name)) for name in ("hazard_class", "text", "instruction")}

    def people(out: Console) -> None:
        out.print(f"class {said['hazard_class'] or '-'}: {said['text']} {said['instruction']}")
        rows = [
            [
                item["pseudonym"],
                ", ".join(item["lots"]),
                word(item["outcome"], "NOTICE_OUTCOME").replace("unspecified", "open"),
            ]
            for item in found
        ]
        out.print(table(f"To be told, at {site}", ["patient", "lots", "state"], rows))

    session.show({"site": site, "run": run, **said, "notices": found}, people)


@TEMPLATE.verb("list", "hospital-a", watched=True)
@click.argument("site")
@click.pass_obj
def templates(session: Session, site: str) -> None:
    """List the templates of follow-up that SITE works by."""
    request = api.ListFollowUpTemplatesRequest(site=site)
    pages = session.pages(session.clinical_at(site).ListFollowUpTemplates, request)
    found = [plain(item) for page in pages for item in page.templates]
    rows = [
        [
            item["template"],
            str(item["version"]),
            item["product"] or "any",
            item["deviation_kind"] or "any",
            f"{item['duration_hours']} h",
            *(str(len(item[part])) for part in ("questions", "labs", "visits")),
        ]
        for item in found
    ]
    columns = ["template", "version", "product", "deviation", "lasts", "questions", "tests", "visits"]
    document = {"site": site, "templates": found}
    session.show(document, lambda out: out.print(table(f"Templates of {site}", columns, rows)))


@EXPOSURE.verb("list", "hospital-a r-7", watched=True)
@click.argument("site")
@click.argument("run", type=RUN_ID)
@click.pass_obj
def exposures(session: Session, site: str, run: str) -> None:
    """List who of SITE was exposed in RUN, and whether the site's own records show it."""
    request = api.ListExposuresRequest(site=site, run=run)
    pages = session.pages(session.clinical_at(site).ListExposures, request)
    found = [plain(item) for page in pages for item in page.exposures]
    rows = [
        [
            item["dispense"],
            item["pseudonym"],
            item["lot"],
            item["at"] or "-",
            _yes(item["at_site"]),
            "possibly" if item["possible"] else "",
            item["disposition"].lower().replace("_", " "),
        ]
        for item in found
    ]
    columns = ["dispense", "patient", "lot", "at", "in own records", "sure", "what became of it"]
    document = {"site": site, "run": run, "exposures": found}
    session.show(document, lambda out: out.print(table(f"Exposed at {site}", columns, rows)))


@SITE.verb("lot", "hospital-a maker-1/item/granulate/G-0041", watched=True)
@click.argument("site")
@click.argument("lot", type=LOT_KEY)
@click.pass_obj
def lot_summary(session: Session, site: str, lot: str) -> None:
    """Show how many patients of SITE received LOT, and what they answered; small counts are withheld."""
    request = api.GetLotSummaryRequest(site=site, lot=lot)
    found = plain(session.call(session.clinical_at(site).GetLotSummary, request))
    told = found["responses"] or dict.fromkeys(("plans", "answered", "affected"), "-")
    rows = [[lot, *(str(value) for value in (found["patients"], *_responses(told)))]]
    columns = ["lot", "patients", "plans", "answered", "affected"]
    session.show(found, lambda out: out.print(table(f"{site}", columns, rows)))


def _responses(told: dict[str, Any]) -> list[Any]:
    return [told[name] for name in ("plans", "answered", "affected")]


@SITE.verb("evidence", "hospital-a r-7", watched=True)
@click.argument("site")
@click.argument("run", type=RUN_ID)
@click.pass_obj
def evidence(session: Session, site: str, run: str) -> None:
    """Show what SITE says of complaints and laboratory values in RUN, exposed beside comparators."""
    request = api.GetEvidenceRequest(site=site, run=run)
    found = plain(session.call(session.clinical_at(site).GetEvidence, request, 60.0))

    def people(out: Console) -> None:
        rows = [
            [
                one["lot"],
                word(one["kind"], "OUTCOME_KIND"),
                *(
                    str(sum(stratum[name] for stratum in one["strata"]))
                    for name in ("exposed", "exposed_cases", "comparators", "comparator_cases")
                ),
            ]
            for one in found["lots"]
        ]
        columns = ["lot", "kind", "exposed", "with complaint", "comparators", "with complaint"]
        out.print(table(f"Evidence of {site}", columns, rows))
        labs = [
            [one["code"], one["unit"], str(one["exposed"]), str(one["comparators"])] for one in found["labs"]
        ]
        out.print(table("Laboratory values", ["LOINC", "unit", "exposed", "comparators"], labs))

    session.show(found, people)


@SITE.verb("events", "hospital-a", "hospital-a --patient p-9", watched=True)
@click.argument("site")
@click.option("--patient", default="", metavar="PSEUDONYM", help="Only of this patient.")
@click.pass_obj
def adverse_events(session: Session, site: str, patient: str) -> None:
    """List adverse events that SITE has on record."""
    request = api.ListAdverseEventsRequest(site=site, pseudonym=patient)
    pages = session.pages(session.clinical_at(site).ListAdverseEvents, request)
    found = [plain(item) for page in pages for item in page.events]
    rows = [
        [
            one["pseudonym"],
            one["term"],
            (one["text"] or {}).get("en", ""),
            one["onset"] or "-",
            _yes(one["serious"]),
            str(one["solicited"]),
            str(one["spontaneous"]),
        ]
        for one in found
    ]
    columns = ["patient", "term", "text", "onset", "serious", "asked", "of their own"]
    document = {"site": site, "events": found}
    session.show(document, lambda out: out.print(table(f"Adverse events at {site}", columns, rows)))


@SITE.verb("answers", "hospital-a --run r-7", "hospital-a --run r-7 --patient p-9 --words", watched=True)
@click.argument("site")
@click.option("--run", type=RUN_ID, default="", help="Only of this run.")
@click.option("--patient", default="", metavar="PSEUDONYM", help="Only of this patient.")
@click.option("--words", is_flag=True, help="The patient's own words too; needs --patient.")
@click.pass_obj
def answers(session: Session, site: str, run: str, patient: str, words: bool) -> None:
    """List what patients of SITE answered, question by question."""
    if words and not patient:
        raise click.UsageError("--words needs --patient: words are read of one patient at a time")
    request = api.ListResponsesRequest(site=site, run=run, pseudonym=patient, words=words)
    pages = session.pages(session.clinical_at(site).ListResponses, request)
    found = [plain(item) for page in pages for item in page.responses]

    def people(out: Console) -> None:
        rows = [
            [
                one["at"] or "-",
                one["pseudonym"],
                _yes(one["affected"]),
                "the patient was erased" if one["erased"] else "\n".join(_said(one)),
                one["run"],
            ]
            for one in found
        ]
        out.print(table(f"Answers at {site}", ["at", "patient", "complaint", "answers", "run"], rows))

    session.show({"site": site, "answers": found}, people)


def _said(one: dict[str, Any]) -> list[str]:
    """Each question with its answer, a line each."""
    lines = []
    for asked in one["answers"]:
        question, given = asked["question"], asked["answer"] or {}
        told = [given[name] for name in ("yes", "number", "choice", "words") if given.get(name) is not None]
        text = told[0] if told else "-"
        lines.append(f"{question['id']}: {_yes(text) if isinstance(text, bool) else text}")
    return [*lines, one["words"]] if one["words"] else lines


@SITE.verb("vocabulary", "hospital-a")
@click.argument("site")
@click.pass_obj
def vocabulary(session: Session, site: str) -> None:
    """List the terms by which SITE codes what patients say."""
    request = api.GetVocabularyRequest(site=site)
    found = plain(session.call(session.clinical_at(site).GetVocabulary, request))
    rows = [
        [
            one["code"],
            *(
                (one[part] or {}).get(tongue, "")
                for part, tongue in (("text", "en"), ("text", "zh"), ("group", "en"))
            ),
        ]
        for one in found["terms"]
    ]
    columns = ["code", "English", "Chinese", "group"]
    session.show(found, lambda out: out.print(table("Vocabulary", columns, rows)))
