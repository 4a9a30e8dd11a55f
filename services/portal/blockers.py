"""What keeps a run from going on, site by site, with the page where each is resolved."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pharmaloop.loops.v1 import service_pb2 as api
from services.kit import lacking
from services.kit.lacking import Lack
from services.portal.addresses import path_of as path
from services.portal.backend import Backend, Missing
from services.portal.words import N_

#: What is said of a site, by what it lacks.
SAYS = {
    lacking.AWAY: N_("does not answer now; what it lacks is not known"),
    lacking.NOTHING: N_("holds nothing of this run yet"),
    lacking.DIGEST: N_("has not confirmed what was announced to it"),
    lacking.PLANS: N_("has patients who wait for a plan"),
    lacking.DIFFERENCES: N_("has differences to explain"),
    lacking.NOTICES: N_("has patients to tell"),
    lacking.ANSWERS: N_("waits for answers of its patients"),
    lacking.APPROVAL: N_("has not approved the study"),
}


@dataclass(frozen=True)
class Blocker:
    """A site that is waited for: what is said of it, and where that is resolved."""

    lack: Lack
    says: str
    to: str


def asked(backend: Backend, run: Any) -> dict[str, Awaitable[Any]]:
    """What has to be asked to name the sites that a run waits for; nothing where it waits for none."""
    if run.state == api.RUN_STATE_CLOSED:
        return {}
    if run.loop == "evidence" and run.stage == "approve":
        return {"study": backend.ask("exchange", "GetStudy", study=run.opened_evidence.study)}
    if run.loop != "safety" or run.stage not in lacking.STAGES:
        return {}
    return {
        f"board:{site}": backend.ask(process, "GetSiteBoard", site=site, run=run.run)
        for site, process in backend.sites.items()
    }


def blockers(
    run: Any, found: Mapping[str, Any], missing: Iterable[Missing], sites: Mapping[str, str]
) -> list[Blocker]:
    """The sites that a run waits for, by name. `sites` are those that can be asked, with their process."""
    return [Blocker(lack, SAYS[lack.why], _to(lack, run)) for lack in _lacks(run, found, missing, sites)]


def _lacks(
    run: Any, found: Mapping[str, Any], missing: Iterable[Missing], sites: Mapping[str, str]
) -> list[Lack]:
    if study := found.get("study"):
        asked_of = study.study.requested.sites
        return lacking.of_study(asked_of, (one.site for one in study.study.approvals))
    if run.loop != "safety" or run.state == api.RUN_STATE_CLOSED:
        return []
    exposure = found.get("exposure")
    names = set(exposure.announced.sites) if exposure else set(sites)
    gone = {one.service for one in missing}
    boards = {site: _row(found.get(f"board:{site}")) for site in names}
    away = {site for site, board in boards.items() if board is None and sites.get(site, "") in {"", *gone}}
    return lacking.of_run(
        run.stage, boards, away, told=lacking.published(exposure), follows=bool(run.opened.follows)
    )


def _row(board: Any) -> Any:
    return board.runs[0] if board is not None and board.runs else None


def _to(lack: Lack, run: Any) -> str:
    """The page of the site with the run's part of it; of a study, its own."""
    if lack.why == lacking.APPROVAL:
        return path("studies", run.opened_evidence.study)
    shown = "open" if lack.why in (lacking.PLANS, lacking.ANSWERS) else "all"
    return f"{path('sites', lack.site)}?{urlencode({'run': run.run, 'shown': shown})}"
