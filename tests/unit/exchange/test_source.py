"""What an agent makes of its hospital's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from grpc import aio

from pharmaloop.clinical.v1 import service_pb2 as clinical
from services.exchange.site.source import ClinicalSource, ratio
from services.kit.errors import Rejected, Retryable
from services.kit.rpc.errors import status_of
from services.refusals import Refusal
from tests.unit.exchange.hospitals import definition


class _Stub:
    """Answers GetCohort as a hospital does, or fails as a call does."""

    def __init__(self, answer: clinical.GetCohortResponse | Exception) -> None:
        self._answer = answer
        self.asked: list[clinical.GetCohortRequest] = []

    async def GetCohort(self, asked: clinical.GetCohortRequest, **_: Any) -> clinical.GetCohortResponse:
        self.asked.append(asked)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def _source(answer: clinical.GetCohortResponse | Exception) -> tuple[ClinicalSource, _Stub]:
    source, stub = ClinicalSource(aio.insecure_channel("127.0.0.1:1"), "hospital-a"), _Stub(answer)
    source._stub = stub  # type: ignore[assignment]
    return source, stub


def _failed(error: Exception) -> aio.AioRpcError:
    told = status_of(error)
    return aio.AioRpcError(told.code, aio.Metadata(), aio.Metadata(*told.trailing_metadata), told.details)


async def test_columns_members_and_quality_are_the_hospitals_own() -> None:
    source, stub = _source(
        clinical.GetCohortResponse(
            columns=[
                clinical.CohortColumn(name="exposed", values=[1.0, 0.0]),
                clinical.CohortColumn(name="event", values=[0.0, 1.0]),
            ],
            lots=["l1", "l2"],
            members=[b"m1", b"m2"],
            without_consent=40,
            incomplete=30,
            eligible=72,
        )
    )
    found = await source.cohort(definition())
    assert {name: values.tolist() for name, values in found.columns.items()} == {
        "exposed": [1.0, 0.0],
        "event": [0.0, 1.0],
    }
    assert (found.lots, found.members) == (("l1", "l2"), (b"m1", b"m2"))
    assert isinstance(found.columns["exposed"], np.ndarray)
    assert stub.asked[0].site == "hospital-a"
    assert stub.asked[0].definition == definition()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Rejected("BLINDED", "a blinded study's kits make no cohort"), "BLINDED"),
        (Retryable("the database is away"), "COHORT_UNAVAILABLE"),
    ],
)
async def test_a_hospital_that_cannot_build_it_is_a_refusal(error: Exception, reason: str) -> None:
    source, _ = _source(_failed(error))
    with pytest.raises(Refusal) as told:
        await source.cohort(definition())
    assert told.value.reason == reason


@pytest.mark.parametrize(
    ("known", "eligible", "told"),
    [(90, 120, (90, 120)), (120, 120, (120, 120)), (115, 120, (0, 0)), (9, 120, (0, 0)), (5, 9, (0, 0))],
)
def test_a_count_of_few_patients_is_not_told(known: int, eligible: int, told: tuple[int, int]) -> None:
    measure = ratio("completeness", known, eligible)
    assert (measure.numerator, measure.denominator) == told
