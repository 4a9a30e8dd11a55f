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
from collections.abc import AsyncIterator, Callable, Iterable
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


class Hub:
    """The changes of all services since the portal started, as far as they are kept."""

    def __init__(self, backend: Backend, version: str = "") -> None:
        self._backend = backend
        #: Of the pages that the portal shows now; an open page may be of another one.
        self._version = version
        self._row: deque[Change] = deque(maxlen=_KEPT)
        self._places: dict[str, common.PositionVector] = {}
        self._number = 0
        self._more = asyncio.Condition()
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
                        await self._tell(process, [frozenset({f"service:{process}"})])
                    if told.HasField("position"):
                        self._places[process] = told.position
                    await self._tell(process, [_names(change) for change in told.changes])
            except aio.AioRpcError as error:
                if error.code() == StatusCode.DEADLINE_EXCEEDED:
                    continue  # its hour is over
                if error.code() in (StatusCode.OUT_OF_RANGE, StatusCode.INVALID_ARGUMENT):
                    if self._places.pop(process, None) is not None:  # its log is another one now
                        await self._tell(process, [_EVERYTHING])
                    elif process not in self.away:
                        log.error("changes are not told", process=process, why=error.details())
            except Missing:
                pass
            except Exception as error:
                log.error("changes are not followed", process=process, exc_info=error)
            if process not in self.away:
                self.away.add(process)
                await self._tell(process, [frozenset({f"service:{process}"})])
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _tell(self, process: str, changes: Iterable[frozenset[str]]) -> None:
        some = False
        for names in changes:
            self._number += 1
            self._row.append(Change(self._number, names))
            some = True
        if some:
            async with self._more:
                self._more.notify_all()

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

    async def stream(self, watched: frozenset[str], last: str, gone: Callable[[], Any]) -> AsyncIterator[str]:
        """Server-sent events for one page: `change` with the names that changed, `stale`, and a heartbeat.

        The first one says which version of the pages the portal shows now.
        """
        number = self._since(last) if last else self._number
        hello = {"away": sorted(self.away), "version": self._version}
        if number is None:
            number = self._number
            yield _event("stale", hello, self.token(number))
        else:
            yield _event("open", hello, self.token(number))
        clock = asyncio.get_running_loop().time
        silent_until = clock() + _HEARTBEAT_SECONDS
        while not await gone():
            try:
                # What others watch comes without end, and is silence to this one.
                async with asyncio.timeout_at(silent_until), self._more:
                    while self._number == number:
                        await self._more.wait()
            except TimeoutError:
                silent_until = clock() + _HEARTBEAT_SECONDS
                yield _event("beat", {"away": sorted(self.away)}, self.token(number))
                continue
            await asyncio.sleep(_TOGETHER_SECONDS)
            if self._row[0].number > number + 1:
                number = self._number
                yield _event("stale", {"away": sorted(self.away)}, self.token(number))
                continue
            fresh = [self._row[n] for n in range(number - self._row[-1].number, 0)]
            number = self._number
            if any(change.names is _EVERYTHING for change in fresh):
                silent_until = clock() + _HEARTBEAT_SECONDS
                yield _event("stale", {"away": sorted(self.away)}, self.token(number))
            elif seen := sorted({name for change in fresh for name in change.names & watched}):
                silent_until = clock() + _HEARTBEAT_SECONDS
                yield _event("change", {"names": seen, "away": sorted(self.away)}, self.token(number))


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


def _event(kind: str, data: dict[str, Any], token: str) -> str:
    return f"event: {kind}\nid: {token}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
