"""Start-up checks, where no engine is needed to see what they say."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field
from pymongo.errors import AutoReconnect, OperationFailure, WTimeoutError

from services.kit.bus.kafka import client_config
from services.kit.contracts import contract
from services.kit.errors import Integrity, Invalid, Retryable
from services.kit.settings import KafkaSettings, MongoSettings, ServiceSettings, read_settings
from services.kit.startup import machine
from services.kit.startup.backbone import BackboneProbe, Needed, _wrong, cause, needed
from services.kit.startup.database import DatabaseProbe, explain
from services.kit.startup.environment import check_environment
from services.kit.store.mongo import is_transient

SERVICES = ("rnd", "clinical", "production")
PASSWORD = "pass-word-4711"


class Site(ServiceSettings):
    site: str = Field(default="hospital-a")


# -- environment ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PHARMALOOP_CLINICAL_SIT", "PHARMALOOP_CLINICAL_SITE"),
        ("PHARMALOOP_CLINICAL_GRPC_PROT", "PHARMALOOP_CLINICAL_GRPC_PORT"),
        ("PHARMALOOP_STATE_DRI", "PHARMALOOP_STATE_DIR"),
        ("PHARMALOOP_CLINCAL_GRPC_PORT", "PHARMALOOP_CLINICAL_GRPC_PORT"),
        ("PHARMALOOP_RDN_GRPC_PORT", "PHARMALOOP_RND_GRPC_PORT"),
    ],
)
def test_a_typo_is_named_with_the_nearest_known_variable(name: str, nearest: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_environment({name: PASSWORD}, "clinical", Site, SERVICES)
    assert caught.value.field == name
    assert f"did you mean {nearest}?" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_variable_like_none_is_to_be_removed() -> None:
    with pytest.raises(Invalid, match="PHARMALOOP_XYZ is not a setting; remove it"):
        check_environment({"PHARMALOOP_XYZ": "1"}, "clinical", Site, SERVICES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PHARMALOOP_CLINICAL_SITE", "hospital-a"),
        ("PHARMALOOP_START_SECONDS", "1"),
        ("PHARMALOOP_LOG_LEVEL", "INFO"),
        ("PHARMALOOP_PRODUCTION_LINE", "a setting that only production can judge"),
        ("PHARMALOOP_PORT_KAFKA", "9092"),
        ("PHARMALOOP_WORLD_METRICS_PORT", "1"),
        ("PHARMALOOP_CLINICAL_SERVICE_HOST", "10.0.0.1"),
        ("PHARMALOOP_CLINICAL_SERVICE_PORT_GRPC", "1"),
        ("PHARMALOOP_CLINICAL_PORT", "tcp://10.0.0.1:1"),
        ("PHARMALOOP_CLINICAL_PORT_1_TCP_ADDR", "10.0.0.1"),
        ("PHARMALOPP", "not our prefix"),
        ("KAFKA_HEAP_OPTS", "-Xmx1g"),
    ],
)
def test_what_is_known_or_not_ours_is_let_be(name: str, value: str) -> None:
    assert check_environment({name: value}, "clinical", Site, SERVICES) is None  # type: ignore[func-returns-value]


# -- Kafka ------------------------------------------------------------------------


def test_sasl_settings_reach_the_client_and_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": "rnd",
        "SASL_PASSWORD": PASSWORD,
    }.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    settings = read_settings(KafkaSettings)
    config = client_config(settings, "c")
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (config["sasl.username"], config["sasl.password"]) == ("rnd", PASSWORD)
    assert PASSWORD not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("KAFKA_SECURITY_PROTOCOL", {"KAFKA_SECURITY_PROTOCOL": "TLS"}),
        ("KAFKA_SASL_MECHANISM", {"KAFKA_SASL_MECHANISM": "GSSAPI"}),
        ("KAFKA_SASL_MECHANISM", {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}),
        (
            "KAFKA_SASL_PASSWORD",
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "rnd",
            },
        ),
        ("KAFKA_SASL_PASSWORD", {"KAFKA_SASL_PASSWORD": PASSWORD}),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", {"KAFKA_SSL_KEY_LOCATION": "key.pem"}),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, values: dict[str, str]
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Invalid) as caught:
        read_settings(KafkaSettings)
    assert caught.value.field == variable
    assert PASSWORD not in str(caught.value)


def test_an_unknown_cause_is_nobodys_setting() -> None:
    assert cause(["Connect to ipv4#127.0.0.1:1 failed: Connection refused"], "b:1") is None
    found = cause(["... certificate verify failed: ..."], "b:1")
    assert isinstance(found, Invalid)
    assert found.field == "KAFKA_SSL_CA_LOCATION"


@pytest.mark.parametrize("address", ["kafka", "kafka:", "kafka:port", "a:1,b", "http://kafka:9092"])
def test_an_address_that_is_none_is_quoted(address: str) -> None:
    with pytest.raises(Invalid, match="KAFKA_BOOTSTRAP_SERVERS"):
        BackboneProbe(KafkaSettings(bootstrap_servers=address), "test")


def test_a_service_needs_what_it_reads_and_writes_and_nothing_else() -> None:
    reads = ("pharmaloop.production.lot.v1",)
    sites = ("hospital-a", "hospital-b")
    topics = {t.name: t for t in needed(contract(), "traceability", reads, "", sites, "p.")}
    assert "pharmaloop.traceability.hospital-b.exposure.v1" in topics, "it writes to every site"
    assert "pharmaloop.production.lot.v1.dlq" in topics
    assert "pharmaloop.rnd.insight.v1" not in topics
    own = {t.name for t in needed(contract(), "clinical", (), "hospital-a", sites, "p.")}
    assert "pharmaloop.traceability.dispense.v1" in own, "it is among its writers"
    assert not any("hospital-b" in name for name in own)
    loops = {t.name: t for t in needed(contract(), "loops", (), "", sites, "p.")}
    assert loops["p.pharmaloop-loops-cases-changelog"].compacted


@pytest.mark.parametrize(
    ("topic", "config", "wrong"),
    [
        (Needed("t", 1), {"retention.ms": "-1"}, []),
        (Needed("t", 1), {"retention.ms": "604800000"}, [("retention.ms", "-1")]),
        (Needed("t", 1), {"retention.ms": "-1", "retention.bytes": "1000"}, [("retention.bytes", "-1")]),
        (Needed("t", 1), {"cleanup.policy": "compact,delete"}, [("cleanup.policy", "delete")]),
        (Needed("t", 1, keep_ms="1000"), {"retention.ms": "999"}, [("retention.ms", "1000")]),
        (Needed("t", 1, keep_ms="1000"), {"retention.ms": "-1"}, []),
        (Needed("t", 1, compacted=True), {"cleanup.policy": "delete"}, [("cleanup.policy", "compact")]),
        (Needed("t", 1, compacted=True), {"cleanup.policy": "compact", "retention.ms": "5"}, []),
    ],
)
def test_a_topic_keeps_what_must_be_kept(
    topic: Needed, config: dict[str, str], wrong: list[tuple[str, str]]
) -> None:
    assert list(_wrong(topic, {"cleanup.policy": "delete", **config})) == wrong


# -- MongoDB ------------------------------------------------------------------------


class Database(DatabaseProbe):
    """Hears what a server would say of itself."""

    def __init__(self, uri: str) -> None:
        super().__init__(MongoSettings(uri=uri), "t")
        self.close()

    def hears(self, **said: Any) -> None:
        self._check_server({"maxWireVersion": 21, "setName": "rs0", **said})


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ({"maxWireVersion": 13}, Invalid, "older than 6.0"),
        ({"setName": None}, Invalid, "--replSet"),
        ({"setName": "other"}, Invalid, "replicaSet=rs0"),
        ({"setName": None, "isreplicaset": True}, Retryable, "rs.initiate"),
    ],
)
def test_a_server_that_cannot_do_transactions_is_told_apart(
    said: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        Database("mongodb://u:p@h/?replicaSet=rs0").hears(**said)


def test_a_server_that_can_is_taken() -> None:
    database = Database("mongodb://u:p@h/?REPLICASET=rs0")
    database.hears()
    database.hears(setName=None, msg="isdbgrid")
    assert database._option("replicaset") == "rs0"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OperationFailure("full", 14031), Retryable, "disk of the database is full"),
        (OperationFailure("x: No space left on device", 1), Retryable, "disk of the database is full"),
        (OperationFailure("no", 18), Invalid, "MONGODB_URI"),
        (OperationFailure("no", 13), Invalid, "readWrite"),
        (WTimeoutError("late", 64), Retryable, "majority"),
        (AutoReconnect("gone"), Retryable, "does not answer"),
    ],
)
def test_what_the_database_says_becomes_what_to_do(
    error: OperationFailure | AutoReconnect, kind: type[Exception], words: str
) -> None:
    told = explain(error, "t")
    assert isinstance(told, kind)
    assert words in str(told)


@pytest.mark.parametrize("code", [14031, 91, 10107, 11600, 64])
def test_a_transaction_is_tried_again_when_the_cause_goes_away_by_itself(code: int) -> None:
    """A full disk or a server that steps down must not stop a runner for ever."""
    assert is_transient(OperationFailure("no", code))
    assert not is_transient(OperationFailure("a bug", 2))


# -- the machine --------------------------------------------------------------------


def test_a_state_folder_is_made_and_left_clean(tmp_path: Path) -> None:
    machine.check_state_dir(tmp_path / "a" / "state")
    assert list((tmp_path / "a" / "state").iterdir()) == []


def test_a_full_disk_may_become_free_and_a_missing_right_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> Any:
        def fsync(_: int) -> None:
            raise OSError(number, errno.errorcode[number])

        return fsync

    monkeypatch.setattr(os, "fsync", fails(errno.ENOSPC))
    with pytest.raises(Retryable, match="free some space"):
        machine.check_state_dir(tmp_path)
    monkeypatch.setattr(os, "fsync", fails(errno.EACCES))
    with pytest.raises(Invalid, match="PHARMALOOP_STATE_DIR"):
        machine.check_state_dir(tmp_path)


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, True), (errno.EACCES, False)],
    ids=["full", "over its quota", "read-only", "no right"],
)
def test_a_volume_that_takes_nothing_is_told_apart_from_one_that_is_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    def refuses(**_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    assert machine.takes_nothing(tmp_path) == ""
    assert machine.takes_nothing(tmp_path / "none") == ""
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    said = machine.takes_nothing(tmp_path)
    assert (said.startswith(f"{tmp_path} cannot be written") and "enlarge its volume" in said) is told


def test_a_probe_that_is_let_go_is_gone_at_once_and_one_that_is_left_is_closed() -> None:
    """Else the collector frees its client, maybe in the client's own thread, and that ends the process."""
    gc.disable()
    try:
        probe = BackboneProbe(KafkaSettings(), "rnd")
        there = weakref.ref(probe)
        del probe
        assert there() is None
    finally:
        gc.enable()
    with BackboneProbe(KafkaSettings(), "rnd") as left:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        left.admin.list_topics(timeout=0.1)


def test_topics_are_looked_at_again_while_the_service_runs() -> None:
    """Deleted, or made by hand with another count: by what Kafka told last."""
    probe = BackboneProbe(KafkaSettings(), "rnd")
    probe.check_topics_again()
    probe.expects = (Needed("t", 6), Needed("u", 1))

    def tell(**counts: int) -> None:
        made = {name: dict.fromkeys(range(count)) for name, count in counts.items()}
        topics = {name: SimpleNamespace(error=None, partitions=parts) for name, parts in made.items()}
        probe._metadata = SimpleNamespace(topics=topics)

    tell(t=6, u=1)
    probe.check_topics_again()
    tell(t=12, u=1)
    with pytest.raises(Integrity, match=r"topic t has 12 partitions and topics\.yaml says 6"):
        probe.check_topics_again()
    tell(t=6)
    with pytest.raises(Retryable, match="topic u is missing"):
        probe.check_topics_again()
