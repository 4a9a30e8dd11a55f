"""The second step of a decision: one page for every kind, with what it rests on and what one signs.

What was seen goes with the form. If it has changed by the time somebody signs, nothing is told to a
service: the page comes back as things stand now, says who was first, and shows what was seen beside what
is. The form carries the id of its request, so that sending it twice is one decision. The signature is a
name and its meaning, which goes to the service with the decision (21 CFR 11.50); a key takes the name's
place when identity arrives.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.words import LONGEST
from services.portal.actors import clean, keep
from services.portal.backend import Backend, Missing, Refused
from services.portal.languages import Language
from services.portal.render import page

#: Where a form has the name of a person whom the portal does not know yet.
NAME = "actor"
_MOST_TOLD = 10_000
Fields: TypeAlias = Callable[[FormData], Mapping[str, Any]]
#: So much of each fact goes with the form, so that the form stays small.
_MOST_LETTERS = 300


class Unreadable(ValueError):
    """What was written into a field is not what it takes; `lacking`: nothing was."""

    def __init__(self, field: str, lacking: bool = False) -> None:
        super().__init__(field)
        self.field, self.lacking = field, lacking


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
    """One thing that a person writes or picks.

    `kind` is "text", "words", "pick" (one), "check" (any) or "moment" (a local date and time).
    """

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
    #: Where a signature leads; empty where it leads back.
    done: str = ""


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
    bad: Unreadable | None = None,
    changed: bool = False,
    missing: Missing | None = None,
    request_id: str = "",
    status: int = 200,
) -> Response:
    """The page on which a person signs: what is decided, then who signs, unless the portal knows it."""
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
        "lacking": bad.field if bad and bad.lacking else "",
        "unreadable": bad.field if bad and not bad.lacking else "",
        "nameless": bool(bad and bad.field == NAME),
        "named": str(written.get(NAME, "")) if written else "",
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
        return RedirectResponse(question.done or question.back, status_code=303)
    if form.get("seen") != question.seen:
        return show(request, question, form, changed=True, status=409)
    actor = request.state.actor or clean(text(form, NAME))
    try:
        if not actor:
            raise Unreadable(NAME, lacking=True)
        wanted = {"request_id": request_id, **_read(question, form, fields)}
    except Unreadable as bad:
        return show(request, question, form, bad=bad, status=422)
    backend: Backend = request.app.state.backend
    try:
        await backend.tell(service, method, actor, **wanted)
    except Refused as refused:
        return show(request, await ask(), form, refused=refused, status=409)
    except Missing as missing:  # it may have been taken: the same id, so that it counts once
        return show(request, question, form, missing=missing, request_id=request_id, status=503)
    told.note(request_id)
    answer = RedirectResponse(question.done or question.back, status_code=303)
    if not request.state.actor:
        keep(answer, actor)
    return answer


def _read(
    question: Question, form: FormData, fields: Callable[[FormData], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What was written, as the service takes it."""
    for field in question.fields:
        if field.required and not any(str(one).strip() for one in form.getlist(field.name)):
            raise Unreadable(field.name, lacking=True)
    return fields(form)


def moment(form: FormData, name: str, zone: str) -> common.Moment:
    """A local date and time as it was written, with its offset from UTC in the reader's zone."""
    try:
        at = datetime.fromisoformat(text(form, name))
        at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
        found = common.Moment(offset_minutes=int(at.utcoffset().total_seconds() // 60))  # type: ignore[union-attr]
        found.at.FromDatetime(at.astimezone(UTC).replace(tzinfo=None))
    except (ValueError, OverflowError) as bad:
        raise Unreadable(name) from bad
    return found


def written(at: datetime, zone: str) -> str:
    """A moment as a field for date and time takes it."""
    return at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M:%S")


def number(form: FormData, name: str) -> float:
    """A finite number, with a point or a comma."""
    try:
        found = float(text(form, name).replace(",", "."))
    except ValueError as bad:
        raise Unreadable(name) from bad
    if not math.isfinite(found):
        raise Unreadable(name)
    return found


def text(form: FormData, name: str) -> str:
    """What was written into a field, without the space around it."""
    return str(form.get(name, "")).strip()
