"""Bytes of every kind on every topic: each is dead-lettered whole, and nothing else happens."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Headers, Outgoing, Record
from services.kit.contracts import contract
from services.kit.settings import KafkaSettings
from tests.reliability.specs import SITE, runners
from tests.reliability.stand import Stand

pytestmark = pytest.mark.faults

CASE_TOPIC = "pharmaloop.loops.case.v1"
_HUGE = 900_000


def headers(type_name: str, **changes: bytes) -> Headers:
    """Those of a good record, with changes; an empty one is left out."""
    good = {
        "ce_specversion": b"1.0",
        "ce_id": b"garbage",
        "ce_type": type_name.encode(),
        "ce_source": b"/svc/nobody/garbage",
        "ce_time": b"2026-03-02T12:00:00+00:00",
        "ce_subject": b"garbage",
        "pl_seq": b"1",
    }
    return tuple((name, value) for name, value in {**good, **changes}.items() if value)


def garbage(topic: str, type_name: str, chance: random.Random) -> list[Outgoing]:
    """One record of every kind, each under a key of its own that no aggregate has."""
    good = headers(type_name)
    kinds: list[tuple[bytes | None, Headers]] = [
        (b"\xff" + chance.randbytes(200), good),  # random
        (b"\x0a\xff\x01cut", good),  # truncated
        (b'{"lot": "in JSON"}', good),
        (chance.randbytes(50), headers("pharmaloop.nobody.v1.Knows")),  # wrong type
        (chance.randbytes(50), headers("")),  # no type
        (b"\xff" + chance.randbytes(_HUGE), good),  # huge
        (b"", ()),  # empty, without headers
        (None, good),  # no value
        (b"x", headers(type_name, ce_id=b"\xff\xfe")),
        (b"x", headers(type_name, ce_time=b"yesterday")),
        (b"x", headers(type_name, ce_time=b"2026-03-02T12:00:00")),
        (b"x", headers(type_name, pl_seq=b"-1")),
        (b"x", headers(type_name, pl_seq=b"9" * 40)),
    ]
    return [
        Outgoing(topic, f"garbage {number} {topic}".encode(), value, head)
        for number, (value, head) in enumerate(kinds)
    ]


def expected(thrown: list[Outgoing]) -> Counter[tuple[str, bytes, str]]:
    """Every reader of a topic buries every record once: (topic, key, runner)."""
    readers = {**runners(), "loops.safety": (CASE_TOPIC,)}
    return Counter(
        (record.topic, record.key, runner)
        for record in thrown
        for runner, topics in readers.items()
        if record.topic in topics
    )


def buried(letters: list[Record]) -> Counter[tuple[str, bytes, str]]:
    return Counter(
        (
            record.topic.removesuffix(".dlq"),
            record.key or b"",
            dict(record.headers).get("dlq_runner", b"").decode(),
        )
        for record in letters
    )


@pytest.mark.timeout(900)
def test_bytes_of_every_kind_on_every_topic(stand: Stand) -> None:
    chance = random.Random(7)
    thrown = [
        record
        for name, topic in contract().names((SITE,))
        for record in garbage(
            name, topic.events[0] if topic.events else "pharmaloop.production.v1.LotHeld", chance
        )
    ]
    producer = KafkaBus(KafkaSettings(bootstrap_servers=stand.rough.bootstrap), "vandal").producer()
    with stand.judged():
        producer.publish(thrown).result(60)
        stand.case().play(stand.caller)
        stand.observers[1].wait_for_rest()
        letters = stand.observers[1].look().letters
        assert buried(letters) == expected(thrown)
        values = {record.key: record.value or b"" for record in thrown}
        assert all((letter.value or b"") == values[letter.key or b""] for letter in letters)
        stand.letters = len(letters)
    producer.close()
