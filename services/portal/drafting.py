"""One page for everything that is written at length: a parameter set, a study, an entry of the catalogue.

What a service refuses comes back on the form, each sentence at its field, with what was typed. The form
carries the id of its request: sent twice, it is told twice under that id, and a service takes it once. It
carries too what was on record when it was opened, so that nobody drafts over what another has drafted since.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from services.portal.actors import clean, keep
from services.portal.backend import Backend, Missing, Refused
from services.portal.confirming import NAME, Told
from services.portal.forms import Group, Read, Typed, Wrong, drawn, read, refusals, typed
from services.portal.languages import Language
from services.portal.render import page

#: A set of two hundred parameters has so many; a form is 100 kB at most anyway.
_MOST_FIELDS = 4_000


@dataclass(frozen=True)
class Draft:
    """A form, in the reader's language."""

    title: str
    purpose: str
    back: str
    submit: str
    groups: tuple[Group, ...]
    #: What a request has before the paths of the form.
    above: str = ""
    #: What is on record, empty where nothing is; another text when the form comes back means that somebody
    #: was first.
    seen: str = ""
    #: How things stand, in a sentence: read by who was second.
    now: str = ""
    #: A second button that fills in what can be told from the rest: its name and label.
    helper: tuple[str, str] | None = None
    links: tuple[tuple[str, str], ...] = field(default=())


def show_draft(
    request: Request,
    draft: Draft,
    said: Typed,
    wrong: list[Wrong] | None = None,
    *,
    changed: bool = False,
    missing: Missing | None = None,
    request_id: str = "",
    status: int = 200,
) -> Response:
    """The form; it asks for the name of whom the portal does not know yet, as a decision does."""
    wrong = wrong or []
    language: Language = request.state.language
    values = {
        "draft": draft,
        "seen": draft.seen if changed or "seen" not in said else _first(said, "seen"),
        "parts": drawn(draft.groups, said, wrong, language),
        "wrong": wrong,
        "changed": changed,
        "unanswered": missing,
        "nameless": any(one.key == NAME for one in wrong),
        "named": _first(said, NAME),
        "request_id": request_id or str(uuid.uuid4()),
    }
    return page(request, "draft.html", values, status=status)


@dataclass(frozen=True)
class Way:
    """Where a form goes: the command, its fields, and the page that shows what came of it."""

    service: str
    method: str
    fields: Callable[[Read], Mapping[str, Any]]
    leads: Callable[[Any, Read], str]
    #: What the helping button fills in.
    help: Callable[[Typed], Mapping[str, str]] | None = None


async def take_draft(request: Request, ask: Callable[[Typed], Awaitable[Draft]], way: Way) -> Response:
    """Tell the service what was written, and lead to what came of it."""
    form = await request.form(max_fields=_MOST_FIELDS)
    said = typed(form)
    draft = await ask(said)
    request_id = _first(said, "request_id")
    if "more" in said or ("help" in said and way.help is not None):
        filled = way.help(said) if "help" in said and way.help is not None else {}
        said |= {key: [value] for key, value in filled.items()}
        return show_draft(request, draft, said, request_id=request_id)
    language: Language = request.state.language
    found = read(draft.groups, said, language)
    actor = request.state.actor or clean(_first(said, NAME))
    if not actor:
        found.wrong.append(Wrong(NAME, language.say("Name"), language.say("Write 1 to 200 characters.")))
    if found.wrong:
        return show_draft(request, draft, said, found.wrong, request_id=request_id, status=422)
    told: Told = request.app.state.told
    if draft.seen and request_id not in told and _first(said, "seen") != draft.seen:
        return show_draft(request, draft, said, changed=True, status=409)
    return await _tell(request, draft, said, found, way, actor)


async def _tell(request: Request, draft: Draft, said: Typed, found: Read, way: Way, actor: str) -> Response:
    backend: Backend = request.app.state.backend
    request_id = _first(said, "request_id")
    fields = {"request_id": request_id, **way.fields(found)}
    try:
        answer = await backend.tell(way.service, way.method, actor, **fields)
    except Refused as error:
        violations = error.violations or ((error.field, error.description, error.reason),)
        wrong = refusals(draft.groups, violations, found, request.state.language, draft.above)
        return show_draft(request, draft, said, wrong, status=409)
    except Missing as error:  # it may have been taken: the same id, so that it counts once
        return show_draft(request, draft, said, missing=error, request_id=request_id, status=503)
    told: Told = request.app.state.told
    told.note(request_id)
    leads = RedirectResponse(way.leads(answer, found), status_code=303)
    if not request.state.actor:
        keep(leads, actor)
    return leads


def _first(said: Typed, name: str) -> str:
    return next(iter(said.get(name, ())), "")
