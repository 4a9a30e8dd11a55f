"""What a backup holds, written down last: a folder without a manifest is no backup.

    DIR/manifest.json      what is in it, with count, range and digest of each part
    DIR/manifest.sha256    the manifest's own digest, as `sha256sum` writes it
    DIR/databases/...      one folder a database, in mongodump's layout (gzip)
    DIR/topics/...         one folder a topic, its records in segments (zstd)
    DIR/state/clock.json   the platform's clock, where the state folder was at hand

Each file is named with its size and SHA-256. A file that is missing, shorter or
otherwise than it was is named before anything is written anywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from services.cli.session import Failure

FORMAT = 1
MANIFEST, SEAL = "manifest.json", "manifest.sha256"
#: Bytes that are read at once.
_PIECE = 1 << 20


@dataclass(frozen=True)
class File:
    """One file of the backup; `path` is below its folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """A collection at the moment of the backup. `digest` does not depend on the order of its documents."""

    database: str
    name: str
    documents: int
    digest: str
    #: BSON documents one behind the other, and options with indexes, both gzip.
    file: str
    about: str


@dataclass(frozen=True)
class Partition:
    """Records from `first` up to, not with, `end`; offsets between them may be missing (compaction)."""

    number: int
    first: int
    end: int
    records: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topic:
    """A topic, and the settings of its own."""

    name: str
    partitions: tuple[Partition, ...]
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """How far a consumer group had told that it was: (topic, partition, offset)."""

    name: str
    offsets: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Manifest:
    """What stands in a backup."""

    format: int
    #: Version and contract of the build that made it.
    platform: str
    contract: str
    begun: datetime
    #: Moments (UTC) between which the databases were caught, and the topics were cut.
    databases_at: datetime
    topics_at: datetime
    ended: datetime
    collections: tuple[Collection, ...] = ()
    topics: tuple[Topic, ...] = ()
    groups: tuple[Group, ...] = ()
    files: tuple[File, ...] = ()

    @property
    def documents(self) -> int:
        return sum(one.documents for one in self.collections)

    @property
    def records(self) -> int:
        return sum(part.records for topic in self.topics for part in topic.partitions)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.files)

    @property
    def databases(self) -> tuple[str, ...]:
        return tuple(sorted({one.database for one in self.collections}))


class Broken(Failure):
    """The backup is not what it was when it was made; exit status 1."""

    exit_code = 1
    usual = "take another copy of this backup, or an older backup; this one is not restored from"


def noted(folder: Path, path: Path) -> File:
    """A file of the backup, as it is now."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return File(path.relative_to(folder).as_posix(), size, found)


def write(folder: Path, manifest: Manifest) -> None:
    """Write it down: the last thing that makes a folder a backup."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    kept(folder / MANIFEST, text)
    kept(folder / SEAL, f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode())


def kept(path: Path, content: bytes) -> None:
    """A small file, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> Manifest:
    """The manifest of a backup; Failure where there is none, Broken where it is not as it was written."""
    if not (folder / MANIFEST).is_file():
        raise Failure(
            f"{folder} is no backup: it has no {MANIFEST}; a backup has one once it is whole",
            "name the folder that 'pharmaloop backup make' wrote",
        )
    text = (folder / MANIFEST).read_bytes()
    seal = folder / SEAL
    told = seal.read_text(errors="replace").partition(" ")[0] if seal.is_file() else ""
    if told != hashlib.sha256(text).hexdigest():
        raise Broken(f"{folder / MANIFEST} is not as it was written ({SEAL} does not fit)")
    try:
        number = msgspec.json.decode(text, type=dict[str, object]).get("format")
        if number != FORMAT:
            raise Failure(
                f"{folder} has format {number}, this build reads format {FORMAT}",
                "restore it with the build that made it",
            )
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Broken(f"{folder / MANIFEST} cannot be understood: {error}") from None


def check(folder: Path, manifest: Manifest, done: Callable[[int], None] = lambda bytes: None) -> None:
    """See that each file is as it was; Broken names the first that is not. `done` hears of bytes read."""
    for file in manifest.files:
        if trouble := _trouble(folder / file.path, file, done):
            raise Broken(f"{folder / file.path} {trouble}")


def _trouble(path: Path, file: File, done: Callable[[int], None]) -> str:
    """What is wrong with a file; empty for nothing."""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"has {size:,} bytes, and had {file.bytes:,} when the backup was made"
        found = hashlib.sha256()
        for piece in _pieces(path):
            found.update(piece)
            done(len(piece))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return "" if found.hexdigest() == file.sha256 else "is not as it was when the backup was made (SHA-256)"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
