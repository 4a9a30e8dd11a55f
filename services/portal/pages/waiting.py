"""What waits for a person, of every loop: by kind of work, the gravest first, with who may do it and where.

What belongs together is one row that opens: deviations of one lot, lots that are held for one reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pharmaloop.production.v1 import events_pb2 as production
from services.kit import waiting
from services.kit.ids import derived_id
from services.kit.waiting import Waiting
from services.portal.addresses import path_of as path
from services.portal.backend import Backend
from services.portal.parts import parts
from services.portal.render import page
from services.portal.running import HOSPITAL, MANAGER, OWNER, QUALITY_HEAD, SCIENTIST
from services.portal.words import N_, word

router = APIRouter()


@dataclass(frozen=True)
class Kind:
    """A kind of work as the page says it: its heading, who may do it, and what the button says."""

    title: str
    who: str
    deed: str


KINDS = {
    "judge-deviation": Kind(N_("Deviations to judge"), QUALITY_HEAD, N_("Judge the deviation")),
    "classify-deviation": Kind(N_("Deviations to classify"), QUALITY_HEAD, N_("Classify the deviation")),
    "close-deviation": Kind(N_("Deviations to close"), QUALITY_HEAD, N_("Close the deviation")),
    "decide-lot": Kind(N_("Lots on hold to decide"), QUALITY_HEAD, N_("Decide on the lot")),
    "evaluate-hazard": Kind(
        N_("Health hazards to evaluate"), QUALITY_HEAD, N_("Evaluate the health hazard…")
    ),
    "approve-capa": Kind(
        N_("Corrective actions to approve"), QUALITY_HEAD, N_("Approve the corrective action")
    ),
    "validate-capa": Kind(N_("Corrective actions to validate"), QUALITY_HEAD, N_("Record the validation")),
    "file-capa": Kind(
        N_("Corrective actions to assess for filing"), QUALITY_HEAD, N_("Record the filing assessment")
    ),
    "check-capa": Kind(
        N_("Corrective actions to check for effectiveness"),
        QUALITY_HEAD,
        N_("Record the effectiveness check"),
    ),
    "decide-transfer": Kind(
        N_("Proposed set-points to accept or refuse"), MANAGER, N_("Decide on the set-points")
    ),
    "finish-change": Kind(N_("Change controls to make effective"), MANAGER, N_("To the change control")),
    "review-set": Kind(N_("Parameter sets to review"), SCIENTIST, N_("Review…")),
    "release-set": Kind(N_("Parameter sets to release"), SCIENTIST, N_("Release to plants…")),
    "take-up-finding": Kind(N_("Findings to take up or decline"), SCIENTIST, N_("To the findings")),
    "approve-study": Kind(N_("Studies to approve"), OWNER, N_("To the study")),
    "overdue-plans": Kind(N_("Monitoring plans with overdue answers"), HOSPITAL, N_("To the overdue plans")),
}
ROLES = {
    waiting.QUALITY: N_("Quality"),
    waiting.PLANT: N_("Plant"),
    waiting.RESEARCH: N_("Research"),
    waiting.SITE: N_("Every site"),
}
#: What a row of several says of them, by kind.
SEVERAL = {
    "judge-deviation": N_("%(n)s suspicions of one lot"),
    "classify-deviation": N_("%(n)s deviations of one lot"),
    "close-deviation": N_("%(n)s deviations of one lot"),
    "decide-lot": N_("%(n)s lots of one product, held for one reason"),
}
#: What a change control still needs.
LACKS = {"validation": N_("Validation"), "filing": N_("Filing assessment")}
#: What brings a thing onto the list, or takes it off.
_LIVE = tuple(
    f"type:{name}"
    for name in (
        *(f"Deviation{what}" for what in ("Detected", "Confirmed", "Rejected", "InvestigationStarted")),
        *("DeviationClassified", "DeviationCapaRequired", "DeviationCapaRefused", "DeviationClosed"),
        *("LotHeld", "LotReleased", "LotRejected"),
        *("CapaProposed", "CapaApproved", "CapaRefused", "ChangeValidated", "ChangeFilingAssessed"),
        *("ProcessLimitChanged", "CapaEffectivenessChecked", "HazardEvaluated", "StageCompleted"),
        *("LoopClosed", "OptimisationProposed", "OptimisationDecided", "RecipeValidated"),
        *("RecipeFilingAssessed", "RecipeEffective", "TransferEnded", "ParameterSetDrafted"),
        *("ParameterSetReviewed", "ParameterSetReleased", "ParameterSetWithdrawn", "InsightPublished"),
        *("HypothesisUpdated", "InsightDeclined", "StudyRequested", "StudyApproved", "StudyRefused"),
        *("StudyStopped", "StudyExpired", "RemindersDue", "ResponseRecorded", "MonitoringPlansOpened"),
    )
)


@dataclass(frozen=True)
class Row:
    """A thing that waits, with its page, the page of what it is about, and the page where it is done."""

    one: Waiting
    name: str
    to: str
    about: str
    act: str
    site: str
    #: The word for its class; empty where nobody and no rule said it.
    grave: str


@dataclass(frozen=True)
class Group:
    """Rows that belong together, the gravest first; `id` names it on the page, `says` what they are."""

    id: str
    says: str
    rows: tuple[Row, ...]


@router.get("/waiting")
async def board(request: Request, kind: str = "", role: str = "") -> Response:
    """Everything that waits for a person; who looks makes no difference."""
    backend: Backend = request.app.state.backend
    kind = kind if kind in KINDS else ""
    sites = sorted(backend.sites)
    roles = [*ROLES, *(f"{waiting.SITE} {site}" for site in sites)]
    role = role if role in roles else ""
    lists, wanted = waiting.chosen(kind, role), waiting.kinds_of(kind, role)
    asked = {
        f"list:{number}": backend.ask(one.service, one.method, **one.asked())
        for number, one in enumerate(lists)
    }
    if waiting.OVERDUE in wanted:
        for site in sites:
            asked[f"site:{site}"] = backend.ask(backend.sites[site], "GetSiteBoard", site=site)
    found, missing = await parts(**asked)
    rows: list[Waiting] = []
    runs: list[Any] = []
    more: set[str] = set()
    for number, one in enumerate(lists):
        if answer := found[f"list:{number}"]:
            runs += answer.runs if one.weighs else ()
            rows += [row for each in getattr(answer, one.part) for row in one.rows(each)]
            more |= wanted & set(one.kinds) if answer.next_page_token else set()
    boards = {site: found[f"site:{site}"].runs for site in sites if found.get(f"site:{site}") is not None}
    rows += waiting.overdue(boards)
    fitting = [row for row in rows if waiting.fits(row, kind, role)]
    shown = waiting.in_order(waiting.exposed(fitting, runs))
    groups = [_group(group) for group in waiting.groups(shown)]
    values = {
        "kinds_shown": [
            (name, KINDS[name], of, sum(len(group.rows) for group in of), name in more)
            for name in KINDS
            if (of := [group for group in groups if group.rows[0].one.kind == name]) or name in more
        ],
        "of": len(shown),
        "grouped": len(groups) < len(shown),
        "some_more": bool(more),
        "kinds": KINDS,
        "kind": kind,
        "roles": ROLES,
        "sites": {f"{waiting.SITE} {site}": site for site in sites},
        "role": role,
        "lacks": LACKS,
        "missing": missing,
    }
    processes = [f"service:{process}" for process in backend.sites.values()]
    return page(request, "waiting.html", values, live=(*_LIVE, *processes))


def _group(rows: tuple[Waiting, ...]) -> Group:
    first = rows[0]
    says = SEVERAL[first.kind] if len(rows) > 1 else ""
    return Group(derived_id(first.kind, first.belongs or first.id), says, tuple(map(_row, rows)))


def _row(one: Waiting) -> Row:
    site = one.role.partition(" ")[2]
    to, act = _places(one)
    grave = word(production.Severity.DESCRIPTOR, one.severity) if one.severity else ""
    return Row(one, _name(one), to, _about(one), act, site, grave)


def _name(one: Waiting) -> str:
    """What a row is called: the end of what is long, as other pages show it."""
    if one.kind.endswith("set"):
        return f"{one.id} / {one.version}"
    return one.id[:8] if one.kind.endswith(("deviation", "capa", "hazard", "finding")) else one.id


def _about(one: Waiting) -> str:
    """The page of what it is about; empty where that has none of its own."""
    if one.kind in ("decide-lot", "take-up-finding", "review-set", "release-set"):
        return f"/sets?{urlencode({'product': one.of})}"
    if one.role.startswith(waiting.SITE):
        return path("sites", one.of)
    return "" if one.role == waiting.PLANT else path("lots", one.of)


def _places(one: Waiting) -> tuple[str, str]:
    """The page of a thing, and where a person does what it waits for: a form, or a page with the choice."""
    verb = one.kind.partition("-")[0]
    match one.kind:
        case "judge-deviation":
            to = act = path("deviations", one.of, one.id)
        case "classify-deviation" | "close-deviation":
            to, act = path("deviations", one.of, one.id), path("deviations", one.of, one.id, verb)
        case "decide-lot":
            to = act = path("lots", one.id)
        case "evaluate-hazard":
            to, act = path("runs", one.id), path("runs", one.id, "hazard")
        case "approve-capa" | "validate-capa" | "file-capa" | "check-capa":
            to, act = path("capas", one.id), path("capas", one.id, verb)
        case "decide-transfer":
            to = act = path("transfers", one.id)
        case "finish-change":
            to = path("transfers", one.id)
            steps = {("validation",): "validate", ("filing",): "file"}
            act = path("transfers", one.id, steps[one.lacks]) if one.lacks in steps else to
        case "review-set" | "release-set":
            to = path("sets", one.id, str(one.version))
            act = f"{to}/{verb}"
        case "take-up-finding":
            to, act = path("lineage", one.id), "/hypotheses"
        case "approve-study":
            to = act = path("studies", one.id)
        case _:
            to, act = path("sites", one.id), f"{path('sites', one.id)}?shown=overdue"
    return to, act
