"""What changes, told to open pages: one subscription to each service, one line to each page.

Every service says what changed in the order of its log, with the place. The hub puts these into one
short row; a page's stream is a cursor on it. The id of what is sent names the place in every service's
log, so a browser that comes back (`Last-Event-ID`) goes on exactly there. Where the row does not
reach back as far, it is told `stale` once: pages show states, so one look makes them whole.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode, aio

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.log import get_logger
from services.portal.backend import Backend, Missing, told_by

log = get_logger("portal.live")
_KEPT = 20_000
_AGAIN_SECONDS = 1.0
_HEARTBEAT_SECONDS = 10.0
#: Changes that come within this time are told together.
_TOGETHER_SECONDS = 0.1
#: What may have changed without being told.
_EVERYTHING = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the names that it goes by (its id, case and run, and its type)."""

    number: int
    names: frozenset[str]


class _Line:
    """An open page: what it watches, the number of the last change that it was told or may miss, and
    whether there is more."""

    __slots__ = ("number", "watched", "woken")

    def __init__(self, watched: frozenset[str], number: int) -> None:
        self.watched = watched
        self.number = number
        self.woken = asyncio.Event()


class Hub:
    """The changes of all services since the portal started, as far as they are kept."""

    def __init__(self, backend: Backend, version: str = "") -> None:
        self._backend = backend
        #: Of the pages that the portal shows now; an open page may be of another one.
        self._version = version
        self._row: deque[Change] = deque(maxlen=_KEPT)
        self._places: dict[str, common.PositionVector] = {}
        self._number = 0
        self._lines: set[_Line] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.away: set[str] = set()
        #: Told apart from the hub of an earlier process.
        self._birth = uuid.uuid4().hex

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow(name)) for name in self._backend.processes if told_by(name)
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, process: str) -> None:
        """A process's changes, for ever; after a break from where they broke off."""
        while True:
            try:
                async for told in self._backend.watch(process, self._places.get(process)):
                    if process in self.away:
                        self.away.discard(process)
                        self._tell([frozenset({f"service:{process}"})])
                    if told.HasField("position"):
                        self._places[process] = told.position
                    self._tell([_names(change) for change in told.changes])
            except aio.AioRpcError as error:
                if error.code() == StatusCode.DEADLINE_EXCEEDED:
                    continue  # its hour is over
                if error.code() in (StatusCode.OUT_OF_RANGE, StatusCode.INVALID_ARGUMENT):
                    if self._places.pop(process, None) is not None:  # its log is another one now
                        self._tell([_EVERYTHING])
                    elif process not in self.away:
                        log.error("changes are not told", process=process, why=error.details())
            except Missing:
                pass
            except Exception as error:
                log.error("changes are not followed", process=process, exc_info=error)
            if process not in self.away:
                self.away.add(process)
                self._tell([frozenset({f"service:{process}"})])
            await asyncio.sleep(_AGAIN_SECONDS)

    def _tell(self, changes: Iterable[frozenset[str]]) -> None:
        for names in changes:
            self._number += 1
            self._row.append(Change(self._number, names))
            for line in self._lines:
                if names is _EVERYTHING or not names.isdisjoint(line.watched):
                    line.woken.set()

    def _since(self, token: str) -> int | None:
        """The number that a token stands for; None where the row does not reach back to it."""
        try:
            birth, number = json.loads(zlib.decompress(base64.urlsafe_b64decode(token)))
        except (ValueError, zlib.error, TypeError):
            return None
        first = self._row[0].number if self._row else self._number + 1
        if birth != self._birth or not isinstance(number, int) or not first - 1 <= number <= self._number:
            return None
        return number

    def token(self, number: int | None = None) -> str:
        """The place after a change (the latest), as an event id."""
        place = [self._birth, self._number if number is None else number]
        return base64.urlsafe_b64encode(zlib.compress(json.dumps(place).encode())).decode()

    async def stream(self, watched: frozenset[str], last: str) -> AsyncIterator[str]:
        """Server-sent events for one page: `change` with the names that changed, `stale`, and a heartbeat
        when it heard nothing for a while, however much others hear.

        The first one says which version of the pages the portal shows now.
        """
        number = self._since(last) if last else self._number
        kind = "open" if number is not None else "stale"
        line = _Line(watched, self._number if number is None else number)
        self._lines.add(line)
        try:
            yield self._told(kind, line, version=self._version)
            if line.number < self._number:
                line.woken.set()
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT_SECONDS):
                        await line.woken.wait()
                except TimeoutError:
                    line.number = self._number
                    yield self._told("beat", line)
                    continue
                await asyncio.sleep(_TOGETHER_SECONDS)
                line.woken.clear()
                names = self._missed(line)
                line.number = self._number
                if names is None:
                    yield self._told("stale", line)
                elif names:
                    yield self._told("change", line, names=names)
        finally:
            self._lines.discard(line)

    def _missed(self, line: _Line) -> list[str] | None:
        """The names that a line watches and that changed since it was told; None where that is not known."""
        if self._row[0].number > line.number + 1:
            return None
        fresh = [self._row[n] for n in range(line.number - self._number, 0)]
        if any(change.names is _EVERYTHING for change in fresh):
            return None
        return sorted({name for change in fresh for name in change.names & line.watched})

    def _told(self, kind: str, line: _Line, **more: Any) -> str:
        data = json.dumps({**more, "away": sorted(self.away)}, ensure_ascii=False)
        return f"event: {kind}\nid: {self.token(line.number)}\ndata: {data}\n\n"


def _names(change: Any) -> frozenset[str]:
    """What a change goes by: ids as they are, its event's type as "type:LotHeld", and, where it is of a
    site, as "hospital-a/type:NoticeRecorded"."""
    short = change.type.rpartition(".")[2]
    domain = change.type.removeprefix("pharmaloop.").partition(".")[0]
    own = f"{change.site}/type:{short}" if change.site else ""
    return frozenset({change.id, change.case, change.run, f"type:{short}", f"domain:{domain}", own} - {""})


def of_site(site: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names as one site's page listens to them: what hospitals tell of their work it hears of its own
    site alone, the rest as it is."""
    told = {f"type:{event.rpartition('.')[2]}" for event in told_by("clinical")}
    return tuple(f"{site}/{name}" if name in told else name for name in names)
