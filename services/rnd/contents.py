"""What a parameter set says, between clear and sealed: under research's own key, and to a plant's.

The hash is of the deterministic serialisation, which is what is sealed: a
plant hashes what it opens and compares. The hash travels in the clear, and most
of a content may be known from the version before it: so each content is salted,
or its set-points could be found by trying.
"""

from __future__ import annotations

import hashlib
import secrets

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1.parameter_set_pb2 import ParameterSetContent
from services.kit import hpke
from services.kit.sealing import Sealer
from services.rnd.domain.plants import PlantKey

_PURPOSE = ParameterSetContent.DESCRIPTOR.full_name
_SALT_BYTES = 32


def plain(content: ParameterSetContent) -> bytes:
    """What is sealed: the content with a salt of its own."""
    salted = ParameterSetContent()
    salted.CopyFrom(content)
    salted.salt = secrets.token_bytes(_SALT_BYTES)
    return salted.SerializeToString(deterministic=True)


def said(plain: bytes) -> ParameterSetContent:
    """The content without its salt."""
    content = ParameterSetContent.FromString(plain)
    content.ClearField("salt")
    return content


def hash_of(plain: bytes) -> bytes:
    return hashlib.sha256(plain).digest()


def seal(sealer: Sealer, set: str, plain: bytes) -> common.Sealed:
    """For research itself: the key is of the set."""
    return sealer.seal_bytes(plain, f"rnd/parameter-set/{set}", _PURPOSE)


def open_sealed(sealer: Sealer, sealed: bytes) -> bytes:
    """The plain bytes of a serialised Sealed."""
    return sealer.open_bytes(common.Sealed.FromString(sealed), _PURPOSE)


def payload_info(set: str, version: int, plant: str) -> bytes:
    """What a payload is bound to, besides the content's hash."""
    return f"pharmaloop parameter set v1|{set}|{version}|{plant}".encode()


def seal_to(key: PlantKey, set: str, version: int, plain: bytes) -> common.Sealed:
    """For the plant alone (HPKE): the nonce is empty, the ciphertext begins with the encapsulated key."""
    info = payload_info(set, version, key.plant)
    return common.Sealed(key_id=key.key_id, ciphertext=hpke.seal(key.public_key, plain, info, hash_of(plain)))
