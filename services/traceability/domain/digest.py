"""The digest of a site's entries: what both ends compare.

A sum modulo 2^256 of keyed hashes, one for each distinct entry: the order of
entries leaves no trace, one entry more is one addition more, and without the
key it says nothing about anybody.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

ZERO = "0" * 64
_MODULUS = 1 << 256


def term(key: bytes, site: str, pseudonym: str, lot: str, dispense: str, kind: str) -> int:
    """What one entry adds; kind is "MEMBER" or "DISPOSITION"."""
    text = "|".join((site, pseudonym, lot, dispense, kind))
    return int.from_bytes(hmac.digest(key, text.encode(), hashlib.sha256), "big")


def added(digest: str, terms: Iterable[int]) -> str:
    """The digest, in hex, with more terms."""
    return f"{(int(digest, 16) + sum(terms)) % _MODULUS:064x}"
