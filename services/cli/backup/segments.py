"""Records of a partition in files: `topics/TOPIC/PARTITION/FIRST_OFFSET.seg.zst`.

A segment is a zstd stream of records, one behind the other, in the order of
their offsets. A record is a length (4 bytes, big endian) and so many bytes of
MessagePack: [offset, timestamp in ms, key, value, [[header, value], ...]], where
key, value and the value of a header are bytes or nil.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from services.cli.backup.manifest import Broken

#: A segment is closed behind the record with which it reaches this size, before it is compressed.
SEGMENT_BYTES = 64 << 20
_LENGTH = 4


class Kept(NamedTuple):
    """A record as it stood in its partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Writer:
    """Writes the records of one partition; `files` are those that it made."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.files: list[Path] = []
        self.records = 0
        self.first = -1
        self._folder = folder
        self._most = segment_bytes
        self._encoder = msgspec.msgpack.Encoder()
        self._stream: Any = None
        self._size = 0

    def write(self, record: Kept) -> None:
        if self._stream is None:
            self._open(record.offset)
        if not self.records:
            self.first = record.offset
        packed = self._encoder.encode(record)
        self._stream.write(len(packed).to_bytes(_LENGTH, "big") + packed)
        self.records += 1
        self._size += _LENGTH + len(packed)
        if self._size >= self._most:
            self.close()

    def _open(self, offset: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{offset:020d}.seg.zst"
        self.files.append(path)
        self._stream, self._size = pa.CompressedOutputStream(str(path), "zstd"), 0

    def close(self) -> None:
        """End the segment that is open; it is on the disk then."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            with self.files[-1].open("rb") as file:
                os.fsync(file.fileno())


def read(path: Path) -> Iterator[Kept]:
    """The records of a segment; Broken where it ends inside one or cannot be unpacked."""
    decoder = msgspec.msgpack.Decoder(Kept)
    try:
        with pa.input_stream(str(path), compression="zstd") as stream:
            while head := stream.read(_LENGTH):
                size = int.from_bytes(head, "big")
                packed = stream.read(size)
                if len(head) < _LENGTH or len(packed) < size:
                    raise Broken(f"{path} ends inside a record")
                yield decoder.decode(packed)
    except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
        raise Broken(f"{path} cannot be unpacked: {error}") from None
