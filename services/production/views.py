"""Stored states of production.

The aggregates (those with `evolve`) change by their own events. The rest are
folds of topics: what the detector keeps, what a run of the safety loop
brought, recorded runs, rows for lists.
"""

from __future__ import annotations

from typing import Any

from services.kit.store.kinds import Kind
from services.production.domain import (
    capa,
    equipment,
    evidence,
    hazard,
    limits,
    lists,
    lot,
    model,
    samples,
    watch,
)

EQUIPMENT: Kind[equipment.Equipment] = Kind("equipment", equipment.Equipment, evolve=equipment.evolve)
LOTS: Kind[lot.Lot] = Kind("lot", lot.Lot, evolve=lot.evolve)
MODELS: Kind[model.Trained] = Kind("model", model.Trained, evolve=model.evolve)
CAPAS: Kind[capa.Capa] = Kind("capa", capa.Capa, evolve=capa.evolve)
HAZARDS: Kind[hazard.Hazard] = Kind("hazard", hazard.Hazard, evolve=hazard.evolve)
#: By product; written with the ProcessLimitChanged that it folds, by the decider.
LIMITS: Kind[limits.Limits] = Kind("limits", limits.Limits)

#: The detector's own: what it watches, and its copies of models and limits.
WATCHES: Kind[watch.Watch] = Kind("watch", watch.Watch)
PRODUCTS: Kind[watch.Product] = Kind("watch_product", watch.Product)
PARAMETERS: Kind[watch.Parameters] = Kind("watch_parameters", watch.Parameters)

EVIDENCE: Kind[evidence.Evidence] = Kind("evidence", evidence.Evidence)
RUNS: Kind[samples.Run] = Kind("run", samples.Run, ("lot",))
DEVIATION_ROWS: Kind[lists.DeviationRow] = Kind("deviation_row", lists.DeviationRow, ("state", "lot", "at"))
CAPA_ROWS: Kind[lists.CapaRow] = Kind("capa_row", lists.CapaRow, ("state", "at"))

KINDS: tuple[Kind[Any], ...] = (
    *(EQUIPMENT, LOTS, MODELS, CAPAS, HAZARDS, LIMITS),
    *(WATCHES, PRODUCTS, PARAMETERS),
    *(EVIDENCE, RUNS, DEVIATION_ROWS, CAPA_ROWS),
)


def run_id(lot: str, equipment: str) -> str:
    """Id of a lot's run on a piece of equipment, recorded or watched."""
    return f"{lot}|{equipment}"
