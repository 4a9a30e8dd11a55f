"""Dead letters: what a batch runner does with a record that can never be processed.

The letter keeps the record's bytes and headers and the reason; it goes to the
topic's `.dlq` and stays in the database until a person has it processed again
or discards it, and says why. A letter of an ordered key parks the key: what
follows on it becomes a letter too, so that nothing overtakes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from services.kit.bus.protocol import Record
from services.kit.clock import wall_now
from services.kit.errors import Integrity, Poison
from services.kit.ids import derived_id
from services.kit.runners.limit import PARKED_REASON
from services.kit.runners.notes import PARKED, Kept, Making, Parked
from services.kit.store.kinds import Get, Kind, OutboxRow, Plan, Stored, Write
from services.kit.store.protocol import Transaction

#: States of a letter.
OPEN, REDRIVE, DONE, DISCARDED = "open", "redrive", "done", "discarded"


@dataclass(frozen=True)
class Sent:
    """Where the record stands that tells a loop what was decided about its letter."""

    partition: int
    offset: int


#: It may stand somewhere: whoever sent it had no answer yet.
SENDING = Sent(-1, -1)


@dataclass(frozen=True)
class Letter:
    """A record that could not be processed, and what became of it.

    `key` orders letters that must be processed in turn; empty for a fact.
    `waits` says that nobody has settled it yet: it is open, or to be processed
    again. `judged` tells who decided about it, why, and when (wall, ISO). Of a
    loop's letter, `untold` says that the loop has still to be told, `sent` how.
    """

    runner: str
    state: str
    key: str
    reason: str
    description: str
    at: str
    record: Kept
    attempts: int = 1
    judged_by: str = ""
    judged_why: str = ""
    judged_at: str = ""
    waits: bool = True
    untold: bool = False
    sent: Sent | None = None

    def become(self, state: str, **fields: Any) -> Letter:
        """The letter in another state."""
        return replace(self, state=state, waits=state in (OPEN, REDRIVE), **fields)


LETTERS: Kind[Letter] = Kind("_letter", Letter, ("runner", "state", "key", "reason", "waits", "at", "untold"))


def letter_id(runner: str, record: Record) -> str:
    return f"{runner}|{record.topic}|{record.partition}|{record.offset:020d}"


def key_of(runner: str, record: Record) -> str:
    """The order that the record is part of; facts have none."""
    if not any(name == "pl_seq" and value for name, value in record.headers):
        return ""
    return f"{runner}|{record.topic}|{(record.key or b'').hex()}"


def in_order(record: Record) -> bool:
    """Does the record belong to an order, so that nothing may overtake it?"""
    return bool(key_of("", record))


def why(runner: str, record: Record, reason: str, description: str) -> tuple[tuple[str, bytes], ...]:
    """The headers that a dead letter has beyond those of its record."""
    told = {
        "dlq_reason": reason,
        "dlq_description": description,
        "dlq_runner": runner,
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
    }
    return tuple((name, value.encode()) for name, value in told.items())


def outbox_row(runner: str, record: Record, error: Poison) -> OutboxRow:
    """The dead letter as a row to publish: original bytes and headers, and why."""
    headers = record.headers + why(runner, record, error.reason, error.description)
    id = derived_id("dlq", runner, record.topic, str(record.partition), str(record.offset))
    place = f"dlq/{record.topic}/{record.partition}"
    topic = f"{record.topic}.dlq"
    return OutboxRow(id, place, record.offset, topic, record.key or b"", record.value or b"", headers)


class Graves:
    """The dead letters of one batch, and the keys that are parked behind earlier ones.

    A rebuild (`emits` is False) sets aside what the live making has set aside,
    so that a letter that is processed later has its effect in both; it makes no
    letters of its own: what the live making could fold and it cannot, stops it.
    """

    def __init__(
        self, txn: Transaction, making: Making, records: Iterable[Record], *, any_parked: bool, emits: bool
    ) -> None:
        self._txn = txn
        self._making = making
        self._emits = emits
        self._parked: dict[str, Stored[Parked]] = {}
        self._followed: dict[str, Parked] = {}
        self._letters: dict[str, tuple[int, Letter]] = {}
        self._outbox: list[OutboxRow] = []
        self._live: dict[str, Stored[Letter]] = {}
        self._fresh: dict[str, Parked] = {}
        if any_parked:
            parked = {Get(PARKED, making.parked(record)) for record in records if in_order(record)}
            self._parked = {one.id: one for found in txn.load(parked).values() for one in found}
        if not emits:
            letters = {Get(LETTERS, letter_id(making.runner, record)) for record in records}
            self._live = {one.id: one for found in txn.load(letters).values() for one in found}

    @property
    def any_parked(self) -> bool:
        """Is any key of the batch parked?"""
        return bool(self._fresh) or bool(self._parked)

    def passes_over(self, record: Record) -> bool:
        """Has a person discarded the record before this rebuild came to it?"""
        if not self._live:
            return False
        letter = self._live.get(letter_id(self._making.runner, record))
        return letter is not None and letter.state.state == DISCARDED

    def holds(self, record: Record) -> bool:
        """Is the record to be set aside untried: behind one of its key, or as the live making did?"""
        if self._live and self._waits_live(record) is not None:
            return True
        return self.any_parked and in_order(record) and self._is_behind(record)

    def _is_behind(self, record: Record) -> bool:
        id = self._making.parked(record)
        if id in self._fresh:
            return True
        parked = self._parked.get(id)
        return parked is not None and self._followed.get(id, parked.state).before(record)

    def _waits_live(self, record: Record) -> Stored[Letter] | None:
        letter = self._live.get(letter_id(self._making.runner, record))
        return letter if letter is not None and letter.state.waits else None

    def follow(self, record: Record) -> str | None:
        """Set the record aside untried.

        The parking is written again, so that whoever ends it at the same
        moment conflicts with this batch: else the record would be passed over.
        """
        id = self._making.parked(record)
        if id in self._parked:
            self._followed[id] = self._parked[id].state
        return self.bury(record, Poison(PARKED_REASON, "an earlier record of this key was dead-lettered"))

    def bury(self, record: Record, error: Poison) -> str | None:
        """Make a letter of the record; its reason, or None where there is nothing to tell."""
        if not self._emits:
            self._as_live(record, error)
            return None
        id = letter_id(self._making.runner, record)
        base, letter = self._letter(id, record, error)
        if letter is None:
            return None
        self._letters[id] = (base, letter)
        self._outbox.append(outbox_row(self._making.runner, record, error))
        self._park(record)
        return error.reason

    def _as_live(self, record: Record, error: Poison) -> None:
        """Set aside what the live making has set aside.

        The letter is written again, so that whoever settles it at the same moment
        conflicts with this batch: else one of the two makings would lack the record.
        """
        letter = self._waits_live(record)
        if letter is None:
            raise Integrity(
                f"{record.topic}/{record.partition}/{record.offset} cannot be folded, and the view that "
                f"answers has folded it ({error}): look at the newest deploy, or give the rebuild up "
                "(pharmaloop rebuild cancel)"
            )
        self._letters[letter.id] = (letter.version, letter.state)
        self._park(record)

    def _park(self, record: Record) -> None:
        """What follows on the record's key goes the same way."""
        making, id = self._making, self._making.parked(record)
        if not in_order(record) or self._is_behind(record):
            return
        where = f"{record.topic}/{record.partition}/{record.offset}"
        key = (record.key or b"").decode(errors="replace")
        parked = Parked(making.runner, making.generation, record.topic, key, where)
        # A record that waited may stand before the one that parked the key.
        (self._followed if id in self._parked else self._fresh)[id] = parked

    def _letter(self, id: str, record: Record, error: Poison) -> tuple[int, Letter | None]:
        found = self._txn.load([Get(LETTERS, id)])[Get(LETTERS, id)]
        before = found[0] if found else None
        if before is not None and before.state.state == DISCARDED:
            return 0, None
        runner = self._making.runner
        fresh = Letter(
            runner=runner,
            state=OPEN,
            key=key_of(runner, record),
            reason=error.reason,
            description=error.description,
            at=wall_now().isoformat(),
            record=Kept.of(record),
        )
        if before is None:
            return 0, fresh
        return before.version, replace(fresh, attempts=before.state.attempts + 1, at=before.state.at)

    def plan(self) -> Plan:
        """What the batch's transaction writes for its letters."""
        writes = [Write(LETTERS, id, base, base + 1, letter) for id, (base, letter) in self._letters.items()]
        writes += [Write(PARKED, id, 0, 1, parked) for id, parked in self._fresh.items()]
        for id, parked in sorted(self._followed.items()):
            version = self._parked[id].version
            writes.append(Write(PARKED, id, version, version + 1, parked))
        return Plan(tuple(writes), tuple(self._outbox))
