"""The second step of a decision: one page for every kind, with what it rests on and what one signs.

What was seen goes with the form. If it has changed by the time somebody signs, nothing is told to a
service: the page comes back as things stand now, and says who was first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from services.portal.backend import Refused
from services.portal.deciding import decide, new_request
from services.portal.render import page


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
    #: How things stand, in a sentence: read by who was second.
    now: str = ""
    #: Who decided it, once it is decided.
    by: str = ""
    #: True when there is nothing left to decide.
    over: bool = False
    danger: bool = False


def show(
    request: Request,
    question: Question,
    written: Mapping[str, Any] | None = None,
    *,
    refused: Refused | None = None,
    lacking: str = "",
    changed: bool = False,
    status: int = 200,
) -> Response:
    """The page on which a person signs; who has no name yet gives it first."""
    if not request.state.actor:
        return RedirectResponse(f"/me?to={quote(_here(request))}", status_code=303)
    values = {
        "question": question,
        "written": written,
        "refused": refused,
        "lacking": lacking,
        "changed": changed,
        "request_id": new_request(),
    }
    return page(request, "confirm.html", values, status=status)


def _here(request: Request) -> str:
    path = (request.scope.get("raw_path") or request.url.path.encode()).decode()
    return path + (f"?{request.url.query}" if request.url.query else "")


async def settle(
    request: Request,
    ask: Callable[[], Awaitable[Question]],
    service: str,
    method: str,
    fields: Callable[[FormData], Mapping[str, Any]],
) -> Response:
    """Tell the service what was signed, once, if things still stand as they were seen."""
    form = await request.form()
    question = await ask()
    if form.get("seen") != question.seen:
        if question.over and question.by and question.by == request.state.actor:
            return RedirectResponse(question.back, status_code=303)
        return show(request, question, form, changed=True, status=409)
    for field in question.fields:
        if field.required and not any(str(one).strip() for one in form.getlist(field.name)):
            return show(request, question, form, lacking=field.name, status=422)

    async def again(refused: Refused) -> Response:
        return show(request, await ask(), form, refused=refused, status=409)

    told = {"request_id": str(form.get("request_id", "")), **fields(form)}
    return await decide(request, service, method, told, to=question.back, again=again)


def text(form: FormData, name: str) -> str:
    """What was written into a field, without the space around it."""
    return str(form.get(name, "")).strip()
