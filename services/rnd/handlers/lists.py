"""Projects the rows that people page through, and the plants' keys."""

from __future__ import annotations

from typing import cast

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.kit.work import moment_text
from services.rnd.domain import candidates, findings, plants, trials
from services.rnd.domain.findings import BeliefRow, FindingRow
from services.rnd.domain.parameter_sets import rows
from services.rnd.domain.parameter_sets.rows import VersionRow
from services.rnd.domain.plants import PlantKey
from services.rnd.views import (
    FINDING_ROWS,
    HYPOTHESIS_ROWS,
    PLANT_KEYS,
    RANKING_ROWS,
    TRIAL_ROWS,
    VERSIONS,
)


def _version(event: Event) -> str:
    told = cast(events.ParameterSetDrafted | rows.Changes, event.message)
    return rows.row_id(told.set, told.version)


def _drafted(row: VersionRow | None, event: Event) -> VersionRow:
    return rows.drafted(cast(events.ParameterSetDrafted, event.message), moment_text(event.time))


def _changed(row: VersionRow | None, event: Event) -> VersionRow:
    return rows.changed(row, event.message, moment_text(event.time))


def _plant(event: Event) -> str:
    return cast(production.PlantKeyPublished, event.message).plant


def _published(key: PlantKey | None, event: Event) -> PlantKey:
    return plants.published(cast(production.PlantKeyPublished, event.message))


def _trial(event: Event) -> str:
    return cast(events.TrialCompleted, event.message).trial


def _completed(row: trials.TrialRow | None, event: Event) -> trials.TrialRow:
    return trials.row(cast(events.TrialCompleted, event.message), moment_text(event.time))


def _insight(event: Event) -> str:
    told = cast(exchange.InsightPublished | events.InsightDeclined | events.HypothesisUpdated, event.message)
    return told.insight


def _found(row: FindingRow | None, event: Event) -> FindingRow:
    told = cast(exchange.InsightPublished, event.message)
    return findings.finding_row(row, told, moment_text(event.time))


def _decided(row: FindingRow | None, event: Event) -> FindingRow:
    return findings.decided_row(row, event.message)


def _hypothesis(event: Event) -> str:
    return cast(events.HypothesisUpdated, event.message).hypothesis


def _updated(row: BeliefRow | None, event: Event) -> BeliefRow:
    told = cast(events.HypothesisUpdated, event.message)
    return findings.belief_row(row, told, moment_text(event.time))


def _indication(event: Event) -> str:
    return cast(events.CandidatesRanked, event.message).indication


def _ranked(row: candidates.RankingRow | None, event: Event) -> candidates.RankingRow:
    return candidates.row(cast(events.CandidatesRanked, event.message), moment_text(event.time))


DRAFTED = Row(VERSIONS, _version, _drafted)
CHANGED = Row(VERSIONS, _version, _changed)
COMPLETED = Row(TRIAL_ROWS, _trial, _completed)
FOUND = Row(FINDING_ROWS, _insight, _found)
DECIDED = Row(FINDING_ROWS, _insight, _decided)
UPDATED = Row(HYPOTHESIS_ROWS, _hypothesis, _updated)
RANKED = Row(RANKING_ROWS, _indication, _ranked)
PUBLISHED = Row(PLANT_KEYS, _plant, _published)
