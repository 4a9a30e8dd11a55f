"""One look serves everybody who sees the same: open pages that look again share the answer.

What is live on a page does not depend on who looks, only on the page, the language and the zone. So
two hundred open pages of one board cost one page a moment, however often it changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi.responses import Response

#: What an open page says when it looks again.
HEADER = "x-look"
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class _Seen:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def answer(self) -> Response:
        made = Response(self.body, self.status)
        made.raw_headers = list(self.headers)
        return made


@dataclass(slots=True)
class _Look:
    seen: asyncio.Future[_Seen]
    until: float


class Looks:
    """Looks of the last moment, by what is looked at."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: dict[tuple[str, ...], _Look] = {}

    async def share(self, what: tuple[str, ...], make: Callable[[], Awaitable[Any]]) -> Response:
        """The answer to a look; made once for all who ask while it is made and for a moment after."""
        now = time.monotonic()
        look = self._looks.get(what)
        if look is None or look.until < now:
            if len(self._looks) >= _MOST:
                self._looks = {key: one for key, one in self._looks.items() if one.until >= now}
            look = _Look(asyncio.ensure_future(_whole(make)), now + self._seconds)
            look.seen.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._looks[what] = look
        return (await asyncio.shield(look.seen)).answer()


async def _whole(make: Callable[[], Awaitable[Any]]) -> _Seen:
    answer = await make()
    body = b"".join([part async for part in answer.body_iterator])
    return _Seen(answer.status_code, list(answer.raw_headers), body)
