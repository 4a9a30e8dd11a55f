"""Stored states of rnd.

The aggregates (those with `evolve`) change by their own events. The rest are
folds of topics: insights, rows for lists, the plants' keys.
"""

from __future__ import annotations

from typing import Any

from services.kit.store.kinds import Kind
from services.rnd.domain import catalogue, insights
from services.rnd.domain.parameter_sets import model
from services.rnd.domain.parameter_sets.rows import VersionRow
from services.rnd.domain.plants import PlantKey

RECORDS: Kind[insights.InsightRecord] = Kind("insight_record", insights.InsightRecord, evolve=insights.evolve)
TARGETS: Kind[catalogue.Target] = Kind("target", catalogue.Target, evolve=catalogue.target_evolve)
MOLECULES: Kind[catalogue.Molecule] = Kind(
    "molecule", catalogue.Molecule, ("target", "structure_hash"), catalogue.molecule_evolve
)
PRODUCTS: Kind[catalogue.Product] = Kind(
    "product", catalogue.Product, ("indication", "molecule"), catalogue.product_evolve
)
PARAMETER_SETS: Kind[model.ParameterSet] = Kind(
    "parameter_set", model.ParameterSet, ("product",), model.evolve
)

INSIGHTS: Kind[insights.InsightView] = Kind("insight", insights.InsightView, ("product", "parameter", "at"))
VERSIONS: Kind[VersionRow] = Kind("parameter_set_row", VersionRow, ("set", "product", "state", "at"))
PLANT_KEYS: Kind[PlantKey] = Kind("plant_key", PlantKey)

KINDS: tuple[Kind[Any], ...] = (
    *(RECORDS, TARGETS, MOLECULES, PRODUCTS, PARAMETER_SETS),
    *(INSIGHTS, VERSIONS, PLANT_KEYS),
)
