"""A database that is older than its own topics catches up before it takes commands.

An event is on a topic only after its transaction was committed; so a topic that
holds newer versions than the database means that the database was set back (a
backup was restored, or it is new). The aggregates are brought up to date from
their own events, which are noted as having happened, and with them what the
service keeps beside them and can bring back (`Regain`); then the runners fold
their inputs again, and what the topics show to have happened is not done, and
not said, a second time.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from services.kit.bus.protocol import Bus, Partition, Record
from services.kit.clock import wall_now
from services.kit.contracts import Contract
from services.kit.envelope import Event, from_record
from services.kit.errors import Integrity, Poison
from services.kit.log import get_logger
from services.kit.positions import Positions
from services.kit.runners.fold import drive
from services.kit.runners.notes import MARKS, Making, Mark
from services.kit.store.kinds import Get, Kind, Plan, Read, Write
from services.kit.store.protocol import Store, Transaction
from services.kit.work import INBOX, Acted, Cause, Job, Overlay, Work, run_jobs

_log = get_logger("kit.recovery")
_TAKE = 2000
_TAKE_SECONDS = 1.0
#: Silent turns after which the rest of a partition is taken to hold nothing of ours.
_SILENT_TURNS = 20
#: Events of so many bytes are taken in by one transaction: what is brought back beside them is larger.
_MOST_BYTES = 512 * 1024

#: Brings back what a service keeps beside an aggregate, from one of the aggregate's own events that the
#: database lacks: it reads and puts states and makes steps due; it says nothing. The events of an aggregate
#: come in order; that of a transaction which was not published whole may be the last.
Regain = Callable[[Work, Event], None]


@dataclass(frozen=True)
class Restored:
    """The database was set back once; until here its runners fold what was folded before.

    `life` is new with every restore: what is asked in it was not asked before.
    """

    ends: tuple[tuple[str, int, int], ...]
    life: str = ""

    def until(self) -> dict[Partition, int]:
        return {Partition(topic, number): end for topic, number, end in self.ends}


RESTORED: Kind[Restored] = Kind("_restored", Restored)
#: The one document.
_LATEST = "latest"

#: An aggregate: its kind's name and its id.
_Place = tuple[str, str]


class Passed:
    """Have the runners of a service folded again what they had folded before the restore?"""

    def __init__(self, restored: Restored, positions: Positions) -> None:
        self._until = restored.until()
        self._positions = positions

    async def left(self) -> int:
        """Records that are still to be folded again."""
        stands = await self._positions.all()
        behind = 0
        for runner, at in stands.items():
            topics = self._positions.topics(runner)
            behind += sum(max(0, end - at.get(p, 0)) for p, end in self._until.items() if p.topic in topics)
        return behind


@dataclass
class OwnLog:
    """The topics that a service says its own aggregates' events on.

    Of a service that runs once for each site, `site` is the one whose database this is: what
    another site's process has said on a shared topic is not its own. `reads` are the topics that the
    service folds; `regain` brings back, by kind, what stands beside its aggregates; `now` is platform time.
    """

    service: str
    contract: Contract
    bus: Bus
    store: Store
    kinds: Iterable[Kind[Any]]
    sites: tuple[str, ...]
    site: str = ""
    reads: Iterable[str] = ()
    regain: Mapping[Kind[Any], Regain] = field(default_factory=dict)
    now: Callable[[], datetime] = wall_now
    _waiting: dict[_Place, dict[int, Event]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        self._aggregates = {kind.name: kind for kind in self.kinds if kind.evolve is not None}
        self._making = Making(f"{self.service}.own")
        self._log = self.bus.log()
        self._regain = {kind.name: function for kind, function in self.regain.items()}
        self._restored = Restored(())
        self.topics = sorted(
            name
            for name, topic in self.contract.names((self.site,) if self.site else self.sites)
            if topic.owner == self.service and topic.events
        )

    # -- where the database certainly is ----------------------------------

    def note(self) -> None:
        """Everything below the present ends is in the database: it was committed before it was published."""
        if not self._aggregates:
            return
        ends = self._log.ends(self.topics)
        self.store.transact(lambda txn: self._set(txn, ends))

    def _set(self, txn: Transaction, ends: Mapping[Partition, int]) -> None:
        reads = {p: Get(MARKS, self._making.mark(p)) for p in ends}
        loaded = txn.load(reads.values())
        writes = []
        for partition, end in ends.items():
            found = loaded[reads[partition]]
            stands, base = (found[0].state.next, found[0].version) if found else (0, 0)
            if end > stands:
                mark = Mark(self._making.runner, 1, partition.topic, partition.number, end)
                writes.append(Write(MARKS, self._making.mark(partition), base, base + 1, mark))
        if writes:
            txn.write(Plan(tuple(writes), ()))

    def _behind(self) -> dict[Partition, tuple[int, int]]:
        """(first, after last) of what the database is not known to hold, by partition."""
        ends, starts = self._log.ends(self.topics), self._log.starts(self.topics)
        reads = {p: Get(MARKS, self._making.mark(p)) for p in ends}
        loaded = self.store.transact(lambda txn: txn.load(reads.values()))
        behind = {}
        for partition, end in ends.items():
            found = loaded[reads[partition]]
            first = max(found[0].state.next if found else 0, starts[partition])
            if first < end:
                behind[partition] = (first, end)
        return behind

    # -- catching up --------------------------------------------------------

    def catch_up(self) -> int:
        """Bring the aggregates up to date from their own events; answers how many events were lacking.

        If any was, it is noted with it that the database was set back: up to the present ends the topics
        are evidence of what happened before.
        Integrity when an event between the database and the topic is nowhere.
        """
        behind = self._behind() if self._aggregates else {}
        if not behind:
            return 0
        self._restored = _restored_to(self._log.ends(self.reads))
        lacking = sum(self._take_in(piece) for records in self._read(behind) for piece in _pieces(records))
        missing = [place for place, held in self._waiting.items() if held]
        if missing:
            kind, id = missing[0]
            first = min(self._waiting[missing[0]])
            raise Integrity(
                f"{self.service}: the topics hold version {first} of {kind} {id!r}, and the versions between "
                "the database and it are nowhere: restore a newer backup"
            )
        self.note()
        return lacking

    def _read(self, behind: dict[Partition, tuple[int, int]]) -> Iterable[list[Record]]:
        reader = self.bus.reader({partition: first for partition, (first, _) in behind.items()})
        left = {partition: end for partition, (_, end) in behind.items()}
        silent = 0
        try:
            while left and silent < _SILENT_TURNS:
                records = reader.take(_TAKE, _TAKE_SECONDS)
                silent = 0 if records else silent + 1
                for record in records:
                    partition = Partition(record.topic, record.partition)
                    if record.offset + 1 >= left.get(partition, 0):
                        left.pop(partition, None)
                yield records
        finally:
            reader.close()
        if left:
            raise Integrity(
                f"{self.service}: {len(left)} partitions of its own topics cannot be read to the end"
            )

    def _take_in(self, records: list[Record]) -> int:
        touched: set[_Place] = set()
        for record in records:
            event = self._own(record)
            if event is not None and event.seq is not None:
                place = (_kind_of(event), event.subject)
                self._waiting[place].setdefault(event.seq, event)
                touched.add(place)
        if not touched:
            return 0
        before, after = self.store.transact(lambda txn: self._apply(txn, sorted(touched)))
        for place, version in after.items():
            held = self._waiting[place]
            self._waiting[place] = {seq: event for seq, event in held.items() if seq > version}
        return sum(after[place] - before[place] for place in after)

    def _own(self, record: Record) -> Event | None:
        """The record as an event of an aggregate of this service, if it is one."""
        try:
            event = from_record(self.contract, record)
        except Poison:
            return None  # whoever folds the topic dead-letters it
        service, _, kind = event.source.removeprefix("/svc/").partition("/")
        if self.site and getattr(event.message, "site", self.site) != self.site:
            return None
        return event if service == self.service and kind in self._aggregates else None

    def _apply(self, txn: Transaction, places: list[_Place]) -> tuple[dict[_Place, int], dict[_Place, int]]:
        """Evolve what the database lacks of these aggregates, up to the first version that is missing.

        Answers their versions before and after.
        """
        states = {place: Get(self._aggregates[place[0]], place[1]) for place in places}
        loaded = txn.load(states.values())
        before: dict[_Place, int] = {}
        after: dict[_Place, int] = {}
        writes: list[Write] = []
        acted: set[str] = set()
        taken: list[Event] = []
        for place, get in states.items():
            found = loaded[get]
            state, version = (found[0].state, found[0].version) if found else (None, 0)
            before[place] = version
            while (event := self._waiting[place].get(version + 1)) is not None:
                state, version = self._evolved(get, state, event), version + 1
                taken.append(event)
                acted.add(event.id)
                if event.cause:
                    acted.add(f"{place[0]}/{place[1]}|{event.cause}")
            after[place] = version
            if version > before[place]:
                writes.append(Write(get.kind, get.id, before[place], version, state))
        if taken:
            noted = _noted(txn, self._restored)
            txn.write(Plan((*writes, *self._acted(txn, acted), *self._regained(txn, taken), noted), ()))
        return before, after

    def _regained(self, txn: Transaction, taken: Iterable[Event]) -> tuple[Write, ...]:
        """What stands beside the aggregates of these events."""
        jobs, actor = [], f"service:{self.service}"
        for event in taken:
            regain = self._regain.get(_kind_of(event))
            if regain is not None:
                cause = Cause(event.id, self.now(), actor, event.id, event.case, event.run)
                jobs.append(Job(cause, partial(_call, regain, event)))
        overlay = Overlay()
        for done in drive(txn, run_jobs(jobs, overlay, self.contract, self.service)):
            if done.error is not None:
                raise done.error
        plan = overlay.plan()
        assert not plan.outbox, "what happened is not said again"
        return plan.writes

    def _evolved(self, get: Get, state: Any, event: Event) -> Any:
        assert get.kind.evolve is not None
        try:
            return get.kind.evolve(state, event.message)
        except Exception as error:
            raise Integrity(
                f"{self.service}: {event.type} {event.id} on its own topic, version {event.seq} of "
                f"{get.kind.name} {get.id!r}, does not follow from the versions before it ({error}): this "
                "version of the service did not say it; run the one that did, or find out who else writes "
                "to the topic, and restore a newer backup"
            ) from error

    def _acted(self, txn: Transaction, ids: set[str]) -> list[Write]:
        reads: list[Read] = [Get(INBOX, id) for id in sorted(ids)]
        loaded = txn.load(reads)
        return [
            Write(INBOX, read.id, 0, 1, Acted())
            for read in reads
            if isinstance(read, Get) and not loaded[read]
        ]


def _call(regain: Regain, event: Event, work: Work) -> None:
    regain(work, event)


def _kind_of(event: Event) -> str:
    """Name of the kind of the aggregate that said it."""
    return event.source.rsplit("/", 1)[1]


def _pieces(records: list[Record]) -> Iterator[list[Record]]:
    """The records in pieces of a transaction's size."""
    piece: list[Record] = []
    size = 0
    for record in records:
        size += len(record.value or b"")
        if piece and size > _MOST_BYTES:
            yield piece
            piece, size = [], len(record.value or b"")
        piece.append(record)
    yield piece


def recover(own: OwnLog) -> Restored | None:
    """Catch up from the service's own topics; what its runners have to pass, if it ever was set back."""
    lacking = own.catch_up()
    if lacking:
        _log.warning("the database was older than its topics", events=lacking)
    return restored_of(own.store)


def note_restored(store: Store, ends: Mapping[Partition, int]) -> Restored:
    """From now on the topics, up to these ends, are evidence of what happened before."""
    restored = _restored_to(ends)
    store.transact(lambda txn: txn.write(Plan((_noted(txn, restored),), ())))
    return restored


def _restored_to(ends: Mapping[Partition, int]) -> Restored:
    return Restored(tuple((p.topic, p.number, end) for p, end in sorted(ends.items())), uuid.uuid4().hex)


def _noted(txn: Transaction, restored: Restored) -> Write:
    found = txn.load([Get(RESTORED, _LATEST)])[Get(RESTORED, _LATEST)]
    base = found[0].version if found else 0
    return Write(RESTORED, _LATEST, base, base + 1, restored)


def restored_of(store: Store) -> Restored | None:
    """What a restore has left to be passed, if there ever was one."""
    get = Get(RESTORED, _LATEST)
    found = store.transact(lambda txn: txn.load([get]))[get]
    return found[0].state if found else None
