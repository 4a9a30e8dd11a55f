"""Lists that a page needs whole: every page of an answer, up to a stated number."""

from __future__ import annotations

from typing import Any

from services.portal.backend import Backend

_ROWS = 1000


async def every(
    backend: Backend, service: str, method: str, part: str, *, most_pages: int = 5, **fields: Any
) -> tuple[list[Any], bool]:
    """The rows of `part` over all pages of a query, and whether there are more than were asked for."""
    found: list[Any] = []
    token = ""
    for _ in range(most_pages):
        answer = await backend.ask(service, method, page_size=_ROWS, page_token=token, **fields)
        found += getattr(answer, part)
        token = answer.next_page_token
        if not token:
            return found, False
    return found, True
