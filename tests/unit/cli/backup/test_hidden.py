"""What a user of Kafka may not see is told from what is not there, and from a Kafka that does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import confluent_kafka as ck
import pytest

from services.cli.backup import topics
from services.cli.backup.topics import Backbone
from services.cli.session import Failure
from services.kit.settings import KafkaSettings

NO_TOPIC = ck.KafkaError.TOPIC_AUTHORIZATION_FAILED
NO_GROUP = ck.KafkaError.GROUP_AUTHORIZATION_FAILED
ABSENT = ck.KafkaError.UNKNOWN_TOPIC_OR_PART
SILENT = ck.KafkaError.REQUEST_TIMED_OUT
AWAY = ck.KafkaError.COORDINATOR_NOT_AVAILABLE


def answer(code: int | None) -> Future[Any]:
    future: Future[Any] = Future()
    if code is None:
        future.set_result(None)
    else:
        future.set_exception(ck.KafkaException(ck.KafkaError(code)))
    return future


TOPICS = ("pharmaloop.rnd.batches", "pharmaloop.rnd.studies")


def backbone(monkeypatch: pytest.MonkeyPatch, answers: Sequence[int | None], group: int | None) -> Backbone:
    """A Kafka that shows no topic, and answers so when it is asked for one of the two, or for a group."""
    admin = SimpleNamespace(
        list_topics=lambda **_: SimpleNamespace(topics={}),
        describe_topics=lambda _, **__: dict(zip(TOPICS, map(answer, answers), strict=True)),
        list_consumer_group_offsets=lambda _, **__: {"any": answer(group)},
    )
    probe = SimpleNamespace(check=lambda: None)
    monkeypatch.setattr(topics, "BackboneProbe", lambda settings, client: nullcontext(probe))
    monkeypatch.setattr(topics, "AdminClient", lambda settings: admin)
    return Backbone(KafkaSettings())


@pytest.mark.parametrize(
    ("answers", "group", "lacks"),
    [
        ((ABSENT, NO_TOPIC), None, TOPICS[1]),
        ((NO_TOPIC, None), None, TOPICS[0]),
        ((ABSENT, ABSENT), NO_GROUP, "all groups"),
    ],
)
def test_what_the_user_may_not_see_is_named_and_what_is_not_there_is_not(
    monkeypatch: pytest.MonkeyPatch, answers: Sequence[int | None], group: int | None, lacks: str
) -> None:
    with pytest.raises(Failure, match=f"no right to see (topic )?{lacks} of Kafka"):
        backbone(monkeypatch, answers, group).refuse_hidden(TOPICS)


@pytest.mark.parametrize(("topic", "group"), [(SILENT, None), (ABSENT, AWAY)])
def test_a_kafka_that_cannot_say_ends_the_backup(
    monkeypatch: pytest.MonkeyPatch, topic: int, group: int | None
) -> None:
    with pytest.raises(ck.KafkaException):
        backbone(monkeypatch, (topic, ABSENT), group).refuse_hidden(TOPICS)
