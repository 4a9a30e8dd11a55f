"""The topic migration, which runs before every release, does not go on where a restore was broken off."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from services.kit.bus import migrate
from services.kit.errors import Integrity
from services.kit.settings import KafkaSettings


class _Probe:
    """A Kafka that has these topics."""

    def __init__(self, *topics: str) -> None:
        self._topics = dict.fromkeys(topics)

    def check(self) -> SimpleNamespace:
        return SimpleNamespace(topics=self._topics)


def test_nothing_is_made_where_a_restore_did_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = _Probe(migrate.UNFINISHED)
    monkeypatch.setattr(migrate, "BackboneProbe", lambda settings, client: nullcontext(probe))
    with pytest.raises(Integrity, match="empty this Kafka and its MongoDB"):
        migrate.migrate(KafkaSettings(), ("hospital-a",))
