"""Stored states of traceability, and the queries on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from services.kit.store.kinds import Get, Kind, Read, Stored, Where
from services.kit.store.protocol import AsyncStore, AsyncTransaction, Loaded
from services.traceability.domain import entries, exposure, run
from services.traceability.domain.balance import Balance
from services.traceability.domain.dispense import Dispense
from services.traceability.domain.dossier import capas, lots, results, runs
from services.traceability.domain.finding import Thing
from services.traceability.domain.graph import Node
from services.traceability.domain.lineage.links import Hop


@dataclass(frozen=True)
class Registry:
    """The sites that take part."""

    sites: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suspect:
    """A fact that was stored and looks wrong, as a person reads it."""

    reason: str
    lot: str
    dispense: str
    description: str


@dataclass(frozen=True)
class Loose:
    """Entries that the topics tell of and no announcement there counts, of a database that was set back:
    ExposureEntriesJoined, as bytes."""

    run: str
    bulk: bytes


NODES: Kind[Node] = Kind("lot_node", Node)
DISPENSES: Kind[Dispense] = Kind("dispense", Dispense, ("lots", "waiting"))
RUNS: Kind[run.Run] = Kind("exposure_run", run.Run, ("root", "sealed"))
EXPOSURES: Kind[exposure.Exposure] = Kind("exposure", exposure.Exposure, evolve=exposure.evolve)
ENTRIES: Kind[entries.Entry] = Kind("entry", entries.Entry, ("open_in", "explained"))
LOOSE: Kind[Loose] = Kind("loose_entries", Loose, ("run",))
REGISTRY: Kind[Registry] = Kind("site_registry", Registry)
SUSPECTS: Kind[Suspect] = Kind("suspect", Suspect)
BALANCES: Kind[Balance] = Kind("balance", Balance)

#: What others say, for dossiers: by lot, by lot and result, by run, and by run and site.
LOT_RECORDS: Kind[lots.LotRecord] = Kind("dossier_lot", lots.LotRecord)
RESULT_RECORDS: Kind[results.Result] = Kind("dossier_result", results.Result, ("lot", "out_of", "tested"))
RUN_RECORDS: Kind[runs.RunRecord] = Kind("dossier_run", runs.RunRecord)
JOURNAL_RECORDS: Kind[runs.JournalRecord] = Kind("dossier_journal", runs.JournalRecord)
HAZARD_RECORDS: Kind[runs.HazardRecord] = Kind("dossier_hazard", runs.HazardRecord)
CAPA_RECORDS: Kind[capas.CapaRecord] = Kind("dossier_capa", capas.CapaRecord)
TAKEN_RECORDS: Kind[runs.TakenRecord] = Kind("dossier_taken", runs.TakenRecord)
SITE_RECORDS: Kind[runs.SiteRecord] = Kind("dossier_site", runs.SiteRecord, ("run",))

#: By event, for lineages.
HOPS: Kind[Hop] = Kind("lineage_hop", Hop, ("froms", "tos", "about", "ids"))

#: By kind and id, for one search box.
THINGS: Kind[Thing] = Kind("thing", Thing, ("exact", "prefixes"))

DOSSIER_RECORDS: tuple[Kind[Any], ...] = (
    *(LOT_RECORDS, RESULT_RECORDS, RUN_RECORDS, JOURNAL_RECORDS, SITE_RECORDS),
    *(HAZARD_RECORDS, CAPA_RECORDS, TAKEN_RECORDS),
)
KINDS: tuple[Kind[Any], ...] = (
    *(BALANCES, NODES, DISPENSES, RUNS, EXPOSURES, ENTRIES, LOOSE, REGISTRY, SUSPECTS),
    *DOSSIER_RECORDS,
    HOPS,
    THINGS,
)


def result_id(lot: str, result: str) -> str:
    """Id of what is held of a lot's result: by its lot, for what one lot's topic tells comes in order."""
    return f"{lot}|{result}"


#: So many lots of a trace are read by one transaction, which has seconds for all their dispenses.
_TOGETHER = 16
#: The one document of the registry.
ALL_SITES = "sites"


class Level(NamedTuple):
    """Lots at one depth below the lot that was asked for, with their dispenses."""

    depth: int
    nodes: list[Node]
    dispenses: list[Dispense]


async def read(store: AsyncStore, reads: Iterable[Read]) -> Loaded:
    """Read together, under one snapshot."""
    wanted = list(reads)

    async def work(txn: AsyncTransaction) -> Loaded:
        return await txn.load(wanted)

    return await store.transact(work)


async def sites(store: AsyncStore) -> tuple[str, ...]:
    """The registered sites."""
    found = await store.get(REGISTRY, ALL_SITES)
    return found.state.sites if found else ()


async def trace(store: AsyncStore, root: Node) -> AsyncIterator[Level]:
    """Down from a lot, depth by depth, a few lots at a time: no more is held than what was read together.
    Ends also where the graph has a cycle."""
    seen: set[str] = {root.lot}
    disputed: set[str] = set()
    lots, depth = [root.lot], 0
    while lots:
        below: set[str] = set()
        for first in range(0, len(lots), _TOGETHER):
            level = await _level(store, depth, lots[first : first + _TOGETHER], disputed)
            below.update(child for node in level.nodes for child in node.outputs)
            yield level
        below -= seen
        seen |= below
        lots, depth = sorted(below), depth + 1


async def _level(store: AsyncStore, depth: int, lots: list[str], disputed: set[str]) -> Level:
    gets = [Get(NODES, lot) for lot in lots]
    given = [Where(DISPENSES, "lots", lot) for lot in lots]
    loaded = await read(store, [*gets, *given])
    nodes = [found.state for get in gets for found in loaded[get]]
    return Level(depth, nodes, _once((found for where in given for found in loaded[where]), disputed))


def _once(found: Iterable[Stored[Dispense]], disputed: set[str]) -> list[Dispense]:
    """Each dispense once: a disputed one may name several lots of the trace."""
    result = []
    for id, _, dispense in found:
        if len(dispense.lots) > 1:
            if id in disputed:
                continue
            disputed.add(id)
        result.append(dispense)
    return result
