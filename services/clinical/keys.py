"""Opens the digest keys that the trace sends sealed.

A pure function of the sealed bytes, as long as the key provider keeps its
keys, so that a handler may ask it on every delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.errors import Integrity, Unknown
from services.kit.log import get_logger
from services.kit.sealing import Sealer

#: From a serialised Sealed to the 32 bytes of the key; None where it cannot be opened.
OpenKey = Callable[[bytes], bytes | None]
_PURPOSE = "exposure-digest"
_REMEMBERED = 256
_log = get_logger("clinical.keys")


def digest_keys(sealer: Sealer) -> OpenKey:
    """Opens and remembers keys.

    One that does not open (destroyed, altered, sealed for somebody else)
    must neither stop the site nor park the run's patients: they get their
    plans, and the run, which cannot be acknowledged, says that it waits. It
    is tried again whenever the process starts.
    """

    @lru_cache(maxsize=_REMEMBERED)
    def opened(sealed: bytes) -> bytes:
        return sealer.open_bytes(common.Sealed.FromString(sealed), _PURPOSE)

    def open_key(sealed: bytes) -> bytes | None:
        try:
            return opened(sealed)
        except (Unknown, Integrity) as error:
            _log.error("a run's digest key does not open: it cannot be acknowledged", reason=str(error))
            return None

    return open_key
