"""Masks: streams of uniform words from keys that serve one context each.

    pair key = HKDF-SHA256(X25519 shared secret, info = "pair" | lower site | higher site | context)
    self key = HKDF-SHA256(the site's own secret of the job, info = "self" | site | context)
    stream   = AES-256-CTR of zeros under the key, from counter 0

HKDF is RFC 5869. The counter may start at 0 because no key serves twice. Sites
that do not agree on every part of the context derive different keys, and the
total is noise: it can mislead nobody.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.exchange.domain.aggregation.context import Context, packed
from services.exchange.domain.aggregation.layout import Layout, Words

KEY_BYTES = 32


def derived(secret: bytes, *info: bytes) -> bytes:
    """A key of 32 bytes from a secret, for the purpose that `info` names."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=packed(*info)).derive(secret)


def pair_key(shared: bytes, one: str, other: str, context: bytes) -> bytes:
    """The key of two sites in a context (its encoded bytes), the same at both."""
    lower, higher = sorted((one, other))
    return derived(shared, b"pair", lower.encode(), higher.encode(), context)


def self_key(secret: bytes, site: str, context: Context) -> bytes:
    """The seed of a site's own mask in a context: what an opening discloses."""
    return derived(secret, b"self", site.encode(), context.encoded())


def stream(key: bytes, layout: Layout) -> Words:
    """As many uniform words as a vector of the layout has."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    data = encryptor.update(bytes(layout.nbytes))
    return np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False).reshape(-1, layout.limbs)
