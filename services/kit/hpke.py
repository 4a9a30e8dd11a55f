"""Sealing to a recipient's public key: HPKE (RFC 9180), base mode.

The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Who holds
the public key can seal; only who holds the private key can open. The sender is
not authenticated: sign what must be attributed. A sealed value is the
encapsulated key (32 bytes) followed by ciphertext and tag (16 bytes longer
than the plain bytes).

`info` says what the value is for, `aad` what it belongs to (topic, subject,
round); both are authenticated and neither is sent. Each sealed value has a
context of its own, so the library takes one bound text for both: partners who
use another RFC 9180 library pass `info = I2OSP(len(info), 8) || info || aad`
and an empty `aad`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from services.kit.errors import Invalid

KEY_BYTES = 32
_TAG_BYTES = 16
_LENGTH_BYTES = 8
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

#: What a sealed value is longer than its plain bytes.
OVERHEAD_BYTES = KEY_BYTES + _TAG_BYTES


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A recipient's X25519 keys, 32 raw bytes each (RFC 7748)."""

    private: bytes = field(repr=False)
    public: bytes


def generate() -> KeyPair:
    """A new pair of keys."""
    key = X25519PrivateKey.generate()
    return KeyPair(private=key.private_bytes_raw(), public=key.public_key().public_bytes_raw())


def public_of(private_key: bytes) -> bytes:
    """The public key of a private one, 32 bytes each; Invalid when it is no key."""
    return _private(private_key).public_key().public_bytes_raw()


def seal(public_key: bytes, plain: bytes, info: bytes, aad: bytes) -> bytes:
    """`plain` for the holder of the private key alone; Invalid when the public key is none.

    Two sealed values of the same plain bytes differ.
    """
    if len(public_key) != KEY_BYTES:
        raise _no_key("public_key", len(public_key))
    try:
        return _SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(public_key), info=_bound(info, aad))
    except ValueError:
        # A point of small order: whoever sees the sealed value could open it.
        raise Invalid(
            "WEAK_KEY",
            "the recipient's public key is a point of small order: ask the recipient for a new key",
            "public_key",
        ) from None


def open_sealed(private_key: bytes, sealed: bytes, info: bytes, aad: bytes) -> bytes:
    """The plain bytes.

    Invalid when the value is too short, was altered, was sealed to another key,
    or for another `info` or `aad`: what anybody can send is refused, it does
    not stop the service that reads it.
    """
    key = _private(private_key)
    if len(sealed) < OVERHEAD_BYTES:
        raise Invalid(
            "SEALED_TOO_SHORT",
            f"a sealed value has at least {OVERHEAD_BYTES} bytes, this one {len(sealed)}: send it whole",
            "sealed",
        )
    try:
        return _SUITE.decrypt(sealed, key, info=_bound(info, aad))
    except (InvalidTag, ValueError):
        raise Invalid(
            "NOT_OPENED",
            "the value was sealed to another key or for another purpose, or was altered: "
            "seal it again to the key that the recipient publishes now",
            "sealed",
        ) from None


def _private(private_key: bytes) -> X25519PrivateKey:
    if len(private_key) != KEY_BYTES:
        raise _no_key("private_key", len(private_key))
    return X25519PrivateKey.from_private_bytes(private_key)


def _no_key(field_name: str, length: int) -> Invalid:
    return Invalid(
        "NO_KEY", f"an X25519 key has {KEY_BYTES} bytes, this one {length}: send the raw key", field_name
    )


def _bound(info: bytes, aad: bytes) -> bytes:
    # The length makes the border unambiguous: ("ab", "c") is not ("a", "bc").
    return len(info).to_bytes(_LENGTH_BYTES, "big") + info + aad
