"""The rows of a loop's dead letters: what comes from the log, what is told to the loop, what becomes of them.

Pure, or inside a transaction that somebody else runs (`loop_letters`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile

from services.kit.bus.protocol import Outgoing, Partition, Position, Record
from services.kit.runners.letters import (
    DISCARDED,
    DONE,
    LETTERS,
    OPEN,
    REDRIVE,
    SENDING,
    Letter,
    Sent,
    letter_id,
)
from services.kit.runners.limit import PARKED_REASON
from services.kit.runners.loop import DISCARD, place_in, place_of, source_in
from services.kit.runners.loop import REDRIVE as AGAIN
from services.kit.runners.notes import Kept
from services.kit.store.kinds import Get, Plan, Stored, Where, Write
from services.kit.store.protocol import Transaction


@dataclass(frozen=True)
class Came:
    """A letter from the topic: its row's id, the offset of the record that failed, was it sent again?"""

    id: str
    failed: int
    again: bool
    letter: Letter

    def onto(self, before: Letter | None) -> Letter:
        """The row after the letter came; the row itself where it says nothing new."""
        if before is None:
            return self.letter
        if not self.again or before.state == DISCARDED:
            return before  # the loop sends a letter again when it died before it stored that it had
        if before.state == REDRIVE and (before.sent is None or before.sent.offset > self.failed):
            return before  # of an earlier sending: the newest decides
        told = {"untold": False, "sent": None}
        if self.letter.reason == PARKED_REASON:  # not tried: one before it has failed
            return before.become(OPEN, **told)
        tried = {"reason": self.letter.reason, "description": self.letter.description}
        return before.become(OPEN, attempts=before.attempts + 1, **tried, **told)


def read_letter(runner: str, record: Record) -> Came | None:
    """The letter that a record of the `.dlq` topic is; None for one of another runner, or none at all."""
    told = {name: value.decode(errors="replace") for name, value in record.headers if name[:4] == "dlq_"}
    where = told.get("dlq_partition", ""), told.get("dlq_offset", "")
    if told.get("dlq_runner") != runner or not all(map(str.isdecimal, where)):
        return None
    failed = Position(told.get("dlq_topic", ""), int(where[0]), int(where[1]))
    headers = tuple(pair for pair in record.headers if pair[0] not in told)
    original = Record(*failed, record.key, record.value, headers, record.timestamp_ms)
    if again := place_in(original, AGAIN):
        original = Record(*again, record.key, record.value, _without_marks(headers), record.timestamp_ms)
    letter = Letter(
        runner=runner,
        state=OPEN,
        key=_key(runner, original),
        reason=told.get("dlq_reason", ""),
        description=told.get("dlq_description", ""),
        at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat(),
        record=Kept.of(original),
    )
    return Came(letter_id(runner, original), failed.offset, again is not None, letter)


def record_for(letter: Letter) -> Outgoing:
    """What tells the loop of a judged letter."""
    record = letter.record.record
    place = place_of(record).encode()
    if letter.state == DISCARDED:
        source = tuple(pair for pair in record.headers if pair[0] in ("ce_source", "ce_subject"))
        return Outgoing(record.topic, record.key or b"", None, (*source, (DISCARD, place)))
    headers = (*_without_marks(record.headers), (AGAIN, place))
    return Outgoing(record.topic, record.key or b"", record.value, headers)


# -- in a transaction ---------------------------------------------------------


def keep(txn: Transaction, came: Iterable[Came]) -> None:
    """Make rows of letters that came, or put those back whose records failed again."""
    letters = list(came)
    loaded = txn.load({Get(LETTERS, one.id) for one in letters})
    rows = {get.id: found for get, found in loaded.items() if isinstance(get, Get)}
    fresh: dict[str, Letter] = {}
    for one in letters:
        found = rows[one.id]
        before = fresh.get(one.id) or (found[0].state if found else None)
        after = one.onto(before)
        if after is not before:
            fresh[one.id] = after
    writes = [_write(id, rows[id][0].version if rows[id] else 0, letter) for id, letter in fresh.items()]
    txn.write(Plan(tuple(writes), ()))


def claim(txn: Transaction, key: str) -> list[Stored[Letter]]:
    """The letters of a key to tell of now: those given up, and those to process behind no open one.

    Noted before it is published: from then on nobody may give them up.
    """
    claimed, free = [], True
    for one in _of_key(txn, key):
        free = free and one.state.state != OPEN
        if one.state.untold and (free or one.state.state == DISCARDED):
            claimed.append(Stored(one.id, one.version + 1, replace(one.state, sent=SENDING)))
    txn.write(Plan(tuple(_write(one.id, one.version - 1, one.state) for one in claimed), ()))
    return claimed


def told(txn: Transaction, claimed: Stored[Letter], at: Position) -> None:
    """Note where the record stands, unless the row has changed: then something newer counts."""
    if _stands(txn, claimed):
        letter = replace(claimed.state, untold=False, sent=Sent(at.partition, at.offset))
        txn.write(Plan((_write(claimed.id, claimed.version, letter),), ()))


def done(txn: Transaction, passed: Stored[Letter]) -> None:
    """The letter is done, unless the row has changed; what only followed it goes on."""
    if not _stands(txn, passed):
        return
    by = {"judged_by": passed.state.judged_by, "judged_at": passed.state.judged_at}
    writes = [_write(passed.id, passed.version, passed.state.become(DONE))]
    letters = _of_key(txn, passed.state.key or passed.id)
    rest = [one for one in letters if one.state.waits and one.id > passed.id]
    for one in takewhile(lambda one: _only_follows(one.state), rest):
        writes.append(_write(one.id, one.version, one.state.become(REDRIVE, untold=True, sent=None, **by)))
    txn.write(Plan(tuple(writes), ()))


def is_taken(letter: Letter, taken: Mapping[Partition, int]) -> bool:
    """Has a loop that stands there taken the record by which it was told?"""
    if letter.untold or letter.sent is None:
        return False
    return taken.get(Partition(letter.record.topic, letter.sent.partition), 0) > letter.sent.offset


def lane(letter: Letter) -> Partition:
    """The partition of the letter's record."""
    return Partition(letter.record.topic, letter.record.partition)


def _only_follows(letter: Letter) -> bool:
    return letter.state == OPEN and letter.reason == PARKED_REASON


def _stands(txn: Transaction, row: Stored[Letter]) -> bool:
    found = txn.load([Get(LETTERS, row.id)])[Get(LETTERS, row.id)]
    return bool(found) and found[0].version == row.version


def _of_key(txn: Transaction, key: str) -> list[Stored[Letter]]:
    """All letters of a key, in order; one that has no order is alone, and goes by its id."""
    reads: tuple[Where | Get, Where | Get] = (Where(LETTERS, "key", key), Get(LETTERS, key))
    loaded = txn.load(reads)
    return sorted((one for read in reads for one in loaded[read]), key=lambda one: one.id)


def _write(id: str, base: int, letter: Letter) -> Write:
    return Write(LETTERS, id, base, base + 1, letter)


def _key(runner: str, record: Record) -> str:
    """The order that the record is part of: its source within its case."""
    source = source_in(record)
    return f"{runner}|{record.topic}|{(record.key or b'').hex()}|{source}" if source else ""


def _without_marks(headers: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    return tuple(pair for pair in headers if pair[0] not in (AGAIN, DISCARD))
