"""Each rule of the protocol left out, one at a time: the model must find what goes wrong then.

A rule is left out around the code, never inside it: one decision is replaced
while the search runs, or the world behaves as if the rule were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.runners.fold import HandlerFold
from services.kit.runners.loop import Loop
from services.kit.runners.notes import PARKED
from services.loops.domain import safety
from services.traceability import fold, journal, protocol
from services.traceability.domain import exposure, run
from services.traceability.views import EXPOSURES, RUNS
from tests.model.configurations import CONFIGURATIONS
from tests.model.search import Result, Search
from tests.model.world import World

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Rule:
    """A rule, how it is left out, and the configuration that shows what follows."""

    about: str
    configuration: str
    patches: tuple[Patch, ...] = ()
    world: Callable[[World], None] = lambda world: None

    @contextmanager
    def left_out(self) -> Iterator[None]:
        with ExitStack() as stack:
            for target, name, by in self.patches:
                stack.enter_context(mock.patch.object(target, name, by))
            yield


def _set(**fields: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in fields.items():
            setattr(world, name, value)

    return change


def _joins_nothing(outside: Any, work: Any, name: str, found: Any) -> None:
    """What is folded for a watched lot is left to the walk."""
    watcher = fold._run(work, name)
    if watcher.sealed:
        journal.late(work, watcher, found)


def _all_firm(watcher: run.Run) -> run.Run:
    """A walk makes every lot firm, also those watched since its cut was noted."""
    watches = tuple(replace(watch, firm=True) for watch in watcher.watches)
    return replace(watcher, passed=watcher.round, watches=watches)


def _always_sealed(state: exposure.Exposure, asked: int) -> events.ExposureSealed:
    return events.ExposureSealed(run=state.run, version=asked, lots=state.lots, members=state.members)


def _unguarded(fold: HandlerFold, handler: Any, event: Any, record: Any) -> Callable[[Any], None]:
    return lambda work: handler(work, event)


_step = Loop.step


def _forgets_what_it_saw(loop: Any, case: Any, event: Any) -> Any:
    return _step(loop, replace(case, seen={}) if case else None, event)


_NO_LETTERS: Patch = (protocol, "untaken", lambda work: False)


def _seals_whatever_is_unattributed(of: safety.Run) -> bool:
    return _may_seal(replace(of, unattributed=0))


def _seals_whatever_is_undecided(of: safety.Run) -> bool:
    return _may_seal(replace(of, decided=of.lots))


_may_seal = safety.may_seal


RULES: Mapping[str, Rule] = {
    "watch-before-cut": Rule(
        "the watch is committed before the cut's offsets are read",
        "together",
        world=_set(ends_first=True),
    ),
    "append-from-watch": Rule(
        "what is folded for a watched lot is appended, from the watch on",
        "small",
        ((fold, "_join", _joins_nothing),),
    ),
    "firm-lots": Rule(
        "a lot is firm only when it was read again behind a cut that was noted after its watch",
        "together",
        ((run, "walked", _all_firm),),
    ),
    "position-passes": Rule(
        "a cut is passed by the fold's position, not by its last record",
        "marker",
        world=_set(last_record_counts=True),
    ),
    "parked-holds": Rule(
        "a parked key holds the seal",
        "parked",
        ((protocol, "PARKED", replace(PARKED, name="_nothing")), _NO_LETTERS),
        _set(holding=()),
    ),
    "letters-hold": Rule(
        "a dead-lettered fact, which parks no key, holds the seal",
        "letter",
        (_NO_LETTERS,),
        _set(holding=(PARKED,)),
    ),
    "version-compared": Rule(
        "the transaction that seals compares versions",
        "messages",
        ((exposure, "answer", _always_sealed),),
    ),
    "sites-acknowledge": Rule(
        "every registered site has acknowledged its latest epoch with an equal digest",
        "one-by-one",
        ((safety.Site, "received", lambda site: True),),
    ),
    "differences-explained": Rule(
        "a difference that a site tells of is explained",
        "differences",
        ((safety.Site, "agrees", safety.Site.received),),
    ),
    "unattributed-explained": Rule(
        "the unattributed are explained",
        "unattributed",
        ((safety, "may_seal", _seals_whatever_is_unattributed),),
    ),
    "lots-decided": Rule(
        "every lot has its owner's decision",
        "one-by-one",
        ((safety, "may_seal", _seals_whatever_is_undecided),),
    ),
    "successor-named": Rule(
        "what comes after the seal names the run's successor",
        "successors",
        ((journal, "after_seal", lambda work, run: None),),
    ),
    "head-rewritten": Rule(
        "every append rewrites the journal's head and its run, so that two of them conflict",
        "together",
        world=_set(unguarded=frozenset({EXPOSURES.name, RUNS.name})),
    ),
    "redelivery-dropped": Rule(
        "a message that was seen is dropped, by its source's identity and version",
        "again",
        ((HandlerFold, "_guarded", _unguarded), (Loop, "step", _forgets_what_it_saw)),
    ),
}


def searched(configuration: str, left_out: Rule | None = None) -> Result:
    """Search a configuration, with a rule left out if one is given."""
    world = World(CONFIGURATIONS[configuration])
    try:
        if left_out is None:
            return Search(world).run()
        left_out.world(world)
        with left_out.left_out():
            return Search(world).run()
    finally:
        world.steps.close()
