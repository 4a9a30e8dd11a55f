"""Records are CloudEvents (Kafka binding 1.0.2, binary mode): complete going out, the same coming in."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.bus.protocol import Headers, Outgoing, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, headers_of, to_record
from services.kit.errors import Poison

REQUIRED = {f"ce_{name}" for name in ("specversion", "id", "type", "source", "time", "subject")}
REQUIRED |= {"content-type", "traceparent"}
OURS = {"pl_seq", "pl_cause", "pl_case", "pl_run", "pl_actor", "pl_org", "pl_policy"}

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
NAME = TEXT.filter(bool)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=ZONES)
EVENTS = st.builds(
    Event,
    id=NAME,
    source=NAME,
    subject=TEXT,
    time=TIMES,
    message=st.builds(production.LotStarted, lot=TEXT, product=TEXT, equipment=TEXT),
    key=TEXT,
    seq=st.none() | st.integers(0, 10**18 - 1),
    cause=TEXT,
    case=TEXT,
    run=TEXT,
    actor=TEXT,
    org=TEXT,
    policy=TEXT,
    trace=st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", fullmatch=True),
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENT = Event("e-1", "/svc/production/lot", "m/item/G/1", NOON, production.LotStarted())
CREATED_MS = 1_790_000_000_123


def arrived(out: Outgoing, value: bytes | None = None, headers: Headers | None = None) -> Record:
    """The record as a consumer is given it."""
    body = out.value if value is None else value
    return Record(out.topic, 3, 7, out.key, body, headers or out.headers, CREATED_MS)


def with_header(name: str, value: bytes | None) -> Record:
    """A good record with one header replaced, or left out."""
    good = to_record(EVENT, "t")
    headers = tuple(pair for pair in good.headers if pair[0] != name)
    return arrived(good, headers=headers if value is None else (*headers, (name, value)))


@given(EVENTS)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    back = from_record(contract(), arrived(to_record(event, "t")))
    assert (back.topic, back.partition, back.offset) == ("t", 3, 7)
    assert back.created == datetime.fromtimestamp(CREATED_MS / 1000, UTC)
    assert back.time.utcoffset() == event.time.utcoffset(), "the source's offset is kept"
    sent = {name: getattr(event, name) for name in Event._fields if name not in PLACED}
    assert {name: getattr(back, name) for name in sent} == sent


PLACED = {"topic", "partition", "offset", "created"}


@given(EVENTS)
def test_headers_are_complete_text_and_there_once(event: Event) -> None:
    headers = headers_of(event)
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert set(names) >= REQUIRED
    assert set(names) <= REQUIRED | OURS, "a header that no document names"
    values = {name: value.decode() for name, value in headers}
    assert values["ce_specversion"] == "1.0"
    assert values["ce_type"] == "pharmaloop.production.v1.LotStarted"
    assert values["content-type"] == "application/protobuf"
    assert all(value for name, value in values.items() if name in OURS), "empty optional headers are left out"


def test_a_new_trace_begins_where_none_is_given() -> None:
    first, second = (dict(headers_of(EVENT))["traceparent"] for _ in range(2))
    assert first != second
    assert len(first.split(b"-")) == 4


def test_a_time_without_an_offset_goes_out_as_utc() -> None:
    # Timestamp.ToDatetime() gives such times; RFC 3339, and every reader of ce_time, needs the offset.
    naive = Event("e", "s", "x", datetime(2026, 3, 1, 12), production.LotStarted())
    assert dict(headers_of(naive))["ce_time"] == b"2026-03-01T12:00:00+00:00"


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source", "ce_time"])
@pytest.mark.parametrize("value", [None, b""], ids=["absent", "empty"])
def test_a_record_without_a_required_header_is_poison(name: str, value: bytes | None) -> None:
    with pytest.raises(Poison, match=name) as caught:
        from_record(contract(), with_header(name, value))
    assert caught.value.reason == "NO_HEADER"


BAD_HEADERS = {
    "time is no time": ("ce_time", b"yesterday"),
    "time without offset": ("ce_time", b"2026-03-01T12:00:00"),
    "date alone": ("ce_time", b"2026-03-01"),
    "not UTF-8": ("ce_id", b"\xff\xfe"),
    "subject not UTF-8": ("ce_subject", b"\xff"),
    "seq is no number": ("pl_seq", b"one"),
    "seq is negative": ("pl_seq", b"-1"),
    "seq is a digit, but no number": ("pl_seq", "²".encode()),
    "seq beyond what a database holds": ("pl_seq", b"9" * 30),
    "seq beyond what Python parses": ("pl_seq", b"9" * 5000),
}


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_record_with_a_bad_header_is_poison(name: str, value: bytes) -> None:
    # Anything but Poison would stop the runner, on every start, at this record.
    with pytest.raises(Poison) as caught:
        from_record(contract(), with_header(name, value))
    assert caught.value.reason == "BAD_HEADER"


def test_an_unknown_type_is_poison() -> None:
    with pytest.raises(Poison) as caught:
        from_record(contract(), with_header("ce_type", b"pharmaloop.production.v1.LotVanished"))
    assert caught.value.reason == "UNKNOWN_TYPE"


@pytest.mark.parametrize("value", [b"\xff\xff", b"\x0a\x05ab"], ids=["garbage", "truncated"])
def test_what_is_no_protobuf_is_poison(value: bytes) -> None:
    with pytest.raises(Poison) as caught:
        from_record(contract(), arrived(to_record(EVENT, "t"), value))
    assert caught.value.reason == "UNDECODABLE"


def test_a_record_without_a_value_is_poison() -> None:
    # It would else be an event with every field empty, and a lot named "" would start.
    out = to_record(EVENT, "t")
    with pytest.raises(Poison) as caught:
        from_record(contract(), Record("t", 0, 0, out.key, None, out.headers, 0))
    assert caught.value.reason == "UNDECODABLE"


HEADER = st.tuples(st.sampled_from(sorted(REQUIRED | OURS)), st.binary(max_size=20))


@given(st.binary(max_size=60), st.lists(HEADER))
def test_any_bytes_are_an_event_or_poison(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    good = dict(to_record(EVENT, "t").headers) | dict(headers)
    with suppress(Poison):  # anything else would stop the runner
        from_record(contract(), Record("t", 0, 0, value, value, tuple(good.items()), 0))


def test_an_event_of_another_package_is_found_by_its_full_name() -> None:
    event = Event("e", "s", "x", datetime(2026, 3, 1, tzinfo=UTC), rnd.InsightRecorded(insight="i"))
    assert from_record(contract(), arrived(to_record(event, "t"))).message == event.message
