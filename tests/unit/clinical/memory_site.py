"""A hospital in memory, and the digest by its definition to judge it by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.handlers import Here, commands, events
from services.clinical.keys import OpenKey
from services.kit.clock import ManualClock
from services.kit.runners.reactor import Reactor
from tests.unit.memory_service import M, MemoryService

SITE = "hospital-a"
START = datetime(2026, 3, 1, tzinfo=UTC)
#: How long a plan of the template for everybody lasts.
FOLLOW_UP = timedelta(hours=8)
KEY = bytes(range(32))
SEALED_KEY = common.Sealed(key_id=f"exposure/{SITE}", nonce=b"n" * 12, ciphertext=b"sealed")


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def moment(days: float) -> common.Moment:
    """A moment so many days before the runs begin, as a source writes it."""
    return common.Moment(at=stamp(START - timedelta(days=days)), offset_minutes=480)


def slow_hmac(key: bytes, text: str) -> bytes:
    """HMAC-SHA256 by its definition (RFC 2104), to judge the service's digest by."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + text.encode()).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def slow_digest(texts: Iterable[str]) -> bytes:
    total = sum(int.from_bytes(slow_hmac(KEY, text), "big") for text in texts)
    return (total % 2**256).to_bytes(32, "big")


class MemorySite(MemoryService):
    """Takes every sealed digest key for KEY."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        here = Here()
        self.open_key: OpenKey = lambda sealed: KEY
        here.connect(SITE, self._open_key, self.clock)
        super().__init__("clinical", Reactor("exposure", events(here)), commands(here), SITE)

    def _open_key(self, sealed: bytes) -> bytes | None:
        return self.open_key(sealed)

    def last(self, cls: type[M], run: str) -> M | None:
        """The newest statement of a kind about a run."""
        found = [
            (event.seq or 0, event.message)
            for event in self.events()
            if isinstance(event.message, cls) and event.subject == f"{run}|{SITE}"
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None
