"""Parameter sets: what a version says, what differs, and its way from draft to the plants."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from pharmaloop.rnd.v1 import service_pb2 as api
from services.portal.addresses import path_of
from services.portal.backend import Backend, Missing
from services.portal.confirming import Field, Question, settle, show, text
from services.portal.languages import Language
from services.portal.pages.draft_set import VESSEL
from services.portal.parts import parts
from services.portal.render import page
from services.portal.several import every
from services.portal.words import word

router = APIRouter()
_ROWS = 100
#: So many changes are read on the page of a signature; a new process changes everything.
_MOST_DIFFERENCES = 40
#: Sizes of a vessel that stand on one line with another.
_SHOWN_TOGETHER = ("volume_m3", "liquid_m3", "tank_diameter_m", "impeller_diameter_m")
_STATES = {
    "draft": api.PARAMETER_SET_STATE_DRAFT,
    "reviewed": api.PARAMETER_SET_STATE_REVIEWED,
    "released": api.PARAMETER_SET_STATE_RELEASED,
    "superseded": api.PARAMETER_SET_STATE_SUPERSEDED,
    "withdrawn": api.PARAMETER_SET_STATE_WITHDRAWN,
}
_KINDS = {
    api.PARAMETER_SET_STATE_DRAFT: "watch",
    api.PARAMETER_SET_STATE_REVIEWED: "watch",
    api.PARAMETER_SET_STATE_RELEASED: "good",
    api.PARAMETER_SET_STATE_SUPERSEDED: "over",
    api.PARAMETER_SET_STATE_WITHDRAWN: "abnormal",
}
_LIVE = tuple(
    f"type:{name}"
    for name in (
        "ParameterSetDrafted",
        "ParameterSetReviewed",
        "ParameterSetReleased",
        "ParameterSetSuperseded",
        "ParameterSetWithdrawn",
        "ReviewRequested",
    )
)


@router.get("/sets")
async def sets(
    request: Request,
    product: str = "",
    of: str = "",
    state: str = "",
    token: str = "",
) -> Response:
    """Versions of all sets, the latest change first."""
    backend: Backend = request.app.state.backend
    product, of = product.strip(), of.strip()
    asked: dict[str, Any] = {"product": product, "set": of, "page_size": _ROWS, "page_token": token}
    if state in _STATES:
        asked["state"] = _STATES[state]
    found, missing = await parts(versions=backend.ask("rnd", "ListParameterSets", **asked))
    after = found["versions"].next_page_token if found["versions"] else ""
    filters = {"product": product, "of": of, "state": state}
    values = {
        "rows": list(found["versions"].versions) if found["versions"] else [],
        "kinds": _KINDS,
        "states": {name: word(api.ParameterSetState.DESCRIPTOR, number) for name, number in _STATES.items()},
        "filters": filters,
        "next": f"?{urlencode(filters | {'token': after})}" if after else "",
        "missing": missing,
    }
    return page(request, "sets.html", values, live=_LIVE)


@router.get("/sets/{of:path}/{version:int}/review")
async def review(request: Request, of: str, version: int) -> Response:
    return show(request, await _review(request, of, version))


@router.post("/sets/{of:path}/{version:int}/review")
async def reviewed(request: Request, of: str, version: int) -> Response:
    return await settle(
        request,
        lambda: _review(request, of, version),
        "rnd",
        "ReviewParameterSet",
        lambda form: {"set": of, "version": version},
    )


@router.get("/sets/{of:path}/{version:int}/release")
async def release(request: Request, of: str, version: int) -> Response:
    return show(request, await _release(request, of, version))


@router.post("/sets/{of:path}/{version:int}/release")
async def released(request: Request, of: str, version: int) -> Response:
    return await settle(
        request,
        lambda: _release(request, of, version),
        "rnd",
        "ReleaseParameterSet",
        lambda form: {
            "set": of,
            "version": version,
            "plants": _plants(form.getlist("plants")),
            "purpose": text(form, "purpose"),
        },
    )


@router.get("/sets/{of:path}/{version:int}/withdraw")
async def withdraw(request: Request, of: str, version: int) -> Response:
    return show(request, await _withdrawal(request, of, version))


@router.post("/sets/{of:path}/{version:int}/withdraw")
async def withdrawn(request: Request, of: str, version: int) -> Response:
    return await settle(
        request,
        lambda: _withdrawal(request, of, version),
        "rnd",
        "WithdrawParameterSet",
        lambda form: {"set": of, "version": version, "reason": text(form, "reason")},
    )


def _plants(written: list[Any]) -> list[str]:
    """Plants that were ticked, or written with commas between them; each once."""
    names = (name.strip() for one in written for name in str(one).split(","))
    return list(dict.fromkeys(name for name in names if name))


@router.get("/sets/{of:path}/{version:int}")
async def one(request: Request, of: str, version: int, against: int = 0) -> Response:
    """One version: what it says, what differs from another, who signed, where it is in force."""
    backend: Backend = request.app.state.backend
    answer = await backend.ask("rnd", "GetParameterSet", set=of, version=version)
    shown = answer.version
    against = against if 0 < against != shown.version else shown.version - 1
    asked: dict[str, Any] = {"versions": backend.ask("rnd", "ListParameterSets", set=of, page_size=1000)}
    if against > 0:
        asked["diff"] = backend.ask(
            "rnd", "GetParameterSetDiff", set=of, from_version=against, to_version=shown.version
        )
    if shown.trial:
        asked["trial"] = backend.ask("rnd", "GetTrial", trial=shown.trial)
    found, missing = await parts(**asked)
    values = {
        "version": shown,
        "content": answer.content,
        "criterion": _criterion(answer.content),
        "geometry": [
            (label, getattr(answer.content.process.vessel, name), unit)
            for name, label, unit in VESSEL
            if name not in _SHOWN_TOGETHER
        ],
        "kind": _KINDS.get(shown.state, "normal"),
        "versions": sorted(one.version for one in found["versions"].versions) if found["versions"] else [],
        "against": against,
        "diff": found.get("diff"),
        "trial": found.get("trial"),
        "may_review": shown.state == api.PARAMETER_SET_STATE_DRAFT,
        "may_release": shown.state in (api.PARAMETER_SET_STATE_REVIEWED, api.PARAMETER_SET_STATE_RELEASED),
        "may_withdraw": shown.state != api.PARAMETER_SET_STATE_WITHDRAWN,
        "missing": missing,
    }
    return page(request, "set.html", values, live=(of, *_LIVE))


def _criterion(told: Any) -> str:
    """What is kept when the scale changes, as a word."""
    return word(content.ScaleUpCriterion.DESCRIPTOR, told.process.criterion)


@router.get("/sets/{of:path}")
async def newest(request: Request, of: str) -> Response:
    """A set by its name: its newest version."""
    backend: Backend = request.app.state.backend
    found = await backend.ask("rnd", "GetParameterSet", set=of)
    return RedirectResponse(path_of("sets", of, str(found.version.version)), status_code=303)


async def _fresh(request: Request, of: str, version: int) -> Any:
    backend: Backend = request.app.state.backend
    answer = await backend.ask("rnd", "GetParameterSet", fresh=True, set=of, version=version)
    return answer.version


async def _differences(request: Request, version: Any) -> tuple[tuple[str, str], ...]:
    """What one signs for: each path that differs from the version before, with what it said and says."""
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    say = language.say
    if version.version < 2:
        return ((say("Differs from the version before in"), say("This is the first version.")),)
    found, _ = await parts(
        diff=backend.ask(
            "rnd",
            "GetParameterSetDiff",
            set=version.set,
            from_version=version.version - 1,
            to_version=version.version,
        )
    )
    if found["diff"] is None:
        return ((say("Differs from the version before in"), ", ".join(version.changes)),)
    rows = [
        (
            say("Changed: %(path)s", path=one.path),
            say(
                "from %(before)s to %(after)s",
                before=one.before if one.HasField("before") else "–",
                after=one.after if one.HasField("after") else "–",
            ),
        )
        for one in found["diff"].differences[:_MOST_DIFFERENCES]
    ]
    left = len(found["diff"].differences) - len(rows)
    if left > 0:
        rows.append(
            (say("Changed besides"), say("%(n)s more; the page of the version has them all.", n=left))
        )
    return tuple(rows)


def _facts(language: Language, version: Any) -> tuple[tuple[str, str], ...]:
    say = language.say
    return (
        (say("Parameter set"), f"{version.set} / {version.version}"),
        (say("Product"), version.product),
        (say("State"), say(word(api.ParameterSetState.DESCRIPTOR, version.state))),
        (say("Drafted by"), f"{version.drafter} · {language.moment(version.drafted)}"),
        (say("Reviewed by"), version.reviewer),
        (say("In force at"), ", ".join(_plants_in_force(version))),
        (say("Virtual trial"), version.trial),
        (say("Digest of the content"), version.content_hash.hex()),
    )


def _plants_in_force(version: Any) -> list[str]:
    if version.state == api.PARAMETER_SET_STATE_WITHDRAWN:
        return []
    return [one.plant for one in version.releases if not one.superseded_by]


def _now(language: Language, version: Any) -> str:
    say = language.say
    told = [say("It stands at: %(state)s.", state=say(word(api.ParameterSetState.DESCRIPTOR, version.state)))]
    if version.reviewer:
        told.append(say("%(actor)s reviewed it.", actor=version.reviewer))
    told += [
        say("%(actor)s released it to %(plant)s.", actor=one.actor, plant=one.plant)
        for one in version.releases
    ]
    if version.withdrawn_by:
        told.append(
            say(
                "%(actor)s withdrew it: %(reason)s",
                actor=version.withdrawn_by,
                reason=version.withdrawal_reason,
            )
        )
    return " ".join(told)


def _seen(version: Any) -> str:
    return f"{version.state}|{','.join(sorted(one.plant for one in version.releases))}"


async def _review(request: Request, of: str, version: int) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, of, version)
    return Question(
        title=say("Review version %(version)s of %(set)s", version=found.version, set=found.set),
        purpose=say("A second person reviews; it is released to no plant by this."),
        back=path_of("sets", of, str(version)),
        submit=say("Sign the review"),
        facts=(*_facts(language, found), *await _differences(request, found)),
        fields=(),
        meaning=say("I have checked ranges, geometry and the trial, and find it fit to be released."),
        seen=_seen(found),
        now=_now(language, found),
        by=found.reviewer,
        over=found.state != api.PARAMETER_SET_STATE_DRAFT,
    )


async def _release(request: Request, of: str, version: int) -> Question:
    backend: Backend = request.app.state.backend
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, of, version)
    try:
        lines, _ = await every(backend, "production", "ListLines", "lines")
    except Missing:
        lines = []
    known = sorted({line.plant for line in lines} - set(_plants_in_force(found)))
    plants = (
        Field("plants", say("Plants"), "check", options=tuple((plant, plant) for plant in known))
        if known
        else Field("plants", say("Plants, with commas between them"))
    )
    return Question(
        title=say("Release version %(version)s of %(set)s", version=found.version, set=found.set),
        purpose=say("Each plant gets it sealed under its own key; its twin adapts it and a transfer begins."),
        back=path_of("sets", of, str(version)),
        submit=say("Sign the release"),
        facts=(*_facts(language, found), *await _differences(request, found)),
        fields=(
            plants,
            Field(
                "purpose",
                say("What the plants may use it for"),
                required=False,
                help=say("Left empty: to make the product."),
            ),
        ),
        meaning=say("I release this version to the plants named."),
        seen=_seen(found),
        now=_now(language, found),
        over=found.state not in (api.PARAMETER_SET_STATE_REVIEWED, api.PARAMETER_SET_STATE_RELEASED),
    )


async def _withdrawal(request: Request, of: str, version: int) -> Question:
    language: Language = request.state.language
    say = language.say
    found = await _fresh(request, of, version)
    return Question(
        title=say("Withdraw version %(version)s of %(set)s", version=found.version, set=found.set),
        purpose=say("No plant may use it any more, and it cannot be released again."),
        back=path_of("sets", of, str(version)),
        submit=say("Sign the withdrawal"),
        facts=_facts(language, found),
        fields=(Field("reason", say("Reason"), "words"),),
        meaning=say("I withdraw this version: no plant may work by it any more."),
        seen=_seen(found),
        now=_now(language, found),
        by=found.withdrawn_by,
        over=found.state == api.PARAMETER_SET_STATE_WITHDRAWN,
        danger=True,
    )
