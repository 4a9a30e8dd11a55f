"""The three things that are done with a backup: made, looked at, laid back.

The order is what makes it right. Out: how far the groups were, then the ends of
the log, then the one moment of the databases; the log is kept up to these ends,
or further, as far as a database knows it at its moment. So what a database has
of the log is there, and the log has nothing that its database lacks, because an
event is published after its transaction was committed. Back: the log first, the
databases last, and a mark in Kafka as long as it lasts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.cli.backup import databases, dumps, manifest, segments, target, topics
from services.cli.backup.manifest import Broken, Manifest
from services.cli.backup.topics_back import Filling
from services.cli.session import Failure
from services.kit.bus.register import digest_of
from services.kit.clock import wall_now
from services.kit.contracts import contract
from services.kit.settings import KafkaSettings, MongoSettings
from services.kit.version import code_version

#: Shows how long work gets on: what it is, how much there is (None: unknown); gives a function to move it.
Bar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
_CLOCK = "clock.json"


def _quiet(_what: str, _total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class Engines:
    """What is backed up, or restored into. `state` is the state folder, where there is one at hand."""

    kafka: KafkaSettings
    mongo: MongoSettings
    state: Path | None = None
    #: What the platform's databases begin with; tests have others.
    prefix: str = databases.PREFIX


# -- out ----------------------------------------------------------------------


def make(engines: Engines, folder: Path, bar: Bar = _quiet) -> Manifest:
    """Write a backup of a running platform; `folder` is there when it is whole, and not before."""
    if folder.exists():
        raise Failure(f"{folder} exists already: a backup gets a folder of its own", "name another folder")
    draft = folder.with_name(f"{folder.name}.unfinished")
    try:
        draft.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Failure(
            f"{draft} exists: another backup is being made there, or was broken off",
            f"delete {draft} if nobody is writing to it, and give the command again",
        ) from None
    except OSError as error:
        raise Failure(f"{draft} cannot be made: {error.strerror or error}") from None
    try:
        made = _written(engines, draft, bar)
        manifest.write(draft, made)
        draft.rename(folder)
    except OSError as error:
        raise Failure(f"{draft}: {error.strerror or error}; nothing is left of this backup") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


def _written(engines: Engines, folder: Path, bar: Bar) -> Manifest:
    begun = wall_now()
    with topics.plain_errors(engines.kafka):
        backbone = topics.Backbone(engines.kafka)
        topics.refuse_unfinished(backbone)
        backbone.refuse_hidden(name for name, _ in contract().names(()))
    log = _Log(backbone)
    with databases.connected(engines.mongo) as client:
        caught, collections = _databases(client, folder, engines.prefix, bar, log)
    with topics.plain_errors(engines.kafka):
        groups, cut = log.groups, log.cut
        own = backbone.settings_of(cut.topics)
        with bar("records", cut.most) as moved:
            copied = topics.copy(engines.kafka, folder, cut, own, moved)
    if not collections and not any(part.end for topic in copied for part in topic.partitions):
        raise Failure(
            f"there is nothing to back up: neither Kafka at {engines.kafka.bootstrap_servers} nor MongoDB "
            "holds anything of the platform",
            "see that KAFKA_BOOTSTRAP_SERVERS and MONGODB_URI name those of the platform",
        )
    _keep_clock(engines.state, folder)
    paths = sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)
    with bar("digests", len(paths)) as moved:
        files = []
        for path in paths:
            files.append(manifest.noted(folder, path))
            moved(1)
    return Manifest(
        format=manifest.FORMAT,
        platform=code_version(),
        contract=digest_of(contract()),
        begun=begun,
        databases_at=caught,
        topics_at=log.looked,
        ended=wall_now(),
        collections=collections,
        topics=copied,
        groups=groups,
        files=tuple(files),
    )


class _Log:
    """How far the log goes: as it was just before the databases' moment, and as far as they know it then."""

    groups: tuple[manifest.Group, ...]
    looked: datetime
    cut: topics.Cut

    def __init__(self, backbone: topics.Backbone) -> None:
        self._backbone = backbone
        self._ends: dict[topics.Place, int] = {}

    def look(self) -> None:
        with topics.plain_errors(self._backbone.settings):
            self.groups = self._backbone.groups()
            self._ends, self.looked = self._backbone.ends(), wall_now()

    def cut_at(self, known: Mapping[topics.Place, int]) -> None:
        with topics.plain_errors(self._backbone.settings):
            self._backbone.refuse_hidden({topic for topic, _ in known})
            self.cut = self._backbone.cut(self._ends, known)


def _databases(
    client: databases.Client, folder: Path, prefix: str, bar: Bar, log: _Log
) -> tuple[datetime, tuple[manifest.Collection, ...]]:
    expected = sum(
        client[database][about["name"]].estimated_document_count()
        for database in databases.names(client, prefix)
        for about in databases.collections(client, database)
    )
    with bar("documents", expected) as moved:
        return databases.dump(client, folder, prefix, moved, log)


def _keep_clock(state: Path | None, folder: Path) -> None:
    """Platform time goes on after a restore; the state folder has no other thing that is not made anew."""
    clock = state / _CLOCK if state else None
    if clock is not None and clock.is_file():
        manifest.kept(folder / "state" / _CLOCK, clock.read_bytes())


# -- looked at ----------------------------------------------------------------


def verify(folder: Path, bar: Bar = _quiet) -> Manifest:
    """See that every file is as it was, and that what is in it is what the manifest says."""
    found = manifest.read(folder)
    with bar("files", found.bytes) as moved:
        manifest.check(folder, found, moved)
    with bar("documents", found.documents) as moved:
        for one in found.collections:
            digest = dumps.Digest()
            for document in dumps.read(folder / one.file):
                digest.add(document)
            if (digest.documents, digest.text) != (one.documents, one.digest):
                raise Broken(f"{folder / one.file} does not hold the documents that the manifest tells of")
            dumps.read_about(folder / one.about)
            moved(one.documents)
    with bar("records", found.records) as moved:
        for topic in found.topics:
            for part in topic.partitions:
                _verify_partition(folder, topic.name, part)
                moved(part.records)
    return found


def _verify_partition(folder: Path, topic: str, part: manifest.Partition) -> None:
    count, at = 0, part.first - 1
    for file in part.files:
        for record in segments.read(folder / file):
            if not at < record.offset < part.end or (not count and record.offset != part.first):
                raise Broken(f"{folder / file}: offset {record.offset} stands out of order")
            count, at = count + 1, record.offset
    if count != part.records:
        raise Broken(
            f"{topic}, partition {part.number}: {count:,} records and not the {part.records:,} "
            "that the manifest tells of"
        )


# -- back ---------------------------------------------------------------------


def restore(engines: Engines, folder: Path, bar: Bar = _quiet) -> Manifest:
    """Lay a backup back into an empty Kafka and MongoDB; nothing is written before it was found whole."""
    found = manifest.read(folder)
    with bar("files", found.bytes) as moved:
        manifest.check(folder, found, moved)
    with topics.plain_errors(engines.kafka), databases.connected(engines.mongo) as client:
        backbone = topics.Backbone(engines.kafka)
        target.check(backbone, client, found, engines.prefix, engines.state)
        filling = Filling(backbone, folder, found)
        filling.begin()
        with bar("records", found.records) as moved:
            filling.fill(moved)
        filling.end()
        with bar("documents", found.documents) as moved:
            databases.lay_back(client, folder, found.collections, moved)
        _bring_clock(engines.state, folder)
        filling.release()
    return found


def _bring_clock(state: Path | None, folder: Path) -> None:
    """The platform's clock, where the state folder has none: one that ran on is the better one."""
    clock = folder / "state" / _CLOCK
    if state is not None and clock.is_file() and not (state / _CLOCK).exists():
        manifest.kept(state / _CLOCK, clock.read_bytes())
