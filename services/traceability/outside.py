"""What the handlers need from outside the database: digest keys and the platform clock.

The handlers are part of the service's specification, which exists before the
process has read its settings; so they hold this one object, which is
connected before any of them is called. Neither thing decides what a handler does:
keys are the same in every process, the clock only says when a step is due.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from datetime import datetime

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.clock import Clock
from services.kit.errors import Retryable
from services.kit.sealing import KeyProvider, Sealer

_MASTER = "traceability/exposure"
_PURPOSE = "exposure-digest"
_WAIT_SECONDS = 10.0


class Outside:
    """Digest keys and the clock, once connected."""

    def __init__(self) -> None:
        self._connected = threading.Event()
        self._clock: Clock
        self._sealer: Sealer
        self._master = b""

    def connect(self, keys: KeyProvider, clock: Clock) -> None:
        self._clock, self._sealer, self._master = clock, Sealer(keys), keys.make(_MASTER)
        self._connected.set()

    def _wait(self) -> None:
        if not self._connected.wait(_WAIT_SECONDS):
            raise Retryable("the service is still starting")

    def now(self) -> datetime:
        """Platform time, for a step that is due at once: a fact's own time may lie in the future."""
        self._wait()
        return self._clock.now()

    def key(self, run: str, site: str) -> bytes:
        """The key of a run's digests at a site."""
        self._wait()
        return hmac.digest(self._master, f"{run}|{site}".encode(), hashlib.sha256)

    def sealed(self, run: str, site: str) -> common.Sealed:
        """The key, sealed for the site; a second call gives other bytes for the same key."""
        return self._sealer.seal_bytes(self.key(run, site), f"exposure/{site}", _PURPOSE)
