"""Where an agent gets its cohorts from: the hospital's own clinical service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from grpc import StatusCode, aio

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain.stats.protocol import Vector
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.refusals import Refusal

_SECONDS = 50.0
_REFUSED = (StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION)
_FEWEST_TOLD = 10


@dataclass(frozen=True)
class CohortData:
    """A cohort, row by row. `members` are digests under a key of the hospital, in the order of the rows."""

    columns: Mapping[str, Vector]
    lots: tuple[str, ...]
    members: tuple[bytes, ...]
    quality: tuple[events.QualityMeasure, ...] = ()


class CohortSource(Protocol):
    """Builds the cohort of a definition from the hospital's records, as they are now."""

    async def cohort(self, definition: cohort.CohortDefinition) -> CohortData:
        """The cohort; Refusal where the hospital cannot build it."""


class ClinicalSource:
    """Asks the clinical service of the site."""

    def __init__(self, channel: aio.Channel, site: str) -> None:
        self._stub = clinical_grpc.ClinicalServiceStub(channel)
        self._site = site

    async def cohort(self, definition: cohort.CohortDefinition) -> CohortData:
        request = clinical.GetCohortRequest(site=self._site, definition=definition)
        try:
            answer = await self._stub.GetCohort(
                request, timeout=_SECONDS, metadata=metadata(f"agent/{self._site}")
            )
        except aio.AioRpcError as error:
            reason, _ = reason_of(error)
            if reason and error.code() in _REFUSED:
                raise Refusal(reason, error.details() or reason, "definition") from None
            said = "the hospital's records do not answer; the next job asks them again"
            raise Refusal("COHORT_UNAVAILABLE", said, "definition") from None
        columns = {one.name: np.array(one.values) for one in answer.columns}
        members = tuple(answer.members)
        quality = (
            ratio("completeness", len(members), answer.eligible - answer.without_consent),
            ratio("uniqueness", len(set(members)), len(members)),
        )
        return CohortData(columns, tuple(answer.lots), members, quality)


def ratio(measure: str, good: int, of: int) -> events.QualityMeasure:
    """How many patients, or rows, are as they should be; a count below ten is not told.

    `completeness`: those who consent and of whom everything that is asked is known.
    """
    if of < _FEWEST_TOLD or good < _FEWEST_TOLD or 0 < of - good < _FEWEST_TOLD:
        return events.QualityMeasure(measure=measure)
    return events.QualityMeasure(measure=measure, numerator=good, denominator=of)
