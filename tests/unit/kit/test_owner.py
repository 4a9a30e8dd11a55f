"""One Kafka belongs to one installation: who may claim its topics, and who is refused."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from confluent_kafka.admin import NewTopic

from services.kit.bus import migrate, owner
from services.kit.bus.owner import InstallationSettings, allow
from services.kit.errors import Integrity
from services.kit.settings import KafkaSettings, read_settings

OLD, NEW = "pharma/pharmaloop", "other/pharmaloop"


def claim(name: str, take_over: str = "") -> InstallationSettings:
    return InstallationSettings(installation=name, take_over=take_over)


class _Kafka:
    """The register's topic, as far as it names an owner; and what was made here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics: dict[str, None] = {}
        self.owner: bytes | None = None
        self.made: list[str] = []
        monkeypatch.setattr(migrate, "BackboneProbe", lambda settings, client: nullcontext(self))
        monkeypatch.setattr(migrate, "_register", lambda settings, fresh: None)
        monkeypatch.setattr(migrate, "check_partitions", lambda name, count, metadata: None)
        monkeypatch.setattr(migrate, "_create", self._create)
        monkeypatch.setattr(owner, "newest", lambda settings, key: self.owner)
        monkeypatch.setattr(owner, "write", self._write)
        self.admin = None

    def check(self) -> SimpleNamespace:
        return SimpleNamespace(topics=dict(self.topics))

    def _create(self, admin: None, missing: list[NewTopic]) -> list[str]:
        names = [topic.topic for topic in missing]
        self.made += names
        self.topics |= dict.fromkeys(names)
        return names

    def _write(self, settings: KafkaSettings, key: bytes, value: bytes) -> None:
        self.owner = value


def run(mine: InstallationSettings, *sites: str) -> list[str]:
    return migrate.migrate(KafkaSettings(), sites or ("hospital-a",), mine)


def test_a_second_installation_is_refused_by_the_name_of_the_first_and_makes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = _Kafka(monkeypatch)
    assert run(claim(OLD))
    assert run(claim(OLD)) == [], "its upgrade"
    kafka.made.clear()
    with pytest.raises(Integrity, match=f"belong to the installation {OLD}, and this is {NEW}"):
        run(claim(NEW), "hospital-a", "hospital-of-the-other")
    assert kafka.made == []
    assert owner.read_owner(KafkaSettings()) == OLD


def test_who_takes_over_names_the_one_that_is_gone_and_that_one_is_refused_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = _Kafka(monkeypatch)
    run(claim(OLD))
    with pytest.raises(Integrity):
        run(claim(NEW, take_over="a-third/one"))
    run(claim(NEW, take_over=OLD))
    assert owner.read_owner(KafkaSettings()) == NEW
    # The setting may stay: it lets nobody else in.
    run(claim(NEW, take_over=OLD))
    with pytest.raises(Integrity, match=f"belong to the installation {NEW}"):
        run(claim(OLD))
    assert kafka.owner is not None


def test_who_tells_no_name_neither_claims_nor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = _Kafka(monkeypatch)
    run(claim(""))
    assert kafka.owner is None
    run(claim(OLD))
    run(claim(""))
    assert owner.read_owner(KafkaSettings()) == OLD


def test_topics_of_a_version_that_claimed_none_are_claimed_by_the_first_upgrade() -> None:
    assert allow("", claim(OLD))
    assert not allow(OLD, claim(OLD))


def test_the_names_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHARMALOOP_INSTALLATION", NEW)
    monkeypatch.setenv("PHARMALOOP_TAKE_OVER", OLD)
    assert read_settings(InstallationSettings) == claim(NEW, OLD)


def test_who_asks_for_a_migration_without_a_name_is_nobody_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = _Kafka(monkeypatch)
    monkeypatch.setenv("PHARMALOOP_INSTALLATION", NEW)
    migrate.migrate(KafkaSettings(), ("hospital-a",))
    assert kafka.owner is None
