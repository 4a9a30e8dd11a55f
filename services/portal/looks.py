"""One look serves everybody who sees the same: open pages that look again share the answer.

What is live on a page does not depend on who looks, only on the page, the language and the zone. So
two hundred open pages of one board cost one page a moment, however often it changes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What an open page says when it looks again.
HEADER = "x-look"
_MOST = 1_000


@dataclass(slots=True)
class _Look:
    scope: Scope
    told: asyncio.Future[list[Message]]
    until: float


class Looks:
    """Looks of the last moment, by what is looked at."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: dict[tuple[str, ...], _Look] = {}

    async def share(
        self, what: tuple[str, ...], app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a look; made once by `app` for all who ask while it is made and for a moment after."""
        now = time.monotonic()
        look = self._looks.get(what)
        if look is None or look.until < now:
            if len(self._looks) >= _MOST:
                self._looks = {key: one for key, one in self._looks.items() if one.until >= now}
            look = _Look(scope, asyncio.ensure_future(_whole(app, scope, receive)), now + self._seconds)
            look.told.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._looks[what] = look
        messages = await asyncio.shield(look.told)
        # Whoever shared it asked for the same page as who had it made.
        scope["route"] = look.scope.get("route")
        for message in messages:
            await send(dict(message))


async def _whole(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    """All that an application tells in answer to a request."""
    told: list[Message] = []

    async def keep(message: Message) -> None:
        told.append(message)

    await app(scope, receive, keep)
    return told
