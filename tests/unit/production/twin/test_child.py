"""The twin in a child process: the same answers as in this one, and little that it loads for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.offload import Offload
from services.production import twins
from services.production.domain import samples
from services.production.domain.samples import Samples
from services.production.twins import Adapted, Place, Refusals
from services.production.twins.following import Basis, Followers, follow_lot
from services.refusals import Refusal
from tests.unit.production.test_following import TAGS, TRUTH, values
from tests.unit.production.transfer_story import VESSEL, content

PLACE = Place("line-a", events.LineDetail(**VESSEL))


def asked(function: Callable[..., Any], *args: Any) -> Any:
    async def ask() -> Any:
        child = Offload("the twin")
        try:
            return await child.run(function, *args)
        finally:
            await child.close()

    return asyncio.run(ask())


def readings() -> Samples:
    batch = events.ReadingsRecorded()
    batch.offsets_ms.extend(int(hour * 3_600_000) for hour in TRUTH.times)
    for tag, read in values(0, len(TRUTH.times)).items():
        batch.tags.add(tag=tag, unit=TAGS[tag], values=read)
    return samples.of(batch)


def test_a_child_adapts_as_this_process_does() -> None:
    here = twins.adapt(content(), PLACE, 7)
    assert isinstance(here, Adapted)
    assert asked(twins.adapt, content(), PLACE, 7) == here


def test_a_child_refuses_as_this_process_does() -> None:
    weak = Place("line-a", events.LineDetail(**(VESSEL | {"stirrer_max_per_s": 3.0})))
    here = twins.adapt(content(), weak, 7)
    assert isinstance(here, Refusals)
    assert asked(twins.adapt, content(), weak, 7) == here


def test_a_child_follows_a_lot_as_this_process_does() -> None:
    found: api.GetTwinResponse = asked(follow_lot, "lot", readings(), Basis())
    assert found == Followers().follow("lot", readings(), Basis())


def test_a_lot_that_cannot_be_followed_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match="TAGS_MISSING") as refused:
        asked(follow_lot, "lot", Samples(), Basis())
    assert refused.value.field == "lot"


def test_a_child_that_adapts_loads_no_adapter_of_the_service() -> None:
    async def loaded() -> set[str]:
        child = Offload("the twin")
        await child.run(twins.adapt, content(), PLACE, 7)
        names = await child.run(eval, "sorted(__import__('sys').modules)")
        await child.close()
        return set(names)

    found = asyncio.run(loaded())
    assert "numpy" in found
    assert not found & {"grpc", "confluent_kafka", "pymongo", "motor", "sklearn", "services.production.api"}
    assert "grpc" in sys.modules
