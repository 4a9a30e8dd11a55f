"""Messages of the model: what a record says, without what no decider reads.

Every message is a small number that stands for topic, key, body and headers.
Ids of an aggregate's events become (source, subject, version) and the moment
of writing is always the same, so that two ways to one event are one message.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from google.protobuf.message import Message

from services.kit.bus.protocol import Headers, Outgoing, Record
from services.kit.contracts import contract, event_type
from services.kit.envelope import Event, from_record, to_record
from services.kit.store.kinds import OutboxRow

START = datetime(2026, 3, 1, tzinfo=UTC)
_TIME = START.isoformat().encode()
_TRACE = b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01"
_FORGOTTEN = ("pl_cause",)

_numbers: dict[tuple[str, bytes, bytes, Headers], int] = {}
_records: list[Record] = []


def take(row: OutboxRow | Outgoing) -> int:
    """The number of the message that a record carries."""
    return _taken(row.topic, row.key, row.value or b"", row.headers)


@cache
def _taken(topic: str, key: bytes, value: bytes, headers: Headers) -> int:
    told = dict(headers)
    message = contract().class_of(told["ce_type"].decode()).FromString(value)
    if "pl_seq" in told:
        told["ce_id"] = b"|".join((told["ce_source"], told["ce_subject"], told["pl_seq"]))
    told["ce_time"], told["traceparent"] = _TIME, _TRACE
    kept = tuple(pair for pair in told.items() if pair[0] not in _FORGOTTEN)
    body = message.SerializeToString(deterministic=True)
    place = (topic, key, body, kept)
    if place not in _numbers:
        _numbers[place] = len(_records)
        _records.append(Record(topic, 0, 0, key, body, kept, 0))
    return _numbers[place]


def record(number: int, offset: int = 0) -> Record:
    """The record that brings the message."""
    return _records[number]._replace(offset=offset)


@cache
def event(number: int) -> Event:
    """The event that the message is."""
    return from_record(contract(), _records[number])


def message(number: int) -> Message:
    """What it says."""
    return event(number).message


def fact(said: Message, site: str = "") -> int:
    """A fact from outside: equal facts have one id."""
    return _made(said, site, None, "", "")


def told(said: Message, seq: int, *, case: str = "", run: str = "", site: str = "") -> int:
    """An event of an aggregate that the model does not hold."""
    return _made(said, site, seq, case, run)


def _made(said: Message, site: str, seq: int | None, case: str, run: str) -> int:
    topic, key = contract().route(said, site)
    id = f"{event_type(type(said))}/{said.SerializeToString(deterministic=True).hex()}"
    return take(to_record(Event(id, "/model", key, START, said, key, seq, case=case, run=run), topic))
