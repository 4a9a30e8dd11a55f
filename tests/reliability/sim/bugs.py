"""Bugs that are planted in the product, to see whether the checker catches them.

Each is a mistake that somebody could make. While a bug is planted, the worlds
of a seed run with it; the world where nothing goes wrong runs without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.alerting import handlers as alerting
from services.clinical.domain import lots
from services.exchange import valuations
from services.exchange.domain import studies
from services.kit.bus.protocol import Partition, Position, Record
from services.kit.envelope import Event
from services.kit.errors import Poison
from services.kit.runners import decider
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.fold import HandlerFold
from services.kit.runners.loop import Loop
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import OutboxRow
from services.kit.work import Work
from services.loops.domain import transfer
from services.production import handlers as production
from tests.reliability.sim.stores import AsyncStore

Patch = Callable[[], Any]


@dataclass(frozen=True)
class Bugs:
    """How the product is changed: by patches, and by what happens to a handler."""

    patches: tuple[Patch, ...] = ()
    handler: Callable[[Any], Any] = lambda handler: handler

    @contextmanager
    def planted(self) -> Iterator[None]:
        made = [patch() for patch in self.patches]
        for patch in made:
            patch.start()
        try:
            yield
        finally:
            for patch in reversed(made):
                patch.stop()

    def runner(self, reactor: Reactor, around: Surroundings) -> BatchRunner:
        if reactor.rows is None:
            reactor = replace(reactor, events={cls: self.handler(h) for cls, h in reactor.events.items()})
        return BatchRunner(reactor, around)


NONE = Bugs()


def _forgetful(handler: Any) -> Any:
    """Loses a record now and then: a batch's error that somebody swallowed."""

    def handle(work: Work, event: Event) -> None:
        if int(event.id[:4].replace("-", ""), 16) % 23:
            handler(work, event)

    return handle


def _poisonous(handler: Any) -> Any:
    """Refuses what it should have kept until its referent came."""

    def handle(work: Work, event: Event) -> None:
        if isinstance(event.message, clinical.MedicationRecorded) and event.id[0] in "01":
            raise Poison("TOO_EARLY", "the patient is not known yet")
        handler(work, event)

    return handle


_unpublished = AsyncStore.unpublished
_mark_published = AsyncStore.mark_published


async def _newest_first(store: AsyncStore, limit: int, after: str = "") -> list[OutboxRow]:
    """The outbox in the wrong order."""
    return list(reversed(await _unpublished(store, limit, after)))


async def _marked_unseen(store: AsyncStore, limit: int, after: str = "") -> list[OutboxRow]:
    """Rows are marked as published before they are: at most once."""
    rows = await _unpublished(store, limit, after)
    await _mark_published(store, {row.id: Position(row.topic, 0, 0) for row in rows})
    return rows


_marks = BatchRunner._marks


def _unfenced(runner: BatchRunner, txn: Any, ends: dict[Partition, int]) -> Any:
    """Believes whatever the watermark says."""
    runner._marked |= runner._stored(ends)
    return _marks(runner, txn, ends)


def _unguarded(fold: HandlerFold, handler: Any, event: Event, record: Record) -> Callable[[Work], None]:
    """A version that was seen is folded again."""
    return lambda work: handler(work, event)


_with_records = lots.with_records


def _recorded_again(lot: lots.Lot, change: int) -> lots.Lot:
    """One record of the hospital counts as two."""
    return _with_records(lot, 2 * change)


_step = Loop.step


def _seen_by_nobody(loop: Any, case: Any, event: Event) -> Any:
    """The machine takes a repeated event for a new one."""
    return _step(loop, replace(case, seen={}) if case else None, event)


def _unstored(command: Any, request: Any) -> Callable[[Work], Any]:
    """The stored answer is not asked for: a command that comes again is decided again."""

    def call(work: Work) -> Any:
        message = command(work, request).SerializeToString()
        return decider.Answer(message=message, event_ids=tuple(row.id for row in work.outbox))

    return call


def _ignored(case: transfer.Case, event: Any, message: Any) -> tuple[transfer.Case, list[Any]]:
    """Research took a version back, and its run goes on."""
    return case, []


def _later_version_ignored() -> Any:
    """A plant goes on with a version that another one took the place of."""
    return mock.patch.dict(production.TRANSFERS, {rnd.ParameterSetSuperseded: lambda work, event: None})


def _never_over(held: Any, now: Any) -> list[Any]:
    """Nobody looks at the time that a study may take."""
    return []


_metered = valuations._metered


def _all_but_one(*given: Any) -> list[Any]:
    """What the last site contributed is left out."""
    return _metered(*given)[:-1]


def _patched(target: Any, name: str, by: Any) -> Bugs:
    return Bugs((lambda: mock.patch.object(target, name, by),))


PLANTED: Mapping[str, Bugs] = {
    "a record is lost": Bugs(handler=_forgetful),
    "a record is refused": Bugs(handler=_poisonous),
    "a fact has its effect twice": _patched(lots, "with_records", _recorded_again),
    "a command has its effect twice": _patched(decider, "_answered", _unstored),
    "versions are published in the wrong order": _patched(AsyncStore, "unpublished", _newest_first),
    "rows are marked before they are published": _patched(AsyncStore, "unpublished", _marked_unseen),
    "the fence is forgotten": _patched(BatchRunner, "_marks", _unfenced),
    "the guard is skipped": _patched(HandlerFold, "_guarded", _unguarded),
    "the machine skips its guard": _patched(Loop, "step", _seen_by_nobody),
    "the loops ignore a withdrawal": _patched(transfer, "_on_withdrawal", _ignored),
    "the plant ignores that a later version came": Bugs((_later_version_ignored,)),
    "a study's time is never over": _patched(studies, "decide_expire", _never_over),
    "a judgement ends no alert": _patched(alerting, "on_deviation_judged_real", lambda *given: None),
    "a contribution that was valued is not metered": _patched(valuations, "_metered", _all_but_one),
}
#: The seed to look at first where most worlds never meet a bug's occasion.
SEEN_AT = {"a study's time is never over": 25}
