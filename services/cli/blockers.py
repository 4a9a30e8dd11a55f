"""What a run waits for, in lines: since when, the sites that are missing, and the command that comes next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.group import PROGRAM
from services.cli.plain import iso
from services.cli.session import Failure, Refused, Session
from services.kit import lacking
from services.kit.lacking import Control, Lack

#: So many sites have their next step told; the others are named.
_STEPS = 5
#: What is said of a site, by what it lacks; and where one looks.
_SAYS = {
    lacking.AWAY: ("does not answer now; what it lacks is not known", "status"),
    lacking.NOTHING: ("holds nothing of this run yet", "status"),
    lacking.DIGEST: ("has not confirmed what was announced to it", "site board {site} --run {run}"),
    lacking.PLANS: ("has patients who wait for a plan", "site board {site} --run {run}"),
    lacking.DIFFERENCES: ("has differences to explain", "run differences {site} {run}"),
    lacking.NOTICES: ("has patients to tell", "notice list {site} {run} --open"),
    lacking.ANSWERS: ("waits for answers of its patients", "plan list {site} --run {run} --open"),
    lacking.APPROVAL: ("has not approved the study", "study approve {study} --site {site} --meaning MEANING"),
}
#: By step that a corrective action lacks: what it is called, and the command that does it.
_STEPS_OF_CONTROL = {
    "approve": ("approval", "capa approve {capa} --meaning MEANING"),
    "validate": ("validation", "capa validate {capa} --record RECORD --statement TEXT"),
    "file": ("filing assessment", "capa file {capa} --category CATEGORY --statement TEXT"),
}
#: By loop and stage, the command that does what the run waits for, or shows where it stands.
_NEXT = {
    ("safety", "hold"): "exposure show {run}",
    ("safety", "seal"): "run unattributed {run}",
    (
        "safety",
        "evaluate",
    ): "run evaluate {run} --class CLASS --text TEXT --instruction TEXT --meaning MEANING",
    ("safety", "approve"): "capa list",
    ("transfer", "sign"): "transfer show {case}",
    ("transfer", "validate"): "transfer show {case}",
    ("transfer", "produce"): "transfer show {case}",
    ("evidence", "freeze"): "study show {study}",
    ("evidence", "compute"): "study show {study}",
    ("evidence", "publish"): "study show {study}",
    ("evidence", "take-up"): "finding list --state waiting",
}


@dataclass(frozen=True)
class Blocked:
    """What a run waits for. Moments are of the platform clock: `since` it is in its stage, `stalled` since
    when it is late; None where that is not known."""

    lacks: tuple[Lack, ...]
    since: str | None
    stalled: str | None
    next: tuple[str, ...]
    control: Control | None = None

    def waits_for(self) -> str:
        """What the corrective action lacks; empty where the run waits for none, or that is not known."""
        if self.control is None:
            return ""
        lacks = " and ".join(_STEPS_OF_CONTROL[step][0] for step in self.control.steps)
        of = f"corrective action {self.control.capa}"
        if self.control.refused:
            return f"the refusal of {of} to reach the loop"
        if not self.control.by:
            return f"{lacks} of {of}"
        if not lacks:
            return f"the changed limit of {of}, which {self.control.by} approved, to reach the loop"
        return f"{lacks} of {of}, which {self.control.by} approved"

    def document(self) -> dict[str, Any]:
        sites = [
            {
                "site": one.site,
                "why": one.why,
                "says": _SAYS[one.why][0],
                "people": one.people,
                "withheld": one.withheld,
            }
            for one in self.lacks
        ]
        return {
            "since": self.since,
            "stalled_since": self.stalled,
            "sites": sites,
            "capa": self.control
            and {
                "capa": self.control.capa,
                "approved_by": self.control.by or None,
                "lacks": list(self.control.steps),
                "refused": self.control.refused,
            },
            "next": list(self.next),
        }

    def lines(self) -> list[str]:
        """As people read it, below the line that says what is waited for."""
        found = [f"  since {self.since} (platform clock)"] if self.since else []
        found += [f"  stalled since {self.stalled}"] if self.stalled else []
        for one in self.lacks:
            count = "" if one.people is None else f": {one.people}"
            count = ": withheld (protects a small group)" if one.withheld else count
            found.append(f"  {one.site} {_SAYS[one.why][0]}{count}")
        return found + [f"  next: {line}" for line in self.next]


def blocked(session: Session, run: loops.Run) -> Blocked | None:
    """What the run waits for; None when it ended. A service that does not answer leaves out what it knows."""
    if run.state == loops.RUN_STATE_CLOSED:
        return None
    lacks, control = tuple(_lacks(session, run)), _control(session, run)
    stalled = run.state == loops.RUN_STATE_STALLED and run.HasField("stage_due")
    return Blocked(
        lacks,
        iso(run.stage_since) if run.HasField("stage_since") else None,
        iso(run.stage_due) if stalled else None,
        tuple(_next(run, lacks, control)),
        control,
    )


def _control(session: Session, run: loops.Run) -> Control | None:
    """What the corrective action lacks that the run waits for."""
    if (run.loop, run.stage) != ("safety", "approve"):
        return None
    found = _answer(session, "production", "ListCapas", production.ListCapasRequest(run=run.run, page_size=1))
    return lacking.of_capas(found.capas) if found else None


def _lacks(session: Session, run: loops.Run) -> list[Lack]:
    if run.loop == "evidence" and run.stage == "approve":
        request = exchange.GetStudyRequest(study=run.opened_evidence.study)
        study = _answer(session, "exchange", "GetStudy", request)
        if study is None:
            return []
        return lacking.of_study(study.study.requested.sites, (one.site for one in study.study.approvals))
    if run.loop != "safety" or run.stage not in lacking.STAGES:
        return []
    exposure = _answer(session, "traceability", "GetExposure", trace.GetExposureRequest(run=run.run))
    names = sorted(exposure.announced.sites) if exposure else list(session.endpoints.sites)
    boards: dict[str, Any] = {}
    away = []
    for site in names:
        try:
            boards[site] = _board(session, site, run.run)
        except Failure:
            away.append(site)
    told = lacking.published(exposure)
    return lacking.of_run(run.stage, boards, away, told=told, follows=bool(run.opened.follows))


def _board(session: Session, site: str, run: str) -> Any:
    """A site's board of the run; None where it holds nothing of it."""
    request = clinical.GetSiteBoardRequest(site=site, run=run)
    try:
        found = session.call(session.clinical_at(site).GetSiteBoard, request).runs
    except Refused as error:
        if error.reason != "UNKNOWN_RUN":
            raise
        return None
    return found[0] if found else None


def _answer(session: Session, service: str, method: str, request: Any) -> Any:
    """The answer of a service; None where there is none: the run is shown without it."""
    try:
        return session.call(getattr(getattr(session, service), method), request)
    except Failure:
        return None


def _next(run: loops.Run, lacks: tuple[Lack, ...], control: Control | None) -> list[str]:
    """The command lines that come next, each once."""
    lines = [(_SAYS[one.why][1], one.site) for one in lacks[:_STEPS]]
    lines += [(_STEPS_OF_CONTROL[step][1], "") for step in control.steps] if control else []
    if not lines or run.stage == "seal":
        found = _NEXT.get((run.loop, run.stage))
        if found is None and run.state == loops.RUN_STATE_STALLED:
            found = "transfer show {case}" if run.loop == "transfer" else "status"
        lines += [(found, "")] if found else []
    said = [
        line.format(
            site=shlex.quote(site),
            run=shlex.quote(run.run),
            case=shlex.quote(run.case),
            study=shlex.quote(run.opened_evidence.study),
            capa=shlex.quote(control.capa if control else ""),
        )
        for line, site in lines
    ]
    return [f"{PROGRAM} {line}" for line in dict.fromkeys(said)]
