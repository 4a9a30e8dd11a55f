"""A topic that was made just now may have no leader yet: whoever reads it waits, and not for ever."""

from __future__ import annotations

from typing import Any

import confluent_kafka as ck
import pytest

from services.kit.bus import register


class Electing:
    """A consumer whose partition has no leader for so many questions."""

    def __init__(self, code: int, times: int) -> None:
        self.code, self.left = code, times

    def get_watermark_offsets(self, place: ck.TopicPartition, timeout: float) -> tuple[int, int]:
        if self.left:
            self.left -= 1
            raise ck.KafkaException(ck.KafkaError(self.code))
        return 3, 8


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(register, "_SECONDS", 0.2)


def ends(consumer: Any) -> tuple[int, int]:
    return register._ends(consumer, ck.TopicPartition("register", 0))


def test_a_partition_that_elects_its_leader_is_asked_again() -> None:
    assert ends(Electing(ck.KafkaError.NOT_LEADER_FOR_PARTITION, 3)) == (3, 8)


def test_one_that_never_has_a_leader_is_given_up() -> None:
    with pytest.raises(ck.KafkaException):
        ends(Electing(ck.KafkaError.LEADER_NOT_AVAILABLE, 10**9))


def test_any_other_failure_is_told_at_once() -> None:
    consumer = Electing(ck.KafkaError.TOPIC_AUTHORIZATION_FAILED, 2)
    with pytest.raises(ck.KafkaException):
        ends(consumer)
    assert consumer.left == 1
