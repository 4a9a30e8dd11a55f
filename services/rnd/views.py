"""Stored states of rnd.

The aggregates (those with `evolve`) change by their own events. The rest are
folds of topics: insights, rows for lists, the plants' keys.
"""

from __future__ import annotations

from typing import Any

from services.kit.store.kinds import Kind
from services.rnd.domain import calibration, candidates, catalogue, findings, insights, trials
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
TRIALS: Kind[trials.Trial] = Kind("trial", trials.Trial, evolve=trials.evolve)
CALIBRATIONS: Kind[calibration.Calibration] = Kind(
    "calibration", calibration.Calibration, evolve=calibration.evolve
)
HYPOTHESES: Kind[findings.Belief] = Kind("hypothesis", findings.Belief, ("product",), findings.evolve)
DECLINED: Kind[findings.Declined] = Kind(
    "declined_insight", findings.Declined, evolve=findings.declined_evolve
)
RANKINGS: Kind[candidates.Ranking] = Kind("ranking", candidates.Ranking, evolve=candidates.evolve)

#: What was learnt, as it was told: by insight, by trial, by transfer and lot.
FINDINGS: Kind[findings.Finding] = Kind("finding", findings.Finding)
TRIAL_EVIDENCE: Kind[candidates.TrialEvidence] = Kind(
    "trial_evidence", candidates.TrialEvidence, ("molecule",)
)
OUTCOMES: Kind[calibration.TransferOutcome] = Kind(
    "transfer_outcome", calibration.TransferOutcome, ("calibration",)
)

INSIGHTS: Kind[insights.InsightView] = Kind("insight", insights.InsightView, ("product", "parameter", "at"))
VERSIONS: Kind[VersionRow] = Kind("parameter_set_row", VersionRow, ("set", "product", "state", "at"))
TRIAL_ROWS: Kind[trials.TrialRow] = Kind("trial_row", trials.TrialRow, ("product", "at"))
FINDING_ROWS: Kind[findings.FindingRow] = Kind("finding_row", findings.FindingRow, ("product", "state", "at"))
HYPOTHESIS_ROWS: Kind[findings.BeliefRow] = Kind(
    "hypothesis_row", findings.BeliefRow, ("product", "state", "at")
)
RANKING_ROWS: Kind[candidates.RankingRow] = Kind("ranking_row", candidates.RankingRow, ("indication",))
PLANT_KEYS: Kind[PlantKey] = Kind("plant_key", PlantKey)

KINDS: tuple[Kind[Any], ...] = (
    *(RECORDS, TARGETS, MOLECULES, PRODUCTS, PARAMETER_SETS, TRIALS),
    *(CALIBRATIONS, HYPOTHESES, DECLINED, RANKINGS),
    *(FINDINGS, TRIAL_EVIDENCE, OUTCOMES),
    *(INSIGHTS, VERSIONS, TRIAL_ROWS, FINDING_ROWS, HYPOTHESIS_ROWS, RANKING_ROWS, PLANT_KEYS),
)
