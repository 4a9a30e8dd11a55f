"""Decisions of people: two steps, a reason, a meaning, once, and told plainly when somebody was first.

The first step shows what is to be decided with everything it rests on; the second is the signature's
place: today a name and its meaning, later a key. The form carries the id of the request, so that
sending it twice is one decision, and what was seen, so that a page that has grown old is told so.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from services.portal.backend import Backend, Refused
from services.portal.render import page


def new_request() -> str:
    """The id of one decision, made when its form is shown."""
    return str(uuid.uuid4())


async def decide(
    request: Request,
    service: str,
    method: str,
    fields: Mapping[str, Any],
    *,
    to: str,
    again: Callable[[Refused], Any],
) -> Response:
    """Tell a service what a person decided, then lead to `to`; `again` shows the form with the refusal."""
    if not request.state.actor:
        return RedirectResponse(f"/me?to={request.url.path}", status_code=303)
    backend: Backend = request.app.state.backend
    try:
        await backend.tell(service, method, request.state.actor, **fields)
    except Refused as refused:
        shown: Response = await again(refused)
        return shown
    return RedirectResponse(to, status_code=303)


def refused_page(request: Request, refused: Refused, back: str) -> Response:
    """What a service refused, as a page of its own."""
    status = 404 if refused.unknown else 409
    return page(request, "refused.html", {"refused": refused, "back": back}, status=status)
