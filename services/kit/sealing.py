"""Sealed fields: AES-256-GCM under a key of the subject.

A key belongs to one subject; destroying it erases what was sealed under it,
in every log and view at once. The key id and the purpose are authenticated
with the ciphertext, so a sealed value cannot be moved to another subject or
field.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.errors import Integrity, Unknown

M = TypeVar("M", bound=Message)
_KEY_BYTES = 32
_NONCE_BYTES = 12


class KeyProvider(Protocol):
    """Keeps keys by id."""

    def make(self, key_id: str) -> bytes:
        """The key; made when it does not exist, Unknown when it was destroyed."""

    def find(self, key_id: str) -> bytes:
        """The key; Unknown when it does not exist or was destroyed."""

    def destroy(self, key_id: str) -> None:
        """Forget the key for good. Safe to repeat."""


class LocalKeys:
    """Keys in a folder, one file each, readable by their owner only. For one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, key_id: str) -> Path:
        return self._folder / hashlib.sha256(key_id.encode()).hexdigest()

    def make(self, key_id: str) -> bytes:
        path = self._path(key_id)
        if not path.exists():
            self._create(path)
        return self.find(key_id)

    def _create(self, path: Path) -> None:
        # Written aside and linked: another process sees no key or a whole one, never a part.
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    def find(self, key_id: str) -> bytes:
        path = self._path(key_id)
        key = path.read_bytes() if path.exists() else b""
        if not key:
            raise Unknown("NO_KEY", f"there is no key {key_id!r}; it was never made, or was destroyed")
        if len(key) != _KEY_BYTES:
            raise Integrity(
                f"the key {key_id!r} ({path.name} in the folder of keys) has {len(key)} bytes and must have "
                f"{_KEY_BYTES}, not written in hex or base64: head -c {_KEY_BYTES} /dev/urandom makes one"
            )
        return key

    def destroy(self, key_id: str) -> None:
        # An empty file stays: under a new key of this name, what the old one sealed would look altered.
        self._path(key_id).write_bytes(b"")


def subject_key(site: str, pseudonym: str) -> str:
    """Key id of a patient."""
    return f"subject/{site}/{pseudonym}"


class Sealer:
    """Seals and opens messages and bytes."""

    def __init__(self, keys: KeyProvider) -> None:
        self._keys = keys

    def has(self, key_id: str) -> bool:
        """Is there such a key? Integrity where something else stands in its place."""
        try:
            return bool(self._keys.find(key_id))
        except Unknown:
            return False

    def secret(self, key_id: str, purpose: str) -> bytes:
        """32 bytes that only the key's holder can make, for naming things (HMAC-SHA256 of the purpose)."""
        return hmac.digest(self._keys.make(key_id), _bound(key_id, purpose), "sha256")

    def seal_bytes(self, plain: bytes, key_id: str, purpose: str) -> common.Sealed:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._keys.make(key_id)).encrypt(nonce, plain, _bound(key_id, purpose))
        return common.Sealed(key_id=key_id, nonce=nonce, ciphertext=sealed)

    def open_bytes(self, sealed: common.Sealed, purpose: str) -> bytes:
        """The plain bytes; Unknown without the key, Integrity when altered or moved."""
        key = self._keys.find(sealed.key_id)
        try:
            return AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, _bound(sealed.key_id, purpose))
        except (InvalidTag, ValueError):
            raise Integrity(f"a value sealed under {sealed.key_id!r} was altered or moved") from None

    def seal(self, message: Message, key_id: str) -> common.Sealed:
        return self.seal_bytes(message.SerializeToString(), key_id, message.DESCRIPTOR.full_name)

    def open(self, sealed: common.Sealed, cls: type[M]) -> M:
        return cls.FromString(self.open_bytes(sealed, cls.DESCRIPTOR.full_name))


def _bound(key_id: str, purpose: str) -> bytes:
    return f"v1|{key_id}|{purpose}".encode()
