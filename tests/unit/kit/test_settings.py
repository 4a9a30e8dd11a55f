"""Settings: a wrong one is named as the person who set it knows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from services.kit.errors import Invalid
from services.kit.settings import (
    KafkaSettings,
    MongoSettings,
    PlatformSettings,
    ServiceSettings,
    read_settings,
    service_settings,
)


class Special(ServiceSettings):
    site: str = Field(default="hospital-a")
    limits: dict[str, float] = Field(default_factory=dict)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI", "PHARMALOOP_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_service_reads_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHARMALOOP_RND_GRPC_PORT", "4711")
    monkeypatch.setenv("PHARMALOOP_ALERTING_GRPC_PORT", "1")
    monkeypatch.setenv("PHARMALOOP_RND_LIMITS", '{"x": 2.5}')
    settings = service_settings("rnd", Special)
    assert (settings.grpc_port, settings.site, settings.limits) == (4711, "hospital-a", {"x": 2.5})
    with pytest.raises(ValidationError, match="frozen"):
        settings.grpc_port = 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PHARMALOOP_RND_GRPC_PORT", "many"),
        ("PHARMALOOP_RND_REFLECTION", "perhaps"),
        ("PHARMALOOP_RND_MAX_REQUEST_BYTES", "4 MB"),
        ("PHARMALOOP_RND_LIMITS", "{not json"),
        ("PHARMALOOP_RND_LIMITS", '{"x": "y"}'),
    ],
)
def test_a_bad_value_of_a_service_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Invalid) as caught:
        service_settings("rnd", Special)
    assert caught.value.reason == "BAD_SETTING"
    assert caught.value.field == variable
    assert variable in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PHARMALOOP_CLOCK_SPEED", "fast"),
        ("PHARMALOOP_CLOCK_SPEED", "0"),
        ("PHARMALOOP_CLOCK_SPEED", "-600"),
        ("PHARMALOOP_SITES", "hospital-a,hospital-b"),
        ("PHARMALOOP_ENDPOINTS", "rnd=1"),
    ],
)
def test_a_bad_value_that_all_share_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Invalid) as caught:
        read_settings(PlatformSettings)
    assert (caught.value.reason, caught.value.field) == ("BAD_SETTING", variable)


def test_a_bad_value_of_kafka_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_REPLICATION_FACTOR", "three")
    with pytest.raises(Invalid) as caught:
        read_settings(KafkaSettings)
    assert caught.value.field == "KAFKA_REPLICATION_FACTOR"


def test_shared_settings_come_from_their_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "b1:9092,b2:9092")
    monkeypatch.setenv("MONGODB_URI", "mongodb://m/?replicaSet=rs0")
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", "/var/lib/pharmaloop")
    monkeypatch.setenv("PHARMALOOP_SITES", '["hospital-a", "hospital-b"]')
    monkeypatch.setenv("PHARMALOOP_RND_GRPC_PORT", "4711")  # a service's: nothing to the platform's
    assert read_settings(KafkaSettings).bootstrap_servers == "b1:9092,b2:9092"
    assert read_settings(MongoSettings).uri == "mongodb://m/?replicaSet=rs0"
    platform = read_settings(PlatformSettings)
    assert platform.sites == ("hospital-a", "hospital-b")
    assert platform.state_dir == Path("/var/lib/pharmaloop")
