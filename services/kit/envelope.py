"""Events and their records: CloudEvents Kafka binding, binary mode, by hand.

The value is the bare protobuf message; every attribute is a header
(CloudEvents Kafka protocol binding 1.0.2, section 3.2). Ours begin with pl_.
"""

from __future__ import annotations

import random
import secrets
from datetime import UTC, datetime
from typing import NamedTuple

from google.protobuf.message import DecodeError, Message

from services.kit.bus.protocol import LARGEST_RECORD_BYTES, Headers, Outgoing, Record, size_of
from services.kit.contracts import Contract, event_type
from services.kit.errors import Invalid, Poison

_SPEC_VERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/protobuf")
_OPTIONAL = ("pl_cause", "pl_case", "pl_run", "pl_actor", "pl_org", "pl_policy")
#: Seeded by the system: a system call for each id would cost as much as all the other headers.
_traces = random.Random(secrets.randbits(256))
_SURELY_FITS = LARGEST_RECORD_BYTES // 4
#: A version of more digits fits no 64-bit column.
_SEQ_DIGITS = 18


class Event(NamedTuple):
    """One event with its envelope. A tuple: one is made for every record, and tuples are made fastest.

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
    created: datetime = datetime.min.replace(tzinfo=UTC)

    @property
    def type(self) -> str:
        return event_type(type(self.message))


def new_trace() -> str:
    """A fresh W3C traceparent. Trace ids must differ; nobody must be unable to guess them."""
    return f"00-{_traces.getrandbits(128):032x}-{_traces.getrandbits(64):016x}-01"


def _with_offset(moment: datetime) -> datetime:
    # What protobuf's ToDatetime() gives is UTC and does not say so.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def headers_of(event: Event) -> Headers:
    """Headers of the record that carries the event; empty optional ones are left out."""
    pairs = [
        _SPEC_VERSION,
        ("ce_id", event.id.encode()),
        ("ce_type", event.type.encode()),
        ("ce_source", event.source.encode()),
        ("ce_time", _with_offset(event.time).isoformat().encode()),
        ("ce_subject", event.subject.encode()),
        ("traceparent", (event.trace or new_trace()).encode()),
    ]
    if event.seq is not None:
        pairs.append(("pl_seq", b"%d" % event.seq))
    optional = (event.cause, event.case, event.run, event.actor, event.org, event.policy)
    for name, value in zip(_OPTIONAL, optional, strict=True):
        if value:
            pairs.append((name, value.encode()))
    pairs.append(_CONTENT_TYPE)
    return tuple(pairs)


def to_record(event: Event, topic: str) -> Outgoing:
    """The record of an event; Invalid when no topic would take it.

    Found later, by the relay, it would hold back its aggregate for ever.
    """
    value = event.message.SerializeToString()
    return _fitting(
        Outgoing(topic, event.key.encode(), value, headers_of(event)), event.message, event.subject
    )


def _fitting(record: Outgoing, message: Message, subject: str) -> Outgoing:
    # Nearly all are far below the limit, and are not measured header by header.
    size = len(record.value or b"") + len(subject)
    if size > _SURELY_FITS and (size := size_of(record)) > LARGEST_RECORD_BYTES:
        more = f"{size} bytes are more than a topic takes, {LARGEST_RECORD_BYTES}"
        raise Invalid("TOO_LARGE", f"{event_type(type(message))}: {more}; say it in parts")
    return record


class FactStamp:
    """Makes the records of facts that come together: what their headers share is made once.

    They are the headers that `headers_of` would make.
    """

    def __init__(self, source: str, actor: str, trace: str) -> None:
        self._source = ("ce_source", source.encode())
        self._trace = ("traceparent", trace.encode())
        self._actor = ("pl_actor", actor.encode())
        self._types: dict[type[Message], tuple[str, bytes]] = {}

    def record(
        self, message: Message, topic: str, key: str, id: str, time: datetime, subject: str
    ) -> Outgoing:
        """The record of one fact; Invalid when no topic would take it."""
        cls = type(message)
        kind = self._types.get(cls)
        if kind is None:
            kind = self._types[cls] = ("ce_type", event_type(cls).encode())
        value = message.SerializeToString()
        # Written out: every step here is taken a hundred thousand times a second.
        headers: Headers = (
            _SPEC_VERSION,
            ("ce_id", id.encode()),
            kind,
            self._source,
            ("ce_time", (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat().encode()),
            ("ce_subject", subject.encode()),
            self._trace,
            self._actor,
            _CONTENT_TYPE,
        )
        if not self._actor[1]:
            headers = tuple(header for header in headers if header is not self._actor)
        record = Outgoing(topic, key.encode(), value, headers)
        return record if len(value) + len(subject) <= _SURELY_FITS else _fitting(record, message, subject)


def _text(headers: dict[str, bytes], name: str) -> str:
    try:
        return headers.get(name, b"").decode()
    except UnicodeDecodeError:
        raise Poison("BAD_HEADER", f"header {name} is not UTF-8") from None


def _required(name: str, value: str) -> str:
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
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise Poison("BAD_HEADER", "header ce_type is not UTF-8") from None
    raise Poison("NO_HEADER", "header ce_type is missing")


def from_record(contract: Contract, record: Record) -> Event:
    """The event of a record; Poison says what is wrong with it."""
    headers = dict(record.headers)
    try:
        time = datetime.fromisoformat(headers["ce_time"].decode())
        cls = contract.classes[headers["ce_type"].decode()]
        if time.tzinfo is None or record.value is None or not (headers["ce_id"] and headers["ce_source"]):
            raise ValueError
        return Event(
            headers["ce_id"].decode(),
            headers["ce_source"].decode(),
            headers["ce_subject"].decode() if "ce_subject" in headers else "",
            time,
            cls.FromString(record.value),
            record.key.decode() if record.key else "",
            _seq(headers["pl_seq"].decode()) if "pl_seq" in headers else None,
            headers["pl_cause"].decode() if "pl_cause" in headers else "",
            headers["pl_case"].decode() if "pl_case" in headers else "",
            headers["pl_run"].decode() if "pl_run" in headers else "",
            headers["pl_actor"].decode() if "pl_actor" in headers else "",
            headers["pl_org"].decode() if "pl_org" in headers else "",
            headers["pl_policy"].decode() if "pl_policy" in headers else "",
            headers["traceparent"].decode() if "traceparent" in headers else "",
            record.topic,
            record.partition,
            record.offset,
            datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
        )
    except (KeyError, ValueError, DecodeError):
        # The straight way is for what is well-formed, nearly everything; this one says what is not.
        return _checked(contract, record, headers)


def _checked(contract: Contract, record: Record, headers: dict[str, bytes]) -> Event:
    """The event of a record, header by header; Poison names the first one that is wrong."""
    return Event(
        id=_required("ce_id", _text(headers, "ce_id")),
        source=_required("ce_source", _text(headers, "ce_source")),
        subject=_text(headers, "ce_subject"),
        time=_time(_required("ce_time", _text(headers, "ce_time"))),
        message=_message(contract, _required("ce_type", _text(headers, "ce_type")), record.value),
        key=(record.key or b"").decode(errors="replace"),
        seq=_seq(_text(headers, "pl_seq")),
        cause=_text(headers, "pl_cause"),
        case=_text(headers, "pl_case"),
        run=_text(headers, "pl_run"),
        actor=_text(headers, "pl_actor"),
        org=_text(headers, "pl_org"),
        policy=_text(headers, "pl_policy"),
        trace=_text(headers, "traceparent"),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        created=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
    )
