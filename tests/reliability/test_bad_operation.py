"""What bad operation gets: a message that names setting and remedy, the truth about readiness, recovery.

Real Kafka with password and TLS listeners, real MongoDB with users.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from google.protobuf.struct_pb2 import Struct
from pymongo import MongoClient

from services.kit import app as kit_app
from services.kit.app import connect
from services.kit.bus.kafka import KafkaProducer
from services.kit.bus.migrate import migrate
from services.kit.bus.protocol import Outgoing
from services.kit.bus.register import register
from services.kit.clock import ensure_clock
from services.kit.contracts import contract
from services.kit.errors import Integrity, Invalid, PharmaLoopError, Retryable
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import KafkaEngine, MongoEngine, SecuredListeners, free_port, running
from services.kit.testing.service import environment
from services.rnd.main import SPEC
from tests.reliability.operation import PATIENCE, Process, alive, make_certificate, process

# Engines of its own and many processes: slow where the machine is busy.
pytestmark = pytest.mark.timeout(400)
_START_SECONDS = 200.0
#: A password that may be seen nowhere.
PASSWORD = "pass-word-4711"
CAPA = "pharmaloop.production.capa.v1"


@dataclass(frozen=True)
class Engines:
    """Addresses of the engines: by no password, by password, by TLS."""

    plain: str
    sasl: str
    tls: str
    authority: Path
    mongo: str
    alone: str


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with tempfile.TemporaryDirectory(prefix="pharmaloop-bad-") as name, ExitStack() as stack:
        folder = Path(name)
        store, authority = make_certificate(folder)
        secured = SecuredListeners(free_port(), {"rnd": PASSWORD}, free_port(), store)
        kafka = KafkaEngine(folder / "kafka", free_port(), free_port(), secured=secured)
        first = MongoEngine(folder / "mongod", free_port())
        with (
            running(first, folder / "first.log", timeout=_START_SECONDS),
            MongoClient[Any](first.uri) as client,
        ):
            client.admin.command("createUser", "rnd", pwd=PASSWORD, roles=["root"])
            client.admin.command("createUser", "reader", pwd=PASSWORD, roles=["readAnyDatabase"])
        asking = MongoEngine(folder / "mongod", free_port(), ("rnd", PASSWORD))
        alone = MongoEngine(folder / "alone", free_port(), replica_set=False)
        for engine in (kafka, asking, alone):
            stack.enter_context(running(engine, folder / f"{engine.port}.log", timeout=_START_SECONDS))
        migrate(KafkaSettings(bootstrap_servers=kafka.bootstrap), ("hospital-a",))
        yield Engines(
            plain=kafka.bootstrap,
            sasl=f"127.0.0.1:{secured.sasl_port}",
            tls=f"127.0.0.1:{secured.ssl_port}",
            authority=authority,
            mongo=asking.uri,
            alone=f"mongodb://127.0.0.1:{alone.port}/",
        )


def good(engines: Engines, state_dir: Path) -> dict[str, str]:
    """Settings with which the service starts: it logs in to Kafka and to MongoDB."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": engines.sasl,
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "rnd",
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "MONGODB_URI": engines.mongo,
        "PHARMALOOP_STATE_DIR": str(state_dir),
        "PHARMALOOP_START_SECONDS": "0",
        "PHARMALOOP_RND_DATABASE": f"t{uuid.uuid4().hex[:12]}",
        "PHARMALOOP_GROUP_PREFIX": f"t{uuid.uuid4().hex[:8]}.",
    }


def refusal(values: dict[str, str]) -> PharmaLoopError:
    """Why the service does not start with these settings; it must be said in bounded time."""

    async def start() -> None:
        with environment(values):
            await connect(SPEC)

    begun = time.monotonic()
    with pytest.raises(PharmaLoopError) as caught:
        asyncio.run(start())
    assert time.monotonic() - begun < 15
    assert PASSWORD not in str(caught.value)
    return caught.value


PLAIN = {
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "",
    "KAFKA_SASL_USERNAME": "",
    "KAFKA_SASL_PASSWORD": "",
}
Wrong = Callable[[Engines], dict[str, str]]

#: (what is wrong, the settings that make it so, whether it may come by itself, words of the message)
KAFKA_CASES: list[tuple[str, Wrong, type[PharmaLoopError], tuple[str, ...]]] = [
    (
        "nobody listens",
        lambda e: {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"},
        Retryable,
        ("KAFKA_BOOTSTRAP_SERVERS", "refuses connections", "start it"),
    ),
    (
        "no such host",
        lambda e: {"KAFKA_BOOTSTRAP_SERVERS": "kafka.invalid:9092"},
        Retryable,
        ("KAFKA_BOOTSTRAP_SERVERS", "not a known host name"),
    ),
    (
        "no port",
        lambda e: {"KAFKA_BOOTSTRAP_SERVERS": "kafka"},
        Invalid,
        ("KAFKA_BOOTSTRAP_SERVERS", "host:port"),
    ),
    (
        "wrong password",
        lambda e: {"KAFKA_SASL_PASSWORD": f"{PASSWORD}-not"},
        Invalid,
        ("KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "refused"),
    ),
    (
        "wrong mechanism",
        lambda e: {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
        Invalid,
        ("KAFKA_SASL_MECHANISM", "does not offer"),
    ),
    ("no password", lambda e: {"KAFKA_SASL_PASSWORD": ""}, Invalid, ("KAFKA_SASL_PASSWORD", "needs it")),
    ("no SASL where it is asked for", lambda e: PLAIN, Retryable, ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")),
    (
        "SASL where nobody asks for it",
        lambda e: {"KAFKA_BOOTSTRAP_SERVERS": e.plain},
        Invalid,
        ("KAFKA_SECURITY_PROTOCOL", "asks for no password"),
    ),
    (
        "no TLS where it is spoken",
        lambda e: {**PLAIN, "KAFKA_BOOTSTRAP_SERVERS": e.tls},
        Retryable,
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
    ),
    (
        "TLS where nobody speaks it",
        lambda e: {**PLAIN, "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_BOOTSTRAP_SERVERS": e.plain},
        Invalid,
        ("KAFKA_SECURITY_PROTOCOL", "does not speak TLS"),
    ),
    (
        "an authority that did not sign",
        lambda e: {**PLAIN, "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_BOOTSTRAP_SERVERS": e.tls},
        Invalid,
        ("KAFKA_SSL_CA_LOCATION", "not signed"),
    ),
    (
        "no file of the authority",
        lambda e: {**PLAIN, "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "/nowhere/ca.pem"},
        Invalid,
        ("KAFKA_SSL_CA_LOCATION", "cannot be read"),
    ),
    (
        "a database at the broker's port",
        lambda e: {**PLAIN, "KAFKA_BOOTSTRAP_SERVERS": e.alone.split("/")[2]},
        Retryable,
        ("KAFKA_BOOTSTRAP_SERVERS", "something else"),
    ),
]


def _uri(engines: Engines, old: str, new: str) -> dict[str, str]:
    assert old in engines.mongo
    return {"MONGODB_URI": engines.mongo.replace(old, new)}


MONGO_CASES: list[tuple[str, Wrong, type[PharmaLoopError], tuple[str, ...]]] = [
    (
        "nobody listens",
        lambda e: {"MONGODB_URI": f"mongodb://rnd:{PASSWORD}@127.0.0.1:{free_port()}/?replicaSet=rs0"},
        Retryable,
        ("MONGODB_URI", "refuses connections", "start it"),
    ),
    ("wrong password", lambda e: _uri(e, PASSWORD, f"{PASSWORD}x"), Invalid, ("MONGODB_URI", "password")),
    ("no user", lambda e: _uri(e, f"rnd:{PASSWORD}@", ""), Invalid, ("MONGODB_URI", "readWrite")),
    ("a user who may only read", lambda e: _uri(e, "rnd:", "reader:"), Invalid, ("MONGODB_URI", "readWrite")),
    ("another set", lambda e: _uri(e, "=rs0", "=rs9"), Invalid, ("MONGODB_URI", "replicaSet=rs9", "rs0")),
    (
        "no replica set",
        lambda e: {"MONGODB_URI": e.alone},
        Invalid,
        ("MONGODB_URI", "--replSet", "rs.initiate"),
    ),
    (
        "a broker at the database's port",
        lambda e: {"MONGODB_URI": f"mongodb://{e.plain}/?replicaSet=rs0"},
        Retryable,
        ("MONGODB_URI", "protocol of MongoDB"),
    ),
    (
        "no connection string",
        lambda e: {"MONGODB_URI": f"rnd:{PASSWORD}@db"},
        Invalid,
        ("MONGODB_URI", "connection string"),
    ),
    (
        "a password that is not encoded",
        lambda e: {"MONGODB_URI": f"mongodb://rnd:{PASSWORD}/@:x@db/"},
        Invalid,
        ("MONGODB_URI", "percent-encoded"),
    ),
]


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [case[1:] for case in KAFKA_CASES + MONGO_CASES],
    ids=[f"kafka: {c[0]}" for c in KAFKA_CASES] + [f"mongodb: {c[0]}" for c in MONGO_CASES],
)
def test_a_wrong_engine_setting_is_named_with_its_remedy(
    engines: Engines, tmp_path: Path, wrong: Wrong, kind: type[PharmaLoopError], words: tuple[str, ...]
) -> None:
    error = refusal({**good(engines, tmp_path), **wrong(engines)})
    assert isinstance(error, kind)
    for word in words:
        assert word in str(error)


# -- topics -------------------------------------------------------------------


@contextmanager
def own_broker(folder: Path) -> Iterator[tuple[str, AdminClient]]:
    engine = KafkaEngine(folder / "kafka", free_port(), free_port())
    with running(engine, folder / "kafka.log", timeout=_START_SECONDS):
        yield engine.bootstrap, AdminClient({"bootstrap.servers": engine.bootstrap})


def _until(condition: Callable[[], bool]) -> None:
    """The broker hears of a change from its controller a moment later."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _make(admin: AdminClient, name: str, partitions: int) -> None:
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(10)
    _until(lambda: name in admin.list_topics(timeout=10).topics)


def _delete(admin: AdminClient, name: str) -> None:
    admin.delete_topics([name])[name].result(10)
    _until(lambda: name not in admin.list_topics(timeout=10).topics)


def _configure(admin: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    _until(lambda: bool(admin.describe_configs([asked])[asked].result(10)[name].value == value))


def test_topics_that_are_not_as_the_contract_says_are_named(engines: Engines, tmp_path: Path) -> None:
    """Missing, of another count, forgetful: each told at the start of who uses it; mended, it starts."""
    with own_broker(tmp_path) as (bootstrap, admin):
        values = {**good(engines, tmp_path), **PLAIN, "KAFKA_BOOTSTRAP_SERVERS": bootstrap}
        missing = refusal(values)
        assert isinstance(missing, Retryable)
        assert "is missing" in str(missing)
        assert "services.kit.bus.migrate" in str(missing)

        _make(admin, CAPA, 3)
        other = refusal(values)
        assert isinstance(other, Integrity)
        assert f"topic {CAPA} has 3 partitions and topics.yaml says 6" in str(other)
        with pytest.raises(Integrity, match="has 3 partitions"):
            migrate(KafkaSettings(bootstrap_servers=bootstrap), ("hospital-a",))
        _delete(admin, CAPA)

        migrate(KafkaSettings(bootstrap_servers=bootstrap), ("hospital-a",))
        _configure(admin, CAPA, "retention.ms", "60000")
        forgetful = refusal(values)
        assert isinstance(forgetful, Integrity)
        for word in (CAPA, "retention.ms=60000", "retention.ms=-1", "kafka-configs"):
            assert word in str(forgetful)
        _configure(admin, CAPA, "retention.ms", "-1")
        _configure(admin, CAPA, "cleanup.policy", "compact")
        assert "cleanup.policy=delete" in str(refusal(values))
        _configure(admin, CAPA, "cleanup.policy", "delete")

        with process(values, tmp_path) as rnd:
            rnd.wait_ready()


# -- a process ----------------------------------------------------------------


def _cannot_start(rnd: Process) -> str:
    """Its one reason; nothing of a stack trace or a password in all its output."""
    output = rnd.output()
    assert "Traceback" not in output
    assert PASSWORD not in output
    (line,) = rnd.lines("cannot start")
    return str(line["reason"])


def test_a_wrong_setting_ends_the_process_at_once(engines: Engines, tmp_path: Path) -> None:
    wrong = {"KAFKA_SASL_PASSWORD": "wrong", "PHARMALOOP_START_SECONDS": "600"}
    with process({**good(engines, tmp_path), **wrong}, tmp_path) as rnd:
        assert rnd.exit_code() == kit_app.EXIT_CONFIG
        assert "KAFKA_SASL_PASSWORD" in _cannot_start(rnd)


def test_an_engine_that_does_not_come_ends_the_process_in_bounded_time(
    engines: Engines, tmp_path: Path
) -> None:
    wrong = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "PHARMALOOP_START_SECONDS": "4"}
    with process({**good(engines, tmp_path), **wrong}, tmp_path) as rnd:
        assert rnd.exit_code() == kit_app.EXIT_LATER
        assert "KAFKA_BOOTSTRAP_SERVERS" in _cannot_start(rnd)
        assert rnd.lines("waiting to start"), "it waits in silence"


@pytest.mark.parametrize("typo", ["PHARMALOOP_RND_GRPC_PROT", "PHARMALOOP_STATE_DIRECTORY"])
def test_a_variable_that_nobody_reads_is_refused(engines: Engines, tmp_path: Path, typo: str) -> None:
    error = refusal({**good(engines, tmp_path), typo: "1"})
    nearest = {"PHARMALOOP_RND_GRPC_PROT": "PHARMALOOP_RND_GRPC_PORT"}.get(typo, "PHARMALOOP_STATE_DIR")
    assert isinstance(error, Invalid)
    assert f"{typo} is not a setting; did you mean {nearest}?" in str(error)


def test_a_state_folder_that_cannot_be_written_is_named(engines: Engines, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(good(engines, tmp_path / "file" / "state"))
    assert isinstance(error, Invalid)
    assert f"PHARMALOOP_STATE_DIR={tmp_path}/file/state" in str(error)


def test_a_clock_file_that_is_half_written_is_named(engines: Engines, tmp_path: Path) -> None:
    ensure_clock(tmp_path, 60)
    whole = (tmp_path / "clock.json").read_text()
    (tmp_path / "clock.json").write_text(whole[: len(whole) // 2])
    error = refusal(good(engines, tmp_path))
    assert isinstance(error, Integrity)
    assert str(tmp_path / "clock.json") in str(error)
    assert "backup" in str(error)


@pytest.mark.faults
def test_a_second_process_of_one_instance_id_yields_and_says_so(engines: Engines, tmp_path: Path) -> None:
    values = {**good(engines, tmp_path), "PHARMALOOP_RND_INSTANCE": "rnd-7"}
    with process(values, tmp_path) as first:
        first.wait_ready()
        with process({**values, "PHARMALOOP_START_SECONDS": "1"}, tmp_path, "second") as second:
            assert second.exit_code() == kit_app.EXIT_LATER
            assert "PHARMALOOP_RND_INSTANCE=rnd-7" in _cannot_start(second)
        assert first.health() == "SERVING"
        # Killed, it leaves its place at once: nobody waits for a dead process of this machine.
        first.child.kill()
        first.child.wait()
        with process(values, tmp_path, "third") as third:
            third.wait_ready()
            _usurp(engines, values)
            assert third.exit_code() == kit_app.EXIT_LATER
            (line,) = third.lines("a part of the service failed")
            assert "PHARMALOOP_RND_INSTANCE=rnd-7" in line["reason"]


def _usurp(engines: Engines, values: dict[str, str]) -> None:
    """As a process of another machine would, that held this one for dead."""
    holder = {"host": "elsewhere", "boot": "", "pid": 1, "born": "1", "token": "other"}
    with MongoClient[Any](engines.mongo) as client:
        rows = client[values["PHARMALOOP_RND_DATABASE"]]["_presence"]
        assert rows.update_one({"_id": "rnd-7"}, {"$set": {"holder": holder}}).matched_count == 1


def test_a_port_in_use_is_waited_for_and_named(engines: Engines, tmp_path: Path) -> None:
    port = int(engines.plain.rpartition(":")[2])
    error = refusal({**good(engines, tmp_path), "PHARMALOOP_RND_GRPC_PORT": str(port)})
    assert isinstance(error, Retryable)
    assert f"127.0.0.1:{port}" in str(error)
    assert "PHARMALOOP_RND_GRPC_PORT" in str(error)
    error = refusal({**good(engines, tmp_path), "PHARMALOOP_RND_METRICS_PORT": str(port)})
    assert "PHARMALOOP_RND_METRICS_PORT" in str(error)


def test_both_clients_of_loops_log_in(engines: Engines, tmp_path: Path) -> None:
    """faust too takes user and password from the settings; with wrong ones the process says so."""
    values = {k.replace("_RND_", "_LOOPS_"): v for k, v in good(engines, tmp_path).items()}
    del values["PHARMALOOP_GROUP_PREFIX"]
    admin = AdminClient({"bootstrap.servers": engines.plain})

    def members() -> int:
        answer: Any = admin.describe_consumer_groups(["pharmaloop-loops"])["pharmaloop-loops"]
        return len(answer.result(10).members)

    with process(values, tmp_path, service="loops") as loops:
        loops.wait("faust is in its group", lambda: members() == 1)
        loops.wait_ready()


# -- liveness, readiness, recovery ----------------------------------------------


@pytest.mark.faults
def test_a_frozen_process_lets_its_heartbeat_age(engines: Engines, tmp_path: Path) -> None:
    file = tmp_path / "alive" / "rnd-0.json"
    code, why = alive(file, 5)
    assert (code, "no heartbeat" in why) == (1, True)
    with process(good(engines, tmp_path), tmp_path) as rnd:
        rnd.wait_ready()
        rnd.wait("a heartbeat", lambda: alive(file, 5)[0] == 0)
        rnd.child.send_signal(signal.SIGSTOP)
        # Before the file is old, a runner may have been for too long in one place.
        rnd.wait("the file is old", lambda: "dead or frozen" in alive(file, 3)[1])
        assert alive(file, 3)[0] == 1
        rnd.child.send_signal(signal.SIGCONT)
        rnd.wait("it turns again", lambda: alive(file, 3)[0] == 0)
        rnd.child.send_signal(signal.SIGTERM)
        assert rnd.exit_code() == 0
    assert not file.exists()


@pytest.mark.faults
def test_engines_may_come_late_and_go_and_come_back(tmp_path: Path) -> None:
    """The service waits for both, says which it lacks when one goes, and is ready again by itself."""
    kafka = KafkaEngine(tmp_path / "kafka", free_port(), free_port())
    mongod = MongoEngine(tmp_path / "mongod", free_port())
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "MONGODB_URI": mongod.uri,
        "PHARMALOOP_STATE_DIR": str(tmp_path / "state"),
        "PHARMALOOP_START_SECONDS": "600",
    }
    log = tmp_path / "engines.log"
    with process(values, tmp_path) as rnd, ExitStack() as stack:
        rnd.wait("waiting", lambda: bool(rnd.lines("waiting to start")))
        broker = stack.enter_context(running(kafka, log, timeout=_START_SECONDS))
        migrate(KafkaSettings(bootstrap_servers=kafka.bootstrap), ("hospital-a",))
        with running(mongod, log, timeout=_START_SECONDS):
            rnd.wait_ready()
            os.kill(broker.pid, signal.SIGKILL)
            broker.wait()
            assert "KAFKA_BOOTSTRAP_SERVERS" in rnd.wait_reason("kafka: no Kafka answers")
            stack.enter_context(running(kafka, log, timeout=_START_SECONDS))
            rnd.wait_ready()
        rnd.wait_reason("database: the database does not answer")
        assert alive(tmp_path / "state" / "alive" / "rnd-0.json", 60)[0] == 0, "a restart would not help"
        with running(mongod, log, timeout=_START_SECONDS):
            rnd.wait_ready()
        assert "Traceback" not in rnd.output()


# -- mixed versions -------------------------------------------------------------


def _record(event: str) -> Outgoing:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": uuid.uuid4().hex,
        "ce_type": event,
        "ce_source": "/svc/production",
        "ce_time": "2026-01-01T00:00:00+00:00",
        "ce_subject": "x",
    }
    return Outgoing(CAPA, b"x", b"", tuple((name, value.encode()) for name, value in headers.items()))


def test_an_event_of_a_newer_contract_stops_the_old_build_and_garbage_does_not(
    engines: Engines, tmp_path: Path
) -> None:
    values = good(engines, tmp_path)
    producer = KafkaProducer(KafkaSettings(bootstrap_servers=engines.plain), "test")
    newer = "pharmaloop.production.v1.CapaWithdrawn"
    with process(values, tmp_path) as rnd:
        rnd.wait_ready()
        producer.publish([_record("pharmaloop.production.v1.NeverHeardOf")]).result(30)
        rnd.wait("dead-lettered", lambda: rnd.status().runners[0].dead_letters == 1)
        assert rnd.health() == "SERVING"

        # A newer build is installed, and its producers run before this consumer is upgraded.
        classes = {**contract().classes, newer: Struct}
        newest = replace(contract(), classes=classes)
        settings = KafkaSettings(bootstrap_servers=engines.plain)
        installed = register(settings, newest, fresh=False)
        # A migration and the start of its producers are further apart than what was read may be old.
        time.sleep(1.1)
        producer.publish([_record(newer)]).result(30)
        reason = rnd.wait_reason("upgrade this service first")
        assert newer in reason
        assert f"revision {installed.revision}" in reason
        assert rnd.status().runners[0].dead_letters == 1, "the record waits for the upgrade"
    # An older build that migrates, as in a roll-back, forgets nothing.
    assert register(settings, contract(), fresh=False) == installed
    producer.close()


def test_a_build_whose_contract_is_not_installed_names_the_migration(
    tmp_path: Path, engines: Engines
) -> None:
    newest = replace(contract(), classes={**contract().classes, "pharmaloop.rnd.v1.Brand": Struct})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit_app, "contract", lambda: newest)
        error = refusal(good(engines, tmp_path))
    assert isinstance(error, Retryable)
    assert "pharmaloop.rnd.v1.Brand" in str(error)
    assert "services.kit.bus.migrate" in str(error)


def test_the_heartbeat_says_more_than_its_age(engines: Engines, tmp_path: Path) -> None:
    with process(
        {**good(engines, tmp_path), "PHARMALOOP_RND_HEARTBEAT_FILE": str(tmp_path / "hb")}, tmp_path
    ) as rnd:
        rnd.wait_ready()
        rnd.wait("a heartbeat", (tmp_path / "hb").exists)
        rnd.wait("the runner", lambda: json.loads((tmp_path / "hb").read_text())["slowest"] == "rnd.insights")
