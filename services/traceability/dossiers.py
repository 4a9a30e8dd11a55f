"""Reads everything that is held of a lot, for its dossier: a few short reads, whatever its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.kit.errors import Unknown
from services.kit.ids import in_kit, parse_lot
from services.kit.store.kinds import Get, Kind, Where
from services.kit.store.protocol import AsyncStore, Loaded
from services.kit.units import size
from services.traceability import views
from services.traceability.domain.balance import Balance, in_common_units
from services.traceability.domain.dossier import capas, kits, lots, results, runs
from services.traceability.domain.dossier import page as pages
from services.traceability.domain.dossier.bounds import FINDINGS
from services.traceability.domain.dossier.page_runs import OfRun
from services.traceability.domain.exposure import Exposure
from services.traceability.domain.graph import Node


async def read(store: AsyncStore, lot: str) -> page.LotDossier:
    """The dossier of a lot; Invalid when the key is none, Unknown when nobody has told of the lot."""
    parts = parse_lot(lot)
    found = await views.read(store, [Get(kind, lot) for kind in _OF_LOT])
    node, record = _one(found, views.NODES, lot), _one(found, views.LOT_RECORDS, lot)
    if node is None and record is None:
        raise Unknown("UNKNOWN_LOT", f"no record names the lot {lot!r}", "lot")
    node, record = node or Node(lot), record or lots.LotRecord(lot)
    shown, left_out = await _newest(store, node.watches)
    held = pages.Held(
        node,
        record,
        in_common_units(_one(found, views.BALANCES, lot) or Balance(lot), size),
        await store.count(views.DISPENSES, {"lots": lot}) > 0,
        await _results(store, record),
        await of_runs(store, shown),
    )
    key = common.LotKey(owner=parts.owner, scheme=parts.scheme, item=parts.item, lot=parts.lot)
    whole = pages.dossier(held, left_out, key)
    return kits.withheld(whole) if in_kit(lot) else whole


_OF_LOT: tuple[Kind[Any], ...] = (views.NODES, views.LOT_RECORDS, views.BALANCES)
_OF_RUN: tuple[Kind[Any], ...] = (
    *(views.RUNS, views.EXPOSURES, views.RUN_RECORDS, views.JOURNAL_RECORDS),
    *(views.HAZARD_RECORDS, views.CAPA_RECORDS, views.TAKEN_RECORDS),
)


def _one(loaded: Loaded, kind: Kind[Any], id: str) -> Any:
    """A state, or None."""
    return next((found.state for found in loaded[Get(kind, id)]), None)


async def _results(store: AsyncStore, record: lots.LotRecord) -> results.Recorded:
    """The results that were judged, and the first of those beyond their limits."""
    lot, kind = record.lot, views.RESULT_RECORDS
    out = await store.page(kind, {"out_of": lot}, "tested", False, "", FINDINGS)
    judged = [one.result for one in record.investigations] + [one.result for one in record.reviews]
    gets = [Get(kind, views.result_id(lot, result)) for result in judged]
    loaded = await views.read(store, gets)
    found = [*out.items, *(held for get in gets for held in loaded[get])]
    return results.Recorded(
        {held.state.result: held.state for held in found},
        await store.count(kind, {"lot": lot}),
        await store.count(kind, {"out_of": lot}),
    )


async def _newest(store: AsyncStore, watches: Sequence[str]) -> tuple[list[str], int]:
    """The newest of the runs that list the lot, and how many are older."""
    told = await views.read(store, [Get(views.RUN_RECORDS, run) for run in watches])
    records = (_one(told, views.RUN_RECORDS, run) or runs.RunRecord(run) for run in watches)
    return pages.newest(records)


async def of_runs(store: AsyncStore, names: Sequence[str]) -> list[OfRun]:
    """What is held of runs that the trace watches."""
    gets = [Get(kind, run) for kind in _OF_RUN for run in names]
    loaded = await views.read(store, [*gets, *(Where(views.SITE_RECORDS, "run", run) for run in names)])
    return [_of_run(loaded, run) for run in names]


def _of_run(loaded: Loaded, name: str) -> OfRun:
    run = _one(loaded, views.RUNS, name)
    return OfRun(
        run=run,
        told=_one(loaded, views.RUN_RECORDS, name) or runs.RunRecord(name),
        head=_one(loaded, views.EXPOSURES, name) or Exposure(name, run.root),
        journal=_one(loaded, views.JOURNAL_RECORDS, name) or runs.JournalRecord(name),
        hazard=_one(loaded, views.HAZARD_RECORDS, name),
        capa=_one(loaded, views.CAPA_RECORDS, name) or capas.CapaRecord(name),
        taken=_one(loaded, views.TAKEN_RECORDS, name),
        sites=[found.state for found in loaded[Where(views.SITE_RECORDS, "run", name)]],
    )
