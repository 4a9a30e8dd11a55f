"""Documents of a collection in files that mongorestore reads too: `databases/DATABASE/COLLECTION.bson.gz`.

Beside it stands COLLECTION.metadata.json.gz with options and indexes, as
mongodump writes it with --gzip. Documents are kept byte for byte.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

import bson
from bson import json_util
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from services.cli.backup.manifest import Broken

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_LEVEL = 1
_WHOLE = 1 << 256
#: What mongodump leaves as it is in the name of a file.
_PLAIN = "-_.~$&+=:@"
_CANONICAL = json_util.CANONICAL_JSON_OPTIONS


class Digest:
    """Of documents in whatever order: the sum of their SHA-256, modulo 2^256."""

    def __init__(self) -> None:
        self.documents = 0
        self._sum = 0

    def add(self, document: RawBSONDocument) -> None:
        self.documents += 1
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(document.raw).digest(), "big")) % _WHOLE

    @property
    def text(self) -> str:
        return f"{self._sum:064x}"


def place(database: str, name: str) -> str:
    """Where the documents of a collection stand, without the endings."""
    return f"databases/{quote(database, safe=_PLAIN)}/{quote(name, safe=_PLAIN)}"


def write(path: Path, documents: Iterable[RawBSONDocument]) -> Digest:
    """Write documents one behind the other; count and digest of them."""
    found = Digest()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, filename="", mtime=0) as packed:
            for document in documents:
                packed.write(document.raw)
                found.add(document)
        file.flush()
        os.fsync(file.fileno())
    return found


def write_about(path: Path, about: Mapping[str, Any]) -> None:
    """Options and indexes of a collection, as extended JSON."""
    with path.open("wb") as file:
        file.write(
            gzip.compress(
                json_util.dumps(about, json_options=_CANONICAL).encode(), compresslevel=_LEVEL, mtime=0
            )
        )
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> Iterator[RawBSONDocument]:
    """The documents of a file; Broken where it ends inside one or cannot be unpacked."""
    try:
        with gzip.open(path, "rb") as file:
            yield from bson.decode_file_iter(cast(IO[bytes], file), RAW)
    except (OSError, EOFError, zlib.error, BSONError) as error:
        raise Broken(f"{path} cannot be unpacked: {error}") from None


def read_about(path: Path) -> dict[str, Any]:
    """Options and indexes of a collection."""
    try:
        found: dict[str, Any] = json_util.loads(gzip.decompress(path.read_bytes()).decode())
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise Broken(f"{path} cannot be unpacked: {error}") from None
    return found
