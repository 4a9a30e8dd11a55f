"""Makings of views: a rebuild makes a view anew beside the old one, and swaps when it has caught up.

One document a runner says which making is live, and which one is being made;
every process of the service follows it, so that a rebuild is shared by all
instances and goes on after any of them dies. The new making never passes the
live one; the swap is one transaction that seals the watermarks of the old, so
that each record is emitted by one of the two and by one only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.kit.bus.protocol import Partition
from services.kit.clock import wall_now
from services.kit.errors import PharmaLoopError, Rejected, Retryable, Unknown
from services.kit.log import get_logger
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.notes import MARKS, PARKED, SEEN, WAITING, Making, Mark, Waiting
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Get, Kind, Plan, Stored, Where, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction, Conflict

_log = get_logger("kit.makings")
_IDLE_SECONDS = 1.0
_BUSY_SECONDS = 0.2
#: So near to the live making, that is paused for the rest.
_NEAR = 2000
#: A switch that takes longer is given up; the live making goes on.
_SWITCH_SECONDS = 30.0
#: Other processes ask the old collections until they have heard of the swap.
_GRACE_SECONDS = 4.0
_JOIN_SECONDS = 30.0
BUILDING, SWITCHING = "building", "switching"


@dataclass(frozen=True)
class Generation:
    """Which making of a runner's views is live, and which is being made (0: none).

    `last` is the highest number ever given; `dropping` the making that a swap
    has replaced; `since` the wall time of the latest change (ISO).
    """

    runner: str
    live: int = 1
    building: int = 0
    phase: str = ""
    dropping: int = 0
    last: int = 1
    by: str = ""
    since: str = ""


GENERATIONS: Kind[Generation] = Kind("_generation", Generation)


@dataclass(frozen=True)
class Progress:
    """How far a rebuild is: records behind the new making's watermarks, and behind the live one's."""

    runner: str
    live: int
    building: int
    phase: str
    done: int
    total: int
    state: str
    detail: str


class Makings:
    """The batch runners of a process, one live making of each and at most one that is being made."""

    def __init__(
        self, reactors: Sequence[Reactor], around: Surroundings, store: AsyncStore, *, works: bool
    ) -> None:
        self._store = store
        self._around = around
        self.works = works
        self._reactors = {f"{around.service}.{reactor.name}": reactor for reactor in reactors}
        self._live: dict[str, BatchRunner] = {
            name: BatchRunner(reactor, around) for name, reactor in self._reactors.items()
        }
        self._next: dict[str, BatchRunner] = {}
        self._busy = False
        self._stopped = False
        self._turning = asyncio.Lock()

    # -- what runs ------------------------------------------------------

    @property
    def runners(self) -> list[BatchRunner]:
        """The live makings, in the order in which the service names them."""
        return list(self._live.values())

    def generation(self, runner: str) -> int:
        """The making of a runner that is live, as this process knows."""
        return self._live[runner].making.generation

    async def start(self) -> None:
        """Begin with the makings that are live."""
        for name in self._reactors:
            await self._follow(name, (await self._read(name)).state)
        if self.works:
            for runner in self._live.values():
                runner.start()

    async def run(self) -> None:
        """Follow what the documents say, until cancelled."""
        while True:
            try:
                await self.turn()
            except PharmaLoopError as error:
                _log.warning("makings not followed, trying again", error=str(error))
            await asyncio.sleep(_BUSY_SECONDS if self._busy else _IDLE_SECONDS)

    async def turn(self) -> None:
        """Follow every runner's document, and move a rebuild on by one step."""
        async with self._turning:
            if not self._stopped:
                await self._turn()

    async def _turn(self) -> None:
        self._busy = False
        docs = await self._store.among(GENERATIONS, "_id", list(self._reactors)) if self._reactors else []
        found = {doc.id: doc for doc in docs}
        for name in self._reactors:
            doc = found.get(name) or _first(name)
            await self._follow(name, doc.state)
            if self.works and (doc.state.building or doc.state.dropping):
                self._busy = True
                await self._move_on(name, doc)

    async def stop(self, seconds: float) -> None:
        """Let every runner finish its batch and leave; none is started any more."""
        async with self._turning:
            self._stopped = True
            running = [*self._live.values(), *self._next.values()] if self.works else []
            for runner in running:
                runner.stop()
            await asyncio.gather(*(asyncio.to_thread(runner.join, seconds) for runner in running))

    # -- asked for ------------------------------------------------------

    def views(self) -> list[str]:
        """Names of the runners whose views can be rebuilt."""
        return sorted(name for name, reactor in self._reactors.items() if reactor.views)

    async def rebuild(self, runner: str, actor: str) -> Generation:
        """Begin a rebuild; every process of the service joins it."""
        await self._check(runner)

        async def begin(txn: AsyncTransaction) -> Generation:
            doc = await self._load(txn, runner)
            if doc.state.building or doc.state.dropping:
                raise Rejected(
                    "REBUILD_RUNS", f"{runner} is being rebuilt; see `pharmaloop rebuild show {runner}`"
                )
            last = doc.state.last + 1
            begun = _changed(doc.state, building=last, last=last, phase=BUILDING, by=actor)
            await _put(txn, runner, doc, begun)
            return begun

        return await self._store.transact(begin)

    async def cancel(self, runner: str) -> Generation:
        """Give a rebuild up; the live making stays."""
        self._known(runner)

        async def work(txn: AsyncTransaction) -> Generation:
            doc = await self._load(txn, runner)
            if not doc.state.building:
                raise Rejected("NO_REBUILD", f"{runner} is not being rebuilt")
            ended = _changed(doc.state, building=0, phase="", dropping=doc.state.building)
            await _put(txn, runner, doc, ended)
            return ended

        return await self._store.transact(work)

    async def progress(self, runner: str) -> Progress:
        """How far the runner's rebuild is; `building` is 0 when there is none."""
        self._known(runner)
        doc = (await self._read(runner)).state
        marks = await self._store.where(MARKS, "runner", runner)
        behind = {
            generation: sum(m.state.next for m in marks if m.state.generation == generation)
            for generation in (doc.live, doc.building)
        }
        made = self._next.get(runner)
        return Progress(
            runner,
            doc.live,
            doc.building,
            doc.phase,
            behind[doc.building] if doc.building else behind[doc.live],
            behind[doc.live],
            made.status.state if made else "",
            made.status.detail if made else "",
        )

    async def _check(self, runner: str) -> None:
        reactor = self._known(runner)
        if not reactor.views:
            raise Rejected(
                "NOT_A_VIEW",
                f"{runner} keeps states that commands change too; views are: {', '.join(self.views())}",
                "view",
            )
        topics = self._live[runner].topics
        starts = await asyncio.to_thread(self._around.bus.log().starts, topics)
        cut = sorted({partition.topic for partition, start in starts.items() if start > 0})
        if cut:
            raise Rejected(
                "LOG_IS_CUT",
                f"{', '.join(cut)} no longer holds its oldest records (its retention is finite): "
                f"a rebuild of {runner} would lose what they said",
                "view",
            )

    def _known(self, runner: str) -> Reactor:
        if runner not in self._reactors:
            raise Unknown(
                "UNKNOWN_VIEW", f"there is no {runner!r}; views are: {', '.join(self.views())}", "view"
            )
        return self._reactors[runner]

    # -- following ------------------------------------------------------

    async def _follow(self, name: str, doc: Generation) -> None:
        """Make this process run what the document says."""
        live = self._live[name]
        if live.making.generation != doc.live:
            await self._take_over(name, doc.live)
        made = self._next.get(name)
        if made is not None and made.making.generation != doc.building:
            await self._halt(self._next.pop(name))
        if doc.building and name not in self._next and self.works:
            await self._begin(name, doc)
        self._live[name].paused = doc.phase == SWITCHING

    async def _take_over(self, name: str, generation: int) -> None:
        """The document names another making as live: queries and runner change to it."""
        old, made = self._live[name], self._next.pop(name, None)
        reactor = self._reactors[name]
        if made is None or made.making.generation != generation:
            if made is not None:
                await self._halt(made)
            made = BatchRunner(reactor, self._around, generation)
            if old.status.state != "starting" and self.works:
                made.start()
        for kind in reactor.views:
            self._store.names.live[kind.name] = generation
            self._around.store.names.live[kind.name] = generation
        made.go_live()
        self._live[name] = made
        if old.status.state != "starting":
            await self._halt(old)
            _log.info("view taken over", runner=name, generation=generation)

    async def _begin(self, name: str, doc: Generation) -> None:
        reactor = self._reactors[name]
        await self._store.prepare([kind.pinned(doc.building) for kind in reactor.views])
        made = self._next[name] = BatchRunner(reactor, self._around, doc.building, follows=doc.live)
        made.start()
        _log.info("rebuild begun", runner=name, generation=doc.building)

    async def _halt(self, runner: BatchRunner) -> None:
        runner.stop()
        if self.works:
            await asyncio.to_thread(runner.join, _JOIN_SECONDS)

    # -- moving a rebuild on --------------------------------------------

    async def _move_on(self, name: str, doc: Stored[Generation]) -> None:
        state = doc.state
        age = wall_now() - datetime.fromisoformat(state.since) if state.since else timedelta()
        if state.dropping and age > timedelta(seconds=_GRACE_SECONDS):
            await self._drop(name, doc)
        elif state.phase == BUILDING and await self._distance(name, state) <= _NEAR:
            await self._change(name, doc, _changed(state, phase=SWITCHING))
        elif state.phase == SWITCHING and age > timedelta(seconds=_SWITCH_SECONDS):
            _log.warning("switch given up, trying again", runner=name)
            await self._change(name, doc, _changed(state, phase=BUILDING))
        elif state.phase == SWITCHING and await self._swap(name):
            await self._follow(name, (await self._read(name)).state)

    async def _distance(self, name: str, doc: Generation) -> int:
        """Records between the new making and the live one."""
        progress = await self.progress(name)
        return progress.total - progress.done

    async def _swap(self, name: str) -> bool:
        """Make the new making live, if it stands where the live one stands in every partition."""
        topics = self._live[name].topics
        ends = await asyncio.to_thread(self._around.bus.log().ends, topics)

        async def work(txn: AsyncTransaction) -> bool:
            doc = await self._load(txn, name)
            old, new = Making(name, doc.state.live), Making(name, doc.state.building)
            reads = {making: {p: Get(MARKS, making.mark(p)) for p in ends} for making in (old, new)}
            waiting = Where(WAITING, "runner", name)
            loaded = await txn.load([waiting, *(get for gets in reads.values() for get in gets.values())])
            if _kept(old, loaded[waiting]) != _kept(new, loaded[waiting]):
                return False  # one of them has taken up an event that the other has yet to
            seals = []
            for partition in ends:
                before, after = loaded[reads[old][partition]], loaded[reads[new][partition]]
                stands = before[0].state.next if before else 0
                if doc.state.phase != SWITCHING or (after[0].state.next if after else 0) != stands:
                    return False
                seals.append(_seal(old, partition, before[0] if before else None))
            swapped = _changed(
                doc.state, live=doc.state.building, building=0, phase="", dropping=doc.state.live
            )
            await txn.write(Plan((*seals, _write(name, doc, swapped)), ()))
            return True

        try:
            return await self._store.transact(work)
        except (Conflict, Retryable):
            return False

    async def _drop(self, name: str, doc: Stored[Generation]) -> None:
        """Forget the making that is not used any more. Its sealed marks stay, to fence who sleeps."""
        old = doc.state.dropping
        for kind in self._reactors[name].views:
            await self._store.forget(kind.pinned(old))
        kept: Iterable[Kind[object]] = (SEEN, PARKED, WAITING)  # type: ignore[assignment]
        for note in kept:
            await self._store.forget_ids(note, f"{name}|{old}|")
        await self._change(name, doc, _changed(doc.state, dropping=0))
        _log.info("old making dropped", runner=name, generation=old)

    # -- the document ---------------------------------------------------

    async def _read(self, name: str) -> Stored[Generation]:
        found = await self._store.get(GENERATIONS, name)
        return found or _first(name)

    async def _load(self, txn: AsyncTransaction, name: str) -> Stored[Generation]:
        found = (await txn.load([Get(GENERATIONS, name)]))[Get(GENERATIONS, name)]
        return found[0] if found else _first(name)

    async def _change(self, name: str, doc: Stored[Generation], state: Generation) -> None:
        """Write the document, unless another process has moved it on."""

        async def work(txn: AsyncTransaction) -> None:
            if await self._load(txn, name) == doc:
                await _put(txn, name, doc, state)

        await self._store.transact(work)


def _first(name: str) -> Stored[Generation]:
    """The document of a runner that was never rebuilt."""
    return Stored(name, 0, Generation(name))


def _changed(doc: Generation, **fields: object) -> Generation:
    return replace(doc, since=wall_now().isoformat(), **fields)  # type: ignore[arg-type]


def _write(name: str, doc: Stored[Generation], state: Generation) -> Write:
    return Write(GENERATIONS, name, doc.version, doc.version + 1, state)


async def _put(txn: AsyncTransaction, name: str, doc: Stored[Generation], state: Generation) -> None:
    await txn.write(Plan((_write(name, doc, state),), ()))


def _kept(making: Making, waiting: list[Stored[Waiting]]) -> set[tuple[str, int, int]]:
    """The records that wait in this making."""
    return {
        (record.topic, record.partition, record.offset)
        for one in waiting
        if making.owns(one.state)
        for record in one.state.records
    }


def _seal(making: Making, partition: Partition, mark: Stored[Mark] | None) -> Write:
    """Nobody folds this partition for the old making any more, not even its first record."""
    state = mark.state if mark else Mark(making.runner, making.generation, *partition, 0)
    base = mark.version if mark else 0
    return Write(MARKS, making.mark(partition), base, base + 1, replace(state, sealed=True))
