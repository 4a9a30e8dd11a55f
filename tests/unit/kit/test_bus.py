"""The bus in memory, by the suite that the real one passes too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from services.kit.bus.memory import MemoryBus, murmur2
from services.kit.bus.protocol import Bus, Consumer, Partition
from tests.suites.buses import PARTITIONS, BusSuite, Join, NewTopic


@pytest.fixture
def bus() -> Bus:
    return MemoryBus(PARTITIONS)


@pytest.fixture
def new_topic() -> NewTopic:
    numbers = itertools.count()
    return lambda: f"topic-{next(numbers)}"


@pytest.fixture
def join(bus: Bus) -> Iterator[Join]:
    opened: list[Consumer] = []

    def join_group(topic: str, begin: dict[Partition, int]) -> Consumer:
        consumer = bus.consumer(f"group-{topic}", "0")
        consumer.subscribe([topic], lambda partitions: begin, lambda partitions: None)
        opened.append(consumer)
        return consumer

    yield join_group
    for consumer in opened:
        consumer.close()


class TestMemoryBus(BusSuite):
    pass


#: Kafka's own test vectors (UtilsTest.testMurmur2).
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "expected"), VECTORS.items())
def test_murmur2_is_kafkas(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected & 0xFFFFFFFF
