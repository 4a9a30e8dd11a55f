"""Bytes of every kind on every topic: each is dead-lettered whole, and nothing else happens."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import grpc
import pytest

from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import operations_pb2_grpc as operations_grpc
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Headers, Outgoing, Producer, Record
from services.kit.contracts import contract
from services.kit.ids import new_id
from services.kit.rpc.client import metadata
from services.kit.settings import KafkaSettings
from services.traceability.protocol import FOLD
from tests.reliability.specs import SITE, SPECS, handled, runners
from tests.reliability.stand import Stand

pytestmark = pytest.mark.faults

CASE_TOPIC, LOOP = "pharmaloop.loops.case.v1", "loops.cases"
_HUGE = 900_000
#: So many bad records are thrown in at once, and then so many good ones come again.
_AT_ONCE, _BETWEEN = 39, 400


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
    """Who buries which record: (topic, key, runner). A reader passes over a type that it does not handle,
    whatever else is wrong with the record; the loop takes all of its topic."""
    topics = {**runners(), LOOP: (CASE_TOPIC,)}
    known = {name for topic in contract().topics for name in topic.events}
    found: Counter[tuple[str, bytes, str]] = Counter()
    for record in thrown:
        type_name = dict(record.headers).get("ce_type", b"").decode()
        for runner, read in topics.items():
            handles = runner == LOOP or type_name not in known or type_name in handled(runner)
            if record.topic in read and handles:
                found[record.topic, record.key, _named(runner)] += 1
    return found


def _named(runner: str) -> str:
    """The runner as its letters name it: those of all agents have one name."""
    service, _, name = runner.rpartition(".")
    return f"{SPECS[service].name}.{name}"


def buried(letters: list[Record]) -> Counter[tuple[str, bytes, str]]:
    return Counter(
        (
            record.topic.removesuffix(".dlq"),
            record.key or b"",
            dict(record.headers).get("dlq_runner", b"").decode(),
        )
        for record in letters
    )


def give_up(stand: Stand, service: str, runner: str) -> int:
    """An operator discards every letter of a runner; answers how many."""
    request = operations.DiscardDeadLettersRequest(
        request_id=new_id(), filter=operations.DeadLetterFilter(runner=runner), reason="thrown in by a test"
    )
    with grpc.insecure_channel(stand.rough.address(service)) as channel:
        stub: Any = operations_grpc.OperationsServiceStub(channel)
        return int(stub.DiscardDeadLetters(request, timeout=30, metadata=metadata("qa")).letters)


def throw_in(stand: Stand, producer: Producer, thrown: list[Outgoing]) -> None:
    """A few topics' at a time, and between them good records again: who reads every topic would rightly take
    so much of it at once for a bad deploy, and stop."""
    good = [Outgoing(r.topic, r.key or b"", r.value, r.headers) for r in stand.observers[1].records()]
    for first in range(0, len(thrown), _AT_ONCE):
        producer.publish(thrown[first : first + _AT_ONCE]).result(60)
        producer.publish(good[-_BETWEEN:]).result(60)
        stand.observers[1].wait_for_rest()


@pytest.mark.timeout(600)
def test_bytes_of_every_kind_on_every_topic(stand: Stand) -> None:
    """Each is a dead letter of each reader. A recall list is not sealed while a record that may belong to
    it is unread, so somebody has to say that these do not; then the case goes on as if they had not been."""
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
        stand.case().play(stand.caller)
        stand.compare()
        throw_in(stand, producer, thrown)
        letters = stand.observers[1].look().letters
        lacking = Counter(runner for _, _, runner in (expected(thrown) - buried(letters)).elements())
        assert not lacking, f"letters lack of {dict(lacking)}"
        assert buried(letters) == expected(thrown)
        values = {record.key: record.value or b"" for record in thrown}
        assert all((letter.value or b"") == values[letter.key or b""] for letter in letters)
        stand.letters = len(letters)
        for_fold = sum(count for (_, _, who), count in expected(thrown).items() if who == FOLD)
        assert give_up(stand, "traceability", FOLD) == for_fold
        stand.case().play(stand.caller)
    producer.close()
