"""The second step of a decision: one page for every kind, with what it rests on and what one signs.

What was seen goes with the form. If it has changed by the time somebody signs, nothing is told to a
service: the page comes back as things stand now, says who was first, and shows what was seen beside what
is. The form carries the id of its request, so that sending it twice is one decision. The signature is a
name and its meaning, which goes to the service with the decision (21 CFR 11.50); a key takes the name's
place when identity arrives.
"""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from services.kit.words import LONGEST
from services.portal.addresses import here
from services.portal.backend import Backend, Missing, Refused
from services.portal.languages import Language
from services.portal.render import page

_MOST_TOLD = 10_000
Fields: TypeAlias = Callable[[FormData], Mapping[str, Any]]
#: So much of each fact goes with the form, so that the form stays small.
_MOST_LETTERS = 300


class Told:
    """Ids of the requests that services took, as far back as a person may send a form again."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def note(self, request_id: str) -> None:
        self._ids[request_id] = None
        if len(self._ids) > _MOST_TOLD:
            self._ids.popitem(last=False)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._ids


@dataclass(frozen=True)
class Field:
    """One thing that a person writes or picks; `kind` is "text", "words", "pick" (one) or "check" (any)."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    required: bool = True
    help: str = ""
    #: For "pick" and "check": value and what is read.
    options: tuple[tuple[str, str], ...] = ()
    #: The longest text, in characters.
    most: int = 4000


@dataclass(frozen=True)
class Question:
    """What is to be decided, in the reader's language."""

    title: str
    purpose: str
    back: str
    submit: str
    #: What it rests on: label and value.
    facts: tuple[tuple[str, str], ...]
    fields: tuple[Field, ...]
    #: The state that is shown; another one when the form comes back means that somebody was first.
    seen: str
    #: What the signature means, unless the person writes something else; empty where nothing is signed.
    meaning: str = ""
    #: How things stand, in a sentence: read by who was second.
    now: str = ""
    #: Who decided it, once it is decided.
    by: str = ""
    #: True when there is nothing left to decide.
    over: bool = False
    danger: bool = False


@dataclass(frozen=True)
class Change:
    """One thing that is otherwise than a person saw it; empty where it was not there, or is not any more."""

    label: str
    before: str
    now: str


def asked(question: Question, language: Language) -> Question:
    """The question with what every decision is asked: last, what the signature means."""
    if not question.meaning or any(field.name == "meaning" for field in question.fields):
        return question
    label = language.say("What your signature means")
    meaning = Field("meaning", label, "words", value=question.meaning, most=LONGEST)
    return replace(question, fields=(*question.fields, meaning))


def signed(question: Question, fields: Fields) -> Fields:
    """What was written, with what the signature means."""
    return lambda form: {**({"meaning": text(form, "meaning")} if question.meaning else {}), **fields(form)}


def shown(question: Question, language: Language) -> dict[str, str]:
    """What a person sees before signing, by its label: facts, how it stands, and who decided."""
    facts = {label: value[:_MOST_LETTERS] for label, value in question.facts}
    if question.now and question.now not in facts.values():
        facts[language.say("How it stands")] = question.now[:_MOST_LETTERS]
    if question.by:
        facts[language.say("Decided by")] = question.by
    return facts


def changes(seen: str, question: Question, language: Language) -> list[Change]:
    """What is otherwise than `seen` says, which a form brought; nothing where that cannot be read."""
    try:
        told = json.loads(seen)
        before = {str(label): str(value) for label, value in told["facts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    if told.get("language") != language.code:  # labels of another language are not the same things
        return []
    now = shown(question, language)
    return [
        Change(label, before.get(label, ""), now.get(label, ""))
        for label in dict.fromkeys((*before, *now))
        if before.get(label, "") != now.get(label, "")
    ]


def show(
    request: Request,
    question: Question,
    written: Mapping[str, Any] | None = None,
    *,
    refused: Refused | None = None,
    lacking: str = "",
    changed: bool = False,
    missing: Missing | None = None,
    request_id: str = "",
    status: int = 200,
) -> Response:
    """The page on which a person signs; who has no name yet gives it first."""
    if not request.state.actor:
        return RedirectResponse(f"/me?to={quote(here(request))}", status_code=303)
    language: Language = request.state.language
    stale = written is not None and written.get("seen") != question.seen
    values = {
        "question": asked(question, language),
        "shown": json.dumps(
            {"language": language.code, "facts": shown(question, language)}, ensure_ascii=False
        ),
        "changes": changes(str(written.get("shown", "")), question, language) if written and stale else [],
        "written": written,
        "refused": refused,
        "lacking": lacking,
        "changed": changed,
        "unanswered": missing,
        "request_id": request_id or str(uuid.uuid4()),
    }
    return page(request, "confirm.html", values, status=status)


async def settle(
    request: Request,
    ask: Callable[[], Awaitable[Question]],
    service: str,
    method: str,
    fields: Callable[[FormData], Mapping[str, Any]],
) -> Response:
    """Tell the service what was signed, once, if things still stand as they were seen."""
    form = await request.form()
    question = asked(await ask(), request.state.language)
    fields = signed(question, fields)
    told: Told = request.app.state.told
    request_id = str(form.get("request_id", ""))
    if request_id in told:  # sent twice
        return RedirectResponse(question.back, status_code=303)
    if not request.state.actor or form.get("seen") != question.seen:
        return show(request, question, form, changed=True, status=409)
    for field in question.fields:
        if field.required and not any(str(one).strip() for one in form.getlist(field.name)):
            return show(request, question, form, lacking=field.name, status=422)

    backend: Backend = request.app.state.backend
    try:
        await backend.tell(service, method, request.state.actor, **{"request_id": request_id, **fields(form)})
    except Refused as refused:
        return show(request, await ask(), form, refused=refused, status=409)
    except Missing as missing:  # it may have been taken: the same id, so that it counts once
        return show(request, question, form, missing=missing, request_id=request_id, status=503)
    told.note(request_id)
    return RedirectResponse(question.back, status_code=303)


def text(form: FormData, name: str) -> str:
    """What was written into a field, without the space around it."""
    return str(form.get(name, "")).strip()
