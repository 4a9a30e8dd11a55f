"""Ids of runs, deviations and corrective actions by their beginning, where it is of one thing only.

An id that is whole, or of another form than those that the platform makes, is taken as it stands and
nobody is asked. What no thing begins with is left to the service that is asked next: it says so itself.
"""

from __future__ import annotations

import re
from typing import Any

import click

from pharmaloop.traceability.v1 import service_pb2 as api
from services.cli.session import Failure, Session

#: A beginning is so long at least.
SHORTEST = 6
_WHOLE = 36
_BEGINNING = re.compile(rf"[0-9a-fA-F]{{{SHORTEST},7}}|[0-9a-fA-F]{{8}}(-[0-9a-fA-F-]*)?")
#: As many as the search names at most; where it names so many there may be more.
_MOST = 20


class Beginning(click.ParamType):
    """An id of some kind of thing, or its beginning."""

    name = "text"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        session = ctx.find_object(Session) if ctx else None
        if ctx is None or session is None or ctx.resilient_parsing or not is_beginning(text):
            return text
        of_lot = ctx.params.get("lot") if self.kind == "deviation" else None
        return _found(session, self.kind, text.lower(), of_lot or "")


def is_beginning(text: str) -> bool:
    """Is it the beginning of an id as the platform makes them, and not all of it?"""
    return len(text) < _WHOLE and bool(_BEGINNING.fullmatch(text))


def _found(session: Session, kind: str, text: str, lot: str) -> str:
    request = api.FindThingsRequest(text=text, most=_MOST)
    things = session.call(session.traceability.FindThings, request).things
    ids = sorted(
        thing.id
        for thing in things
        if thing.kind == kind and thing.id.startswith(text) and (not lot or thing.lot == lot)
    )
    if len(ids) > 1 or (ids and len(things) >= _MOST):
        more = ", and there may be more" if len(things) >= _MOST else ""
        raise Failure(
            f"{text} is the beginning of more than one {kind}: {', '.join(ids)}{more}",
            "give more of the id, or all of it",
        )
    return ids[0] if ids else text


RUN_ID = Beginning("run")
DEVIATION_ID = Beginning("deviation")
CAPA_ID = Beginning("capa")
