"""What the kit does because there are several brokers, and several members of the database's set."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import OffsetSpec

from services.kit.bus import kafka
from services.kit.bus.kafka import KafkaConsumer, KafkaLog
from services.kit.bus.protocol import Partition
from services.kit.errors import Integrity, Retryable
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.startup import database
from services.kit.startup.database import DatabaseProbe
from services.kit.store.mongo import MongoStore

THREE = "mongodb://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/?replicaSet=rs0"
STARTING = {"maxWireVersion": 21, "isreplicaset": True, "info": "Does not have a valid replica set config"}
FOLLOWS = {"maxWireVersion": 21, "setName": "rs0", "hosts": ["127.0.0.1:2"]}


# -- Kafka --------------------------------------------------------------------------


class Log(KafkaLog):
    """Its first questions are answered with an error, until it has looked anew who leads."""

    def __init__(self, code: int, times: int) -> None:
        super().__init__(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "t")
        self.code, self.left, self.looked = code, times, 0

    def _look_anew(self) -> None:
        self.looked += 1

    def _ask(self, topics: list[str], spec: OffsetSpec) -> dict[Partition, int]:
        if self.left:
            self.left -= 1
            raise ck.KafkaException(ck.KafkaError(self.code))
        return {Partition(topic, 0): 7 for topic in topics}


@pytest.mark.parametrize(
    "code",
    [
        ck.KafkaError.NOT_LEADER_FOR_PARTITION,
        ck.KafkaError.OFFSET_NOT_AVAILABLE,
        ck.KafkaError.FENCED_LEADER_EPOCH,
        ck.KafkaError.UNKNOWN_LEADER_EPOCH,
    ],
)
def test_a_new_leader_is_asked_again_until_it_knows_where_the_log_ends(code: int) -> None:
    log = Log(code, 2)
    assert log.ends(["t"]) == {Partition("t", 0): 7}
    assert log.looked == 2


def test_a_leader_that_never_knows_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_LEADER_SECONDS", 0.2)
    with pytest.raises(Retryable, match="did not tell its offsets"):
        Log(ck.KafkaError.OFFSET_NOT_AVAILABLE, 10**9).ends(["t"])


def _fenced(consumer: KafkaConsumer) -> None:
    error = ck.KafkaError(
        ck.KafkaError._FATAL, "Fatal error: static consumer fenced by other consumer", fatal=True
    )
    consumer._record(SimpleNamespace(error=lambda: error))


@pytest.mark.parametrize(("seconds", "stays"), [(49.0, True), (5.0, False)])
def test_a_second_lost_coordinator_is_not_taken_for_a_second_process(seconds: float, stays: bool) -> None:
    """Each time the only process is fenced; two processes of one name fence each other within moments."""
    consumer = KafkaConsumer(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "g", "0", "production")
    with closing(consumer):
        _fenced(consumer)
        assert consumer._is_out
        consumer.subscribe(["t"], lambda places: {}, lambda places: None)
        consumer._join_anew()
        consumer._joined_anew -= seconds
        if stays:
            _fenced(consumer)
            assert consumer._is_out
        else:
            with pytest.raises(Integrity, match="PHARMALOOP_PRODUCTION_INSTANCE"):
                _fenced(consumer)


def test_who_is_fenced_while_it_holds_still_waits_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a worker whose database is away would try it again without a pause."""
    slept: list[float] = []
    error = ck.KafkaError(ck.KafkaError._FATAL, "static consumer fenced by other consumer", fatal=True)
    consumer = KafkaConsumer(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "g", "0", "production")
    consumer._consumer = SimpleNamespace(
        assignment=list,
        pause=lambda parts: None,
        resume=lambda parts: None,
        poll=lambda seconds: SimpleNamespace(error=lambda: error),
        close=lambda: None,
    )
    monkeypatch.setattr("services.kit.bus.kafka.time.sleep", slept.append)
    with closing(consumer):
        consumer.hold(30.0)
        consumer.hold(30.0)
    assert [round(seconds) for seconds in slept] == [30, 30]


# -- MongoDB ------------------------------------------------------------------------


def test_nothing_is_read_that_a_lost_primary_takes_with_it() -> None:
    """A relay that read its outbox otherwise could publish an event of a transaction that is undone."""
    store = MongoStore(MongoSettings(uri=THREE), "t")
    assert store._database.read_concern.level == "majority"
    assert store._database.write_concern.document == {"w": "majority"}
    store.close()


class Servers:
    """What each member says, by its port; an empty answer: it is gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, said: dict[int, dict[str, Any]]) -> None:
        self.asked: list[int] = []
        servers = self

        class Client:
            def __init__(self, host: str, port: int = 0, **_: Any) -> None:
                self.port = port

            def __class_getitem__(cls, _: Any) -> Any:
                return cls

            def __enter__(self) -> Client:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            @property
            def admin(self) -> Client:
                return self

            def command(self, _name: str) -> dict[str, Any]:
                servers.asked.append(self.port)
                return said[self.port]

        monkeypatch.setattr(database, "MongoClient", Client)
        monkeypatch.setattr(
            database, "reach", lambda address: "" if said[int(address[-1])] else "refuses connections"
        )

    def heard(self) -> Any:
        return DatabaseProbe(MongoSettings(uri=THREE), "t")._hello()


def test_a_member_that_starts_again_does_not_speak_for_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers(monkeypatch, {1: {}, 2: STARTING, 3: FOLLOWS})
    assert servers.heard() == FOLLOWS
    assert servers.asked == [2, 3]


def test_a_set_that_nobody_has_made_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Servers(monkeypatch, {1: {}, 2: STARTING, 3: STARTING}).heard() == STARTING


def test_no_member_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Retryable, match=r"127\.0\.0\.1:1 refuses connections; .*:3 refuses"):
        Servers(monkeypatch, {1: {}, 2: {}, 3: {}}).heard()
