"""Sealing to a public key: the recipient opens, nobody else, and only for what it was sealed for."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit import hpke
from services.kit.errors import Invalid

ANN = hpke.generate()
INFO, AAD = b"parameter set", b"pharmaloop.rnd.parameters.v1|plant-1"

# RFC 9180's published test vectors (test-vectors.json of its authors): mode 0, kem 0x0020, kdf 1, aead 2.
RFC_INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
RFC_PRIVATE = bytes.fromhex("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d")
RFC_PUBLIC = bytes.fromhex("430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c")
RFC_ENCAPSULATED = bytes.fromhex("6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256")
RFC_AAD = bytes.fromhex("436f756e742d30")
RFC_CIPHERTEXT = bytes.fromhex(
    "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a"
)
RFC_PLAIN = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")


def _extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, hashlib.sha256)


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labelled + b"\x01", hashlib.sha256)[:length]


def rfc_open(private: bytes, sealed: bytes, info: bytes, aad: bytes) -> bytes:
    """A receiver written from the text of RFC 9180, sections 4 and 5, and from nothing of ours."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    encapsulated, ciphertext = sealed[:32], sealed[32:]
    key = X25519PrivateKey.from_private_bytes(private)
    shared = key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    both = encapsulated + key.public_key().public_bytes_raw()
    shared = _expand(kem, _extract(kem, b"", b"eae_prk", shared), b"shared_secret", both, 32)
    context = b"\x00" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    secret = _extract(suite, shared, b"secret", b"")
    cipher = AESGCM(_expand(suite, secret, b"key", context, 32))
    return cipher.decrypt(_expand(suite, secret, b"base_nonce", context, 12), ciphertext, aad)


def test_the_written_out_receiver_meets_the_published_vector() -> None:
    assert rfc_open(RFC_PRIVATE, RFC_ENCAPSULATED + RFC_CIPHERTEXT, RFC_INFO, RFC_AAD) == RFC_PLAIN
    assert hpke.public_of(RFC_PRIVATE) == RFC_PUBLIC


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(max_size=40))
def test_a_partner_with_any_library_of_the_standard_opens_what_we_seal(
    plain: bytes, info: bytes, aad: bytes
) -> None:
    sealed = hpke.seal(RFC_PUBLIC, plain, info, aad)
    assert rfc_open(RFC_PRIVATE, sealed, len(info).to_bytes(8, "big") + info + aad, b"") == plain
    assert hpke.open_sealed(RFC_PRIVATE, sealed, info, aad) == plain
    assert len(sealed) == len(plain) + hpke.OVERHEAD_BYTES


@pytest.mark.req("G1b")
def test_of_a_hundred_third_readers_none_opens() -> None:
    sealed = hpke.seal(ANN.public, b"the recipe", INFO, AAD)
    refused = 0
    for _ in range(100):
        with pytest.raises(Invalid, match="NOT_OPENED"):
            hpke.open_sealed(hpke.generate().private, sealed, INFO, AAD)
        refused += 1
    assert refused == 100
    assert hpke.open_sealed(ANN.private, sealed, INFO, AAD) == b"the recipe"


@pytest.mark.parametrize(
    ("info", "aad"),
    [(b"another", AAD), (INFO, b"another"), (AAD, INFO), (INFO + AAD[:1], AAD[1:]), (b"", INFO + AAD)],
    ids=["info", "aad", "exchanged", "border", "joined"],
)
def test_a_value_moved_to_another_purpose_is_refused(info: bytes, aad: bytes) -> None:
    sealed = hpke.seal(ANN.public, b"the recipe", INFO, AAD)
    with pytest.raises(Invalid, match="NOT_OPENED"):
        hpke.open_sealed(ANN.private, sealed, info, aad)


def test_a_truncated_value_is_refused_at_every_length() -> None:
    sealed = hpke.seal(ANN.public, b"the recipe", INFO, AAD)
    for length in range(len(sealed)):
        reason = "SEALED_TOO_SHORT" if length < hpke.OVERHEAD_BYTES else "NOT_OPENED"
        with pytest.raises(Invalid) as refusal:
            hpke.open_sealed(ANN.private, sealed[:length], INFO, AAD)
        assert (refusal.value.reason, refusal.value.field) == (reason, "sealed")


def test_an_altered_value_is_refused_at_every_byte() -> None:
    sealed = hpke.seal(ANN.public, b"the recipe", INFO, AAD)
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(Invalid, match="NOT_OPENED"):
            hpke.open_sealed(ANN.private, bytes(altered), INFO, AAD)


def test_the_same_value_never_looks_the_same() -> None:
    sealed = {hpke.seal(ANN.public, b"no", INFO, AAD) for _ in range(50)}
    assert len(sealed) == 50
    assert len({one[:32] for one in sealed}) == 50, "an encapsulated key twice is a key and nonce twice"


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_is_refused_by_name(key: bytes) -> None:
    with pytest.raises(Invalid) as of_public:
        hpke.seal(key, b"x", INFO, AAD)
    with pytest.raises(Invalid) as of_private:
        hpke.open_sealed(key, bytes(60), INFO, AAD)
    assert (of_public.value.reason, of_public.value.field) == ("NO_KEY", "public_key")
    assert (of_private.value.reason, of_private.value.field) == ("NO_KEY", "private_key")
    with pytest.raises(Invalid, match="NO_KEY"):
        hpke.public_of(key)


def test_a_key_that_everybody_could_open_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        hpke.seal(bytes(32), b"x", INFO, AAD)
    assert (refusal.value.reason, refusal.value.field) == ("WEAK_KEY", "public_key")


def test_a_private_key_is_not_shown() -> None:
    pair = hpke.generate()
    assert hpke.public_of(pair.private) == pair.public
    assert repr(pair.private) not in repr(pair)
