"""Events and their records: CloudEvents Kafka binding, binary mode, by hand.

The value is the bare protobuf message; every attribute is a header
(CloudEvents Kafka protocol binding 1.0.2, section 3.2). Ours begin with pl_.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.protobuf.message import DecodeError, Message

from services.kit.bus.protocol import Headers, Outgoing, Record
from services.kit.contracts import Contract, event_type
from services.kit.errors import Poison

_CONTENT_TYPE = b"application/protobuf"
#: A version of more digits fits no 64-bit column.
_SEQ_DIGITS = 18


@dataclass(frozen=True)
class Event:
    """One event with its envelope.

    `seq` is the version of the aggregate that emitted it (None for a fact);
    `time` is domain time; `created` is the wall time of the record.
    """

    id: str
    source: str
    subject: str
    time: datetime
    message: Message
    key: str = ""
    seq: int | None = None
    cause: str = ""
    case: str = ""
    run: str = ""
    actor: str = ""
    org: str = ""
    policy: str = ""
    trace: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    created: datetime = field(default=datetime.min.replace(tzinfo=UTC))

    @property
    def type(self) -> str:
        return event_type(type(self.message))


def new_trace() -> str:
    """A fresh W3C traceparent."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def _with_offset(moment: datetime) -> datetime:
    # What protobuf's ToDatetime() gives is UTC and does not say so.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def headers_of(event: Event) -> Headers:
    """Headers of the record that carries the event; empty optional ones are left out."""
    required = {
        "ce_specversion": "1.0",
        "ce_id": event.id,
        "ce_type": event.type,
        "ce_source": event.source,
        "ce_time": _with_offset(event.time).isoformat(),
        "ce_subject": event.subject,
        "traceparent": event.trace or new_trace(),
    }
    optional = {
        "pl_seq": "" if event.seq is None else str(event.seq),
        "pl_cause": event.cause,
        "pl_case": event.case,
        "pl_run": event.run,
        "pl_actor": event.actor,
        "pl_org": event.org,
        "pl_policy": event.policy,
    }
    pairs = [(name, value.encode()) for name, value in required.items()]
    pairs += [(name, value.encode()) for name, value in optional.items() if value]
    return (*pairs, ("content-type", _CONTENT_TYPE))


def to_record(event: Event, topic: str) -> Outgoing:
    """The record of an event."""
    return Outgoing(topic, event.key.encode(), event.message.SerializeToString(), headers_of(event))


def _header(headers: dict[str, bytes], name: str) -> str:
    try:
        return headers.get(name, b"").decode()
    except UnicodeDecodeError:
        raise Poison("BAD_HEADER", f"header {name} is not UTF-8") from None


def _required(headers: dict[str, bytes], name: str) -> str:
    value = _header(headers, name)
    if not value:
        raise Poison("NO_HEADER", f"header {name} is missing")
    return value


def _message(contract: Contract, type_name: str, value: bytes | None) -> Message:
    cls = contract.class_of(type_name)
    if value is None:
        raise Poison("UNDECODABLE", f"the record has no value; a {type_name} was expected")
    try:
        return cls.FromString(value)
    except DecodeError as error:
        raise Poison("UNDECODABLE", f"the value is not a {type_name}: {error}") from None


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Poison("BAD_HEADER", f"ce_time {text!r} is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise Poison("BAD_HEADER", f"ce_time {text!r} has no offset from UTC")
    return moment


def _seq(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _SEQ_DIGITS):
        raise Poison("BAD_HEADER", f"pl_seq {text[:40]!r} is not a version number")
    return int(text)


def type_of(record: Record) -> str:
    """The event type of a record, before it is decoded; Poison where there is none."""
    for name, value in record.headers:
        if name == "ce_type":
            return _header({name: value}, name)
    raise Poison("NO_HEADER", "header ce_type is missing")


def from_record(contract: Contract, record: Record) -> Event:
    """The event of a record; Poison says what is wrong with it."""
    headers = dict(record.headers)
    return Event(
        id=_required(headers, "ce_id"),
        source=_required(headers, "ce_source"),
        subject=_header(headers, "ce_subject"),
        time=_time(_required(headers, "ce_time")),
        message=_message(contract, _required(headers, "ce_type"), record.value),
        key=(record.key or b"").decode(errors="replace"),
        seq=_seq(_header(headers, "pl_seq")),
        cause=_header(headers, "pl_cause"),
        case=_header(headers, "pl_case"),
        run=_header(headers, "pl_run"),
        actor=_header(headers, "pl_actor"),
        org=_header(headers, "pl_org"),
        policy=_header(headers, "pl_policy"),
        trace=_header(headers, "traceparent"),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        created=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
    )
