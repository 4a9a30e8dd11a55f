"""Projects the rows that people page through, and the plants' keys."""

from __future__ import annotations

from typing import cast

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.kit.work import moment_text
from services.rnd.domain import plants
from services.rnd.domain.parameter_sets import rows
from services.rnd.domain.parameter_sets.rows import VersionRow
from services.rnd.domain.plants import PlantKey
from services.rnd.views import PLANT_KEYS, VERSIONS


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


DRAFTED = Row(VERSIONS, _version, _drafted)
CHANGED = Row(VERSIONS, _version, _changed)
PUBLISHED = Row(PLANT_KEYS, _plant, _published)
