"""A service's database as the model keeps it, and the real code run over it.

A store is a small number; so is each value in it. What a transaction does is
found by running the service's own code once for every combination of values
that it reads, and remembered: the code is the model's transition function, and
a search of millions of steps calls it some thousand times.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from services.kit.runners.letters import LETTERS, Letter
from services.kit.store.kinds import Doc, Get, Kind, Plan, Read, Stored, Where
from services.kit.store.protocol import Loaded
from tests.model import messages

#: The value of what is not there.
NONE = 0


class Effect(NamedTuple):
    """What a transaction does when it commits: (slot, value) written, messages told, the error raised."""

    writes: tuple[tuple[int, int], ...]
    told: tuple[int, ...]
    error: str = ""


class Held(NamedTuple):
    """A value: of an aggregate with its version, of anything else with version 1."""

    version: int
    state: Any


#: The code of one transaction, over `load` and `write`.
Code = Callable[["ModelTransaction"], None]


@dataclass
class _Node:
    """What a transaction reads next, and where each answer leads: to further reads, or to its effect."""

    reads: tuple[Read, ...]
    after: dict[tuple[Any, ...], _Node | Effect] = field(default_factory=dict)


class Database:
    """The stores that one service may have."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], int] = {}
        self.slots: list[tuple[Kind[Any], str]] = []
        self._of_kind: dict[str, list[int]] = {}
        self._values: dict[tuple[str, bytes], int] = {}
        self.values: list[Held] = [Held(0, None)]
        self._stores: dict[tuple[int, ...], int] = {}
        self.stores: list[tuple[int, ...]] = []
        self._first: dict[Hashable, _Node | Effect] = {}
        self._effects: dict[tuple[int, Hashable], Effect] = {}
        self._applied: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        self._matches: dict[tuple[Any, ...], bool] = {}
        self.empty = self._number(())

    # -- values -----------------------------------------------------------

    def slot(self, kind: Kind[Any], id: str) -> int:
        place = (kind.name, id)
        if place not in self._slots:
            self._slots[place] = len(self.slots)
            self.slots.append((kind, id))
            self._of_kind.setdefault(kind.name, []).append(self._slots[place])
        return self._slots[place]

    def value(self, kind: Kind[Any], version: int, state: Any) -> int:
        if state is None:
            return NONE
        if kind.name == LETTERS.name:
            assert isinstance(state, Letter)
            state = replace(state, at="")  # the only moment that a real clock makes
        version = version if kind.evolve is not None else 1
        key = (kind.name, msgspec.msgpack.encode((version, state), order="sorted"))
        if key not in self._values:
            self._values[key] = len(self.values)
            self.values.append(Held(version, state))
        return self._values[key]

    def _number(self, store: tuple[int, ...]) -> int:
        if store not in self._stores:
            self._stores[store] = len(self.stores)
            self.stores.append(store)
        return self._stores[store]

    # -- reading ----------------------------------------------------------

    def get(self, store: int, kind: Kind[Any], id: str) -> Any:
        """The state in a store; None where there is none."""
        return self.values[self._at(self.stores[store], self.slot(kind, id))].state

    def all(self, store: int, kind: Kind[Any]) -> dict[str, Any]:
        """Every state of a kind, by id."""
        held = self.stores[store]
        found = {self.slots[slot][1]: self._at(held, slot) for slot in self._of_kind.get(kind.name, ())}
        return {id: self.values[value].state for id, value in sorted(found.items()) if value}

    def value_of(self, store: int, kind: Kind[Any], id: str) -> int:
        return self._at(self.stores[store], self.slot(kind, id))

    @staticmethod
    def _at(held: tuple[int, ...], slot: int) -> int:
        return held[slot] if slot < len(held) else NONE

    def answer(self, held: tuple[int, ...], read: Read) -> Any:
        """What a read finds: a value, or (slot, value) of each state that matches."""
        if isinstance(read, Get):
            return self._at(held, self.slot(read.kind, read.id))
        slots = self._of_kind.get(read.kind.name, ())
        found = ((slot, self._at(held, slot)) for slot in slots)
        return tuple(pair for pair in found if pair[1] and self._match(pair[1], read))

    def _match(self, value: int, where: Where) -> bool:
        key = (value, *where[1:])
        if key not in self._matches:
            self._matches[key] = where.takes(self.values[value].state)
        return self._matches[key]

    def stored(self, read: Read, answer: Any) -> list[Stored[Any]]:
        pairs = [(self.slot(read.kind, read.id), answer)] if isinstance(read, Get) else answer
        return [Stored(self.slots[slot][1], *self.values[value]) for slot, value in pairs if value]

    # -- transactions -----------------------------------------------------

    def effect(self, store: int, job: Hashable, code: Code, *, parts: bool = False) -> Effect:
        """What the code does on a snapshot. `job` names the code; with `parts` it reads what it wrote."""
        key = (store, job)
        found = self._effects.get(key)
        if found is None:
            held = self.stores[store]
            found = self._effects[key] = self._run(held, code) if parts else self._walk(held, job, code)
        return found

    def _run(self, held: tuple[int, ...], code: Code) -> Effect:
        transaction = ModelTransaction(self, held)
        code(transaction)
        return transaction.effect()

    def _walk(self, held: tuple[int, ...], job: Hashable, code: Code) -> Effect:
        """Follow what the code read before to its effect; run it where nobody has been."""
        at = self._first.get(job)
        while isinstance(at, _Node):
            answers = tuple(self.answer(held, read) for read in at.reads)
            at = at.after.get(answers)
        if at is not None:
            return at
        transaction = ModelTransaction(self, held)
        code(transaction)
        end = transaction.effect()
        self._learn(job, transaction.seen, end)
        return end

    def _learn(
        self, job: Hashable, seen: list[tuple[tuple[Read, ...], tuple[Any, ...]]], end: Effect
    ) -> None:
        nodes: list[_Node | Effect] = [_Node(reads) for reads, _ in seen] + [end]
        at = self._first.setdefault(job, nodes[0])
        for number, (_, answers) in enumerate(seen):
            assert isinstance(at, _Node)
            at = at.after.setdefault(answers, nodes[number + 1])

    def commit(self, store: int, effect: Effect) -> int:
        """The store after a transaction's writes."""
        key = (store, effect.writes)
        if key not in self._applied:
            held = list(self.stores[store])
            for slot, value in effect.writes:
                held += [NONE] * (slot + 1 - len(held))
                held[slot] = value
            while held and not held[-1]:
                held.pop()
            self._applied[key] = self._number(tuple(held))
        return self._applied[key]


class ModelTransaction:
    """A transaction over one store. It sees its own writes, as a second one right behind it would."""

    def __init__(self, database: Database, held: tuple[int, ...]) -> None:
        self._database = database
        self._held = list(held)
        self._written: dict[int, int] = {}
        self._told: list[int] = []
        self.error = ""
        self.seen: list[tuple[tuple[Read, ...], tuple[Any, ...]]] = []

    def load(self, reads: Iterable[Read]) -> Loaded:
        asked = tuple(sorted(set(reads), key=_order))
        answers = tuple(self._database.answer(tuple(self._held), read) for read in asked)
        self.seen.append((asked, answers))
        return {read: self._database.stored(read, at) for read, at in zip(asked, answers, strict=True)}

    def write(self, plan: Plan) -> None:
        for write in plan.writes:
            slot = self._database.slot(write.kind, write.id)
            value = self._database.value(write.kind, write.version, write.state)
            self._held += [NONE] * (slot + 1 - len(self._held))
            self._held[slot] = self._written[slot] = value
        rows = sorted(plan.outbox, key=lambda row: (row.aggregate, row.seq))
        self._told += [messages.take(row) for row in rows if not row.topic.endswith(".dlq")]

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        raise NotImplementedError("rows are no part of the protocol")

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        raise NotImplementedError("rows are no part of the protocol")

    def effect(self) -> Effect:
        if self.error:
            return Effect((), (), self.error)
        return Effect(tuple(sorted(self._written.items())), tuple(self._told))


def _order(read: Read) -> tuple[str, ...]:
    if isinstance(read, Get):
        return read.kind.name, "", read.id
    return read.kind.name, read.field, str(read.value), str(read.also)
