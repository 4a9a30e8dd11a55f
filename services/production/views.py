"""Stored states of production.

The aggregates (those with `evolve`) change by their own events. The rest are
folds of topics: what the detector keeps, what a run of the safety loop
brought, recorded runs, rows for lists.
"""

from __future__ import annotations

from typing import Any

from services.kit.ids import transfer_case
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
    outcome,
    plant,
    profile,
    record,
    release,
    samples,
    severity,
    transfer,
    transfer_rows,
    trend,
    watch,
)

EQUIPMENT: Kind[equipment.Equipment] = Kind(
    "equipment", equipment.Equipment, ("plant",), evolve=equipment.evolve
)
LOTS: Kind[record.Lot] = Kind(
    "lot",
    record.Lot,
    ("number",),
    evolve=lot.evolve,
    orders=(("started",), ("state", "started"), ("equipment", "started")),
)
MODELS: Kind[model.Trained] = Kind("model", model.Trained, evolve=model.evolve)
CAPAS: Kind[capa.Capa] = Kind("capa", capa.Capa, evolve=capa.evolve)
HAZARDS: Kind[hazard.Hazard] = Kind("hazard", hazard.Hazard, evolve=hazard.evolve)
SEVERITY_RULES: Kind[severity.Rules] = Kind("severity_rules", severity.Rules, evolve=severity.evolve)
PLANTS: Kind[plant.Plant] = Kind("plant", plant.Plant, evolve=plant.evolve)
TRANSFERS: Kind[transfer.Transfer] = Kind("transfer", transfer.Transfer, evolve=transfer.evolve)
PROFILES: Kind[profile.Profile] = Kind("profile", profile.Profile, evolve=profile.evolve)
#: By product; written with the ProcessLimitChanged that it folds, by the decider.
LIMITS: Kind[limits.Limits] = Kind("limits", limits.Limits)

#: The detector's own: what it watches, and its copies of models and limits.
WATCHES: Kind[watch.Watch] = Kind("watch", watch.Watch)
PRODUCTS: Kind[watch.Product] = Kind("watch_product", watch.Product)
PARAMETERS: Kind[watch.Parameters] = Kind("watch_parameters", watch.Parameters)

#: What came of research, by release, and by plant and product; results of lots that are made by a transfer.
RELEASES: Kind[release.Release] = Kind("release", release.Release, ("plant",))
CALIBRATIONS: Kind[release.Calibration] = Kind("calibration", release.Calibration)
RESULTS: Kind[outcome.Results] = Kind("transfer_results", outcome.Results)

#: By product and test.
TRENDS: Kind[trend.Trend] = Kind("trend", trend.Trend)
EVIDENCE: Kind[evidence.Evidence] = Kind("evidence", evidence.Evidence)
RUNS: Kind[samples.Run] = Kind("run", samples.Run, ("lot",))
DEVIATION_ROWS: Kind[lists.DeviationRow] = Kind("deviation_row", lists.DeviationRow, ("state", "lot", "at"))
CAPA_ROWS: Kind[lists.CapaRow] = Kind(
    "capa_row", lists.CapaRow, ("state", "at", "lot", "run", "deviation", "product")
)
RESULT_ROWS: Kind[lists.ResultRow] = Kind("result_row", lists.ResultRow, ("state", "lot", "at"))
DECISION_ROWS: Kind[lists.DecisionRow] = Kind("decision_row", lists.DecisionRow)
TRANSFER_ROWS: Kind[transfer_rows.TransferRow] = Kind(
    "transfer_row", transfer_rows.TransferRow, ("state", "plant", "at")
)
LINE_ROWS: Kind[transfer_rows.LineRow] = Kind("line_row", transfer_rows.LineRow, ("plant",))

KINDS: tuple[Kind[Any], ...] = (
    *(EQUIPMENT, LOTS, MODELS, CAPAS, HAZARDS, SEVERITY_RULES, LIMITS),
    *(PLANTS, TRANSFERS, PROFILES, RELEASES, CALIBRATIONS, RESULTS),
    *(WATCHES, PRODUCTS, PARAMETERS),
    *(TRENDS, EVIDENCE, RUNS),
    *(DEVIATION_ROWS, CAPA_ROWS, RESULT_ROWS, DECISION_ROWS, TRANSFER_ROWS, LINE_ROWS),
)

#: Names of the steps: bring a release to a line; work out advice; tell what a completed lot's run was like.
ADAPT_STEP, ADVISE_STEP, PROFILE_STEP = "adapt", "advise", "profile"


def run_id(lot: str, equipment: str) -> str:
    """Id of a lot's run on a piece of equipment, recorded or watched."""
    return f"{lot}|{equipment}"


def trend_id(product: str, test: str) -> str:
    """Id of the trend of a product's test."""
    return f"{product}|{test}"


def release_id(set: str, version: int, plant: str) -> str:
    """Id of a release to a plant, and of its steps: a transfer's key has no "#"."""
    return f"{transfer_case(set, plant)}#{version}"


def calibration_id(plant: str, product: str) -> str:
    """Id of what a plant's lots of a product taught; a product's key has no "|"."""
    return f"{plant}|{product}"


def line_id(plant: str, line: str) -> str:
    """Id of a line's row, in order of plant and name."""
    return f"{plant}|{line}"
