"""The ChangesService of every service, and what other subscriptions of its services are made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pharmaloop.common.v1 import changes_pb2 as api
from pharmaloop.common.v1 import changes_pb2_grpc as api_grpc
from pharmaloop.common.v1 import types_pb2 as common
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, type_of
from services.kit.errors import Poison
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp
from services.kit.watching import Batch

if TYPE_CHECKING:
    from services.kit.app import App

T = TypeVar("T")


def of_types(types: Iterable[str]) -> Callable[[Record], bool]:
    """Is a record an event of one of these types? What bears no type is none."""
    among = frozenset(types)

    def wanted(record: Record) -> bool:
        try:
            return type_of(record) in among
        except Poison:
            return False

    return wanted


def events_of(records: Iterable[Record]) -> list[Event]:
    """The events of the records; what cannot be read is a dead letter of its runners, and is left out."""
    found = []
    for record in records:
        try:
            found.append(from_record(contract(), record))
        except Poison:
            continue
    return found


class ChangesServicer(api_grpc.ChangesServiceServicer):
    def __init__(self, app: App) -> None:
        self._app = app

    async def WatchChanges(
        self, request: api.WatchChangesRequest, context: Any
    ) -> AsyncIterator[api.WatchChangesResponse]:
        watching = self._app.watching
        topics = watching.topics(request.types)
        wanted = of_types(request.types or watching.types)
        following = watching.follow(topics, request.after, wanted, actor=caller().actor)
        async with aclosing(following) as batches:
            async for batch in batches:
                changes = [self._change(event) for event in events_of(batch.records)]
                yield api.WatchChangesResponse(changes=changes, position=batch.position, lag=batch.lag)

    def _change(self, event: Event) -> api.Change:
        return api.Change(
            type=event.type,
            id=event.key,
            event=event.id,
            at=timestamp(event.time.astimezone(UTC)),
            # A case names a lot, and a site hears of no lot that its own people did not receive (ADR 14).
            case="" if self._app.site else event.case,
            run=event.run,
            site=self._site_of(event),
        )

    def _site_of(self, event: Event) -> str:
        """The site that an event names; one of a site's own topics is of that site, named or not."""
        named = getattr(event.message, "site", "")
        if isinstance(named, str) and named:
            return named
        return self._app.site if contract().topic_of(event.type).scope == "site" else ""


def add_changes(app: App, server: Any) -> None:
    api_grpc.add_ChangesServiceServicer_to_server(ChangesServicer(app), server)


class Standing(NamedTuple):
    """Something as it stands, or None; `position` only where all before it is told."""

    item: Any
    position: common.PositionVector | None
    lag: int


async def as_they_stand(
    following: AsyncGenerator[Batch],
    first: Callable[[], AsyncIterator[T]] | None,
    look_up: Callable[[str], Awaitable[T | None]],
) -> AsyncGenerator[Standing]:
    """What changed, by the keys of its records, as it stands then. What changed often at once is told once.

    `first` gives what is told before: all that stands when the subscription begins. Only an answer that ends
    what belongs together has a position, so whoever breaks off in between is told all of it again.
    """
    async with aclosing(following) as batches:
        async for batch in batches:
            if first is not None:
                async for item in first():
                    yield Standing(item, None, batch.lag)
                first = None
            keys = dict.fromkeys((record.key or b"").decode(errors="replace") for record in batch.records)
            found = [stands for key in keys if (stands := await look_up(key)) is not None]
            for item in found[:-1]:
                yield Standing(item, None, batch.lag)
            yield Standing(found[-1] if found else None, batch.position, batch.lag)
