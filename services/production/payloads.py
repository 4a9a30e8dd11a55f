"""What travels sealed between research, a plant and its own records.

A release is sealed to the plant's public key (HPKE, RFC 9180), bound to the
set, the version, the plant and the hash of what it says: nobody else opens it,
and it cannot be passed on as another version. What a plant keeps of it, and of its own lines, lies
under a key of its records. Both keys are the plant's; they never leave it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.kit import hpke
from services.kit.errors import Invalid, Unknown
from services.kit.sealing import KeyProvider, Sealer

M = TypeVar("M", bound=Message)
#: Rule of a transfer whose payload is not this plant's, or was altered.
NOT_OURS = "PAYLOAD_NOT_OURS"


class NotOurs(Exception):
    """The payload does not open with the plant's key, or does not say what its event says."""


def payload_info(set: str, version: int, plant: str) -> bytes:
    """What a payload is bound to, besides the content's hash."""
    return f"pharmaloop parameter set v1|{set}|{version}|{plant}".encode()


class Payloads:
    """Opens releases to plants, and seals and opens what the plants keep."""

    def __init__(self, keys: KeyProvider) -> None:
        self._keys = keys
        self._sealer = Sealer(keys)

    def public(self, plant: str) -> events.PlantKeyPublished:
        """The plant's public key; the pair is made when there is none."""
        key_id = _key_id(plant)
        public = hpke.public_of(self._keys.make(key_id))
        return events.PlantKeyPublished(plant=plant, key_id=key_id, public_key=public)

    def open(self, released: rnd.ParameterSetReleased) -> sets.ParameterSetContent:
        """What a release says. NotOurs where the plant's key does not open it, or it was altered."""
        sealed = released.payload
        if sha256(sealed.ciphertext).digest() != released.payload_hash:
            raise NotOurs("its ciphertext is not the one that was signed")
        info = payload_info(released.set, released.version, released.plant)
        try:
            private = self._keys.find(_key_id(released.plant))
            plain = hpke.open_sealed(private, sealed.ciphertext, info, released.content_hash)
        except (Invalid, Unknown) as error:
            raise NotOurs(error.description) from None
        if sha256(plain).digest() != released.content_hash:
            raise NotOurs("what it says is not what was signed")
        try:
            content = sets.ParameterSetContent.FromString(plain)
        except DecodeError:
            raise NotOurs("what it says cannot be read") from None
        if content.product != released.product:
            raise NotOurs(f"it is about {content.product!r}, and was released for {released.product!r}")
        return content

    def keep(self, message: Message, plant: str) -> common.Sealed:
        """Sealed under the key of the plant's records."""
        return self._sealer.seal(message, f"plant-records/{plant}")

    def kept(self, sealed: common.Sealed, cls: type[M]) -> M:
        """What was kept. Unknown without the key, Integrity when altered."""
        return self._sealer.open(sealed, cls)


def _key_id(plant: str) -> str:
    return f"plant/{plant}"
