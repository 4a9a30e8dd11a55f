"""The digest on which a site and the trace must agree.

A sum of keyed hashes over the distinct entries: it does not depend on their
order, reveals nobody, and survives the erasure of a patient's key. The trace
computes the same; a change here must be made there too.
"""

from __future__ import annotations

import hmac

_BYTES = 32
_MODULUS = 1 << 8 * _BYTES
#: The digest of no entry, as hex text.
EMPTY = bytes(_BYTES).hex()


def term(key: bytes, site: str, pseudonym: str, lot: str, dispense: str, kind: str) -> int:
    """What one entry adds; `kind` is "MEMBER" or "DISPOSITION"."""
    text = f"{site}|{pseudonym}|{lot}|{dispense}|{kind}"
    return int.from_bytes(hmac.digest(key, text.encode(), "sha256"))


def added(digest: str, *terms: int) -> str:
    """The digest, as hex text, with more entries."""
    return ((int(digest, 16) + sum(terms)) % _MODULUS).to_bytes(_BYTES).hex()


def text_of(digest: bytes) -> str:
    """A digest of an event as hex text; leading zeros may have been left out."""
    return digest.rjust(_BYTES, b"\0").hex()
