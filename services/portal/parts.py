"""Parts of a page that come from several services: what is there is shown, what is not is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from services.portal.backend import Missing, Refused


async def parts(**asked: Awaitable[Any]) -> tuple[dict[str, Any], list[Missing]]:
    """Answers by name, asked together; None for a part whose service is away or knows nothing of it.

    Any other refusal is the page's own: it is raised.
    """
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    found: dict[str, Any] = {}
    missing: list[Missing] = []
    for name, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Missing):
            missing.append(answer)
        elif isinstance(answer, BaseException) and not (isinstance(answer, Refused) and answer.unknown):
            raise answer
        found[name] = None if isinstance(answer, BaseException) else answer
    return found, missing
