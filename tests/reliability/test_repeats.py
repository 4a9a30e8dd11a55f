"""The same input two and three times: from impatient callers, and from a log that repeats itself."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Outgoing, Record
from services.kit.settings import KafkaSettings
from tests.reliability.stand import Stand
from tests.reliability.workload import Caller

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.mark.parametrize("times", [2, 3])
def test_a_caller_who_sends_everything_again(stand: Stand, times: int) -> None:
    impatient = Caller(stand.rough, times=times)
    with stand.judged():
        stand.case().play(impatient)
        stand.caller.journal.acknowledged += impatient.journal.acknowledged
    impatient.close()


def test_a_log_that_repeats_itself_twice(stand: Stand) -> None:
    """Every record of every topic stands there three times, as after relays and producers that died."""
    with stand.judged():
        stand.case().play(stand.caller)
        stand.compare()
        records = [r for r in stand.observers[1].records() if not (r.key or b"").startswith(b"garbage")]
        assert len(records) > 100
        for _ in range(2):
            _publish(stand.rough.bootstrap, records)


def _publish(bootstrap: str, records: Iterable[Record]) -> None:
    producer = KafkaBus(KafkaSettings(bootstrap_servers=bootstrap), "repeats").producer()
    again = [Outgoing(r.topic, r.key or b"", r.value, r.headers) for r in records]
    assert len(producer.publish(again).result(60)) == len(again)
    producer.close()
