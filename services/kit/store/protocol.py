"""What the platform asks of a database: transactions over kinds of state.

Batch runners use the synchronous form from their own thread, deciders, steps
and queries the asynchronous one. `memory` stands behind both for unit tests
and simulation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from services.kit.bus.protocol import Position
from services.kit.errors import PharmaLoopError, Retryable
from services.kit.store.kinds import Doc, Kind, Names, OutboxRow, Plan, Read, Stored

T = TypeVar("T")
S = TypeVar("S")
Loaded = dict[Read, list[Stored[Any]]]


class Conflict(Retryable):
    """Somebody else changed what the transaction had read."""


class Unstorable(PharmaLoopError):
    """The database can never take this state: too large, or of a type that it does not know."""


class Transaction(Protocol):
    """A transaction with a snapshot."""

    def load(self, reads: Iterable[Read]) -> Loaded:
        """The states asked for; an empty list for what does not exist."""

    def write(self, plan: Plan) -> None:
        """Write all of it; Conflict when a version is not the one read.

        An outbox row that exists already is left as it is: its event was
        committed by an earlier delivery of the same cause.
        """

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        """The stored documents with these ids, as they are; for rows that are folded in bulk."""

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        """Insert the new and replace the known, as `docs` of the same transaction showed them."""


class AsyncTransaction(Protocol):
    """The same, awaited."""

    async def load(self, reads: Iterable[Read]) -> Loaded: ...

    async def write(self, plan: Plan) -> None: ...


class Store(Protocol):
    """The synchronous form."""

    #: Which makings of views are live.
    names: Names

    def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        """Make the indexes of the kinds; safe to repeat."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` and commit. A transient conflict runs it again, a bounded
        number of times; then Retryable."""

    def close(self) -> None: ...


class Page(NamedTuple):
    """One page of a query; `token` is empty at the end."""

    items: list[Stored[Any]]
    token: str


class Backlog(NamedTuple):
    """What the outbox holds and the log does not: how many rows, and when the oldest came (wall)."""

    waiting: int
    oldest: datetime | None


class AsyncStore(Protocol):
    """The asynchronous form, with the queries and the outbox."""

    #: Which makings of views are live.
    names: Names

    async def prepare(self, kinds: Iterable[Kind[Any]]) -> None: ...

    async def transact(self, work: Callable[[AsyncTransaction], Awaitable[T]]) -> T: ...

    async def get(self, kind: Kind[S], id: str) -> Stored[S] | None:
        """One state, read alone."""

    async def where(self, kind: Kind[S], field: str, value: Any) -> list[Stored[S]]:
        """Every state whose field holds the value."""

    async def among(
        self, kind: Kind[S], field: str, values: Collection[Any], limit: int = 0
    ) -> list[Stored[S]]:
        """Every state whose field (or id, as `_id`) holds one of the values, once, by one query; with a
        limit, any so many of them."""

    async def page(
        self,
        kind: Kind[Any],
        filters: Mapping[str, Any],
        order: str,
        descending: bool,
        token: str,
        limit: int,
    ) -> Page:
        """States whose fields hold the values, ordered by a field and then by id.

        A field may be `_id`, and a value a `Prefix`.

        Invalid on `page_token` for a token that this query did not give.
        """

    async def count(self, kind: Kind[Any], filters: Mapping[str, Any]) -> int:
        """How many states a page query would give over all pages."""

    async def not_after(
        self, kind: Kind[S], field: str, bound: Any, limit: int, also: Mapping[str, Any] | None = None
    ) -> list[Stored[S]]:
        """States whose field is at most the bound, smallest first: what is due.

        `also` gives bounds of other fields that must hold as well.
        """

    async def unpublished(self, limit: int, after: str = "") -> list[OutboxRow]:
        """Outbox rows to publish, in order of (aggregate, seq), of the aggregates behind `after`."""

    async def outbox_waiting(self) -> int:
        """How many outbox rows are not published."""

    async def backlog(self) -> Backlog:
        """How many outbox rows are not published, and since when."""

    async def mark_published(self, positions: Mapping[str, Position]) -> None:
        """Note where outbox rows stand in the log, by event id. What is noted already stays."""

    async def positions_of(self, ids: Iterable[str]) -> dict[str, Position]:
        """Where the events stand; those not published are left out."""

    async def forget(self, kind: Kind[Any]) -> None:
        """Drop one making of a view, whole."""

    async def forget_ids(self, kind: Kind[Any], prefix: str) -> None:
        """Delete the states whose id begins with the prefix."""

    async def close(self) -> None: ...
