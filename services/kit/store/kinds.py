"""Kinds of stored state: a name, a frozen dataclass, and how events change it.

A stored document is `{_id, v, s}`: `v` is the version (raised by one with
every event, or with every write where no events are involved), `s` the state
in plain types. One codec serves every state (msgspec); moments are stored as
ISO text, because BSON's own type drops microseconds.

A document may have fields that another build wrote and this one does not know:
they stay when the state is written again, so that they are there when that
build runs again. That holds for the fields of the state itself; what a field
holds (the entries of a list, a part) is written whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from google.protobuf.message import Message

S = TypeVar("S")
Doc = dict[str, Any]


@dataclass(frozen=True)
class Prefix:
    """Stands for a value in the filters of a page: any text that begins with this."""

    text: str


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of state, and the collection it lives in.

    `fields` are the state's fields that may be searched for by value; a field
    that holds a list matches each of its elements. `orders` are fields that are
    filtered by (all but the last) and paged in the order of (the last one). A
    kind with `evolve` is an aggregate: it changes by its own events only.
    `generation` pins one making of a view; 0 is the one that is live.
    """

    name: str
    state: type[S]
    fields: tuple[str, ...] = ()
    evolve: Callable[[S | None, Message], S] | None = None
    generation: int = 0
    orders: tuple[tuple[str, ...], ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)

    def pinned(self, generation: int) -> Kind[S]:
        """The same kind in one making of its view."""
        return replace(self, generation=generation)

    def to_doc(self, id: str, version: int, state: S) -> Doc:
        return {"_id": id, "v": version, "s": msgspec.to_builtins(state, builtin_types=(bytes,))}

    def from_doc(self, doc: Doc) -> Stored[S]:
        return Stored(doc["_id"], doc["v"], msgspec.convert(doc["s"], self.state, builtin_types=(bytes,)))

    def changes(self, version: int, state: S) -> Doc:
        """What writing the state over an earlier one sets in its document; other builds' fields stay."""
        plain = self.to_doc("", version, state)["s"]
        return {"v": version, **{f"s.{name}": value for name, value in plain.items()}}

    def matches(self, state: S, field: str, value: Any) -> bool:
        """Does the state hold the value in the field, as the database would say?"""
        held = getattr(state, field)
        if isinstance(value, Prefix):
            return isinstance(held, str) and held.startswith(value.text)
        return value in held if isinstance(held, (tuple, frozenset, list)) else bool(held == value)


def over(stored: Doc, doc: Doc) -> Doc:
    """The document that is put over a stored one: with the fields of its state that this has not."""
    if unknown := stored["s"].keys() - doc["s"].keys():
        return {**doc, "s": {**doc["s"], **{name: stored["s"][name] for name in sorted(unknown)}}}
    return doc


class Names:
    """Which making of a view is live, by the kind's name; the first where nothing is said."""

    def __init__(self) -> None:
        self.live: dict[str, int] = {}

    def of(self, kind: Kind[Any]) -> str:
        """Name of the collection that holds the kind."""
        generation = kind.generation or self.live.get(kind.name, 1)
        return kind.name if generation == 1 else f"{kind.name}~{generation}"


class Stored(NamedTuple, Generic[S]):
    """A state as it stands in the database."""

    id: str
    version: int
    state: S


class Get(NamedTuple):
    """Read one state by id."""

    kind: Kind[Any]
    id: str


class Where(NamedTuple):
    """Read every state whose field holds the value, and of these those whose other fields hold `also`."""

    kind: Kind[Any]
    field: str
    value: Any
    also: tuple[tuple[str, Any], ...] = ()

    def takes(self, state: Any) -> bool:
        """Would the database give the state?"""
        pairs = ((self.field, self.value), *self.also)
        return all(self.kind.matches(state, field, value) for field, value in pairs)


Read = Get | Where


class Write(NamedTuple):
    """Put (or, with no state, delete) one state, if it still has the version read.

    `base` is 0 for a state that did not exist.
    """

    kind: Kind[Any]
    id: str
    base: int
    version: int
    state: Any | None


class OutboxRow(NamedTuple):
    """An event to publish; published in order of (aggregate, seq)."""

    id: str
    aggregate: str
    seq: int
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Plan(NamedTuple):
    """Everything that one transaction writes."""

    writes: tuple[Write, ...]
    outbox: tuple[OutboxRow, ...]
