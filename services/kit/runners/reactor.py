"""What a service declares of its batch runners: which events they take, and what an event does.

A handler reads and changes states through its `Work`. A `Row` is the fast form
for read models: one event changes one row, so that a whole batch is read and
written in two round trips a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from services.kit.contracts import Contract, event_type
from services.kit.envelope import Event
from services.kit.errors import Integrity
from services.kit.store.kinds import Kind
from services.kit.work import Work

S = TypeVar("S")

#: What an event does: reads and changes states through the work.
Handler = Callable[[Work, Event], None]


@dataclass(frozen=True)
class Row(Generic[S]):
    """An event changes one row of a read model.

    `key` gives the row's id, `fold` the row after the event. Folding a fact
    twice must give what folding it once gives; an event of an aggregate is
    folded once, for the row keeps which versions it has seen.
    """

    kind: Kind[S]
    key: Callable[[Event], str]
    fold: Callable[[S | None, Event], S]


Events = Mapping[type[Message], Handler]
Rows = Mapping[type[Message], Row[Any]]
#: What a dictionary of handlers is, whatever its keys were inferred to be.
AnyEvents = Mapping[Any, Handler] | Mapping[Any, Row[Any]]


@dataclass(frozen=True)
class Reactor:
    """A named set of event handlers.

    `views` are the kinds that this reactor alone writes, from events and from
    these kinds alone: a rebuild makes them anew from the log. `emits` is False
    for a projector, which writes read models and nothing else, ever. Handlers
    have at most `most_bytes` of records in one transaction, for one record may
    tell of a patient, or of three hundred.
    """

    name: str
    events: AnyEvents
    emits: bool = True
    views: tuple[Kind[Any], ...] = ()
    most_bytes: int = 128 * 1024

    def topics(self, contract: Contract, site: str) -> tuple[str, ...]:
        return contract.names_for([event_type(cls) for cls in self.events], site)

    @property
    def rows(self) -> Rows | None:
        """The events as rows, when they are of the fast form."""
        found = {cls: row for cls, row in self.events.items() if isinstance(row, Row)}
        if found and len(found) < len(self.events):
            raise Integrity(f"{self.name}: a projector has rows or handlers, not both")
        return found or None


def projector(name: str, events: AnyEvents, *views: Kind[Any]) -> Reactor:
    """A runner that writes read models and emits nothing. The kinds of its rows are views by themselves."""
    kinds = {row.kind.name: row.kind for row in events.values() if isinstance(row, Row)}
    kinds |= {kind.name: kind for kind in views}
    return Reactor(name, events, emits=False, views=tuple(kinds.values()))
